"""Networks that classify images, trained from pairs of seeds, and what lies between them.

Source: Benzing et al. 2022, "Random initialisations performing above chance and how to find them"
(arXiv 2209.07509).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from skillrl.errors import DivergedError, InvalidValueError
from skillrl.permutation.alignment import align
from skillrl.permutation.interpolation import interpolate, repair, tuned_temperature
from skillrl.permutation.recipes import StudyRecipe
from skillrl.permutation.symmetries import symmetry_groups
from skillrl.permutation.transformation import Element, Transformation

ALPHAS: tuple[float, ...] = tuple(step / 10 for step in range(11))
# Images of a forward pass that is not trained on.
_BATCH = 1_000
# Images on which REPAIR looks at means and standard deviations.
_REPAIRED_ON = 1_000


class Examples:
    """Images to train and to test on, standardised channel by channel when they are looked at.

    Args:
        train: images ``(count, channels, height, width)``, uint8, and classes ``(count,)``.
        test: as ``train``.
        device: where they are kept.

    Raises:
        InvalidValueError: if images to train and to test on are of different sizes.
    """

    def __init__(
        self,
        train: tuple[np.ndarray, np.ndarray],
        test: tuple[np.ndarray, np.ndarray],
        device: str = "cpu",
    ) -> None:
        if train[0].shape[1:] != test[0].shape[1:]:
            raise InvalidValueError(
                "Images to train and to test on should be of one size. Received "
                f"{train[0].shape[1:]} and {test[0].shape[1:]} (channels, height, width)."
            )
        self.train, self.train_labels = (torch.tensor(each, device=device) for each in train)
        self.test, self.test_labels = (torch.tensor(each, device=device) for each in test)
        self.shape = tuple(train[0].shape[1:])
        self.classes = int(max(train[1].max(), test[1].max())) + 1
        values = torch.arange(256, dtype=torch.float64, device=device)
        # (channels, values): how often each value occurs.
        counts = torch.stack(
            [torch.bincount(each.flatten(), minlength=256) for each in self.train.unbind(1)]
        ).double()
        mean = counts @ values / counts.sum(1)
        variance = counts @ values.square() / counts.sum(1) - mean.square()
        self._mean = mean.float().view(-1, 1, 1)
        self._std = variance.sqrt().clamp_min(1).float().view(-1, 1, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Return what networks are given: float32 with mean 0 and standard deviation 1."""
        return (images.float() - self._mean) / self._std

    def sample(self, count: int) -> Tensor:
        """Return training images, encoded: always the same, at most as many as there are."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(0))
        return self.encode(self.train[order[:count].to(self.train.device)])


def make_network(
    recipe: StudyRecipe, shape: Sequence[int], classes: int, seed: int
) -> nn.Sequential:
    """Return an untrained network of relu units without biases, Kaiming-normal.

    Args:
        recipe: of which size.
        shape: of an image, ``(channels, height, width)``.
        classes: number of outputs.
        seed: of the weights.
    """
    layers: list[nn.Module] = []
    if recipe.network == "dense":
        layers.append(nn.Flatten())
        size = int(np.prod(shape))
        for _ in range(recipe.depth):
            layers += [nn.Linear(size, recipe.width, bias=False), nn.ReLU()]
            size = recipe.width
    else:
        size = shape[0]
        for block, width in enumerate((recipe.width, 2 * recipe.width)):
            layers += [nn.MaxPool2d(2)] if block else []
            for _ in range(recipe.depth):
                layers += [nn.Conv2d(size, width, 3, padding=1, bias=False), nn.ReLU()]
                size = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(size, classes, bias=False))
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    return network.to(recipe.device)


def train(network: nn.Module, examples: Examples, recipe: StudyRecipe, seed: int) -> None:
    """Train a network with AdamW, pass after pass over the shuffled images.

    Raises:
        DivergedError: if its weights are no longer finite.
    """
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    network.train()
    for _ in range(recipe.updates):
        if len(order) < min(recipe.batch_size, len(examples.train)):
            order = torch.randperm(len(examples.train), generator=generator)
        chosen, order = order.split([n := min(recipe.batch_size, len(order)), len(order) - n])
        chosen = chosen.to(examples.train.device)
        logits = network(examples.encode(examples.train[chosen]))
        optimizer.zero_grad()
        cross_entropy(logits, examples.train_labels[chosen]).backward()
        optimizer.step()
    if not all(bool(torch.isfinite(each).all()) for each in network.parameters()):
        raise DivergedError(
            f"Training with a learning rate of {recipe.learning_rate} ended in weights that are "
            "not finite: choose a smaller one."
        )


@dataclass(frozen=True)
class Pair:
    """Two networks of different seeds, before and after training."""

    seeds: tuple[int, int]
    initial: tuple[nn.Module, nn.Module]
    trained: tuple[nn.Module, nn.Module]


def initial_pair(
    recipe: StudyRecipe, examples: Examples, number: int
) -> tuple[tuple[int, int], tuple[nn.Module, nn.Module]]:
    """Return the seeds of a pair, and its two networks before training."""
    seeds = recipe.seed + 2 * number, recipe.seed + 2 * number + 1
    first, second = (make_network(recipe, examples.shape, examples.classes, s) for s in seeds)
    return seeds, (first, second)


def trained_pair(recipe: StudyRecipe, examples: Examples, number: int) -> Pair:
    """Train the two networks of a pair.

    Raises:
        DivergedError: see ``train``.
    """
    seeds, initial = initial_pair(recipe, examples, number)
    _, trained = initial_pair(recipe, examples, number)
    for seed, network in zip(seeds, trained, strict=True):
        train(network, examples, recipe, seed)
    return Pair(seeds, initial, trained)


@dataclass(frozen=True)
class Score:
    """How well a network classifies the test images.

    Attributes:
        accuracy: share of right answers.
        loss: mean negative log-likelihood, in nats.
        tuned_loss: the same, after logits are divided by one temperature; that which is best for
            one half of the images is used for the other half.
    """

    accuracy: float
    loss: float
    tuned_loss: float


@torch.no_grad()
def score(network: nn.Module, examples: Examples) -> Score:
    """Return how well a network classifies the test images."""
    network.eval()
    batches = examples.test.split(_BATCH)
    logits = torch.cat([network(examples.encode(batch)) for batch in batches]).double()
    labels = examples.test_labels
    tuned = 0.0
    for fitted, held_out in ((0, 1), (1, 0)):
        temperature = tuned_temperature(logits[fitted::2], labels[fitted::2])
        rest = logits[held_out::2] / temperature
        tuned += float(cross_entropy(rest, labels[held_out::2], reduction="sum"))
    return Score(
        accuracy=float((logits.argmax(1) == labels).double().mean()),
        loss=float(cross_entropy(logits, labels)),
        tuned_loss=tuned / len(labels),
    )


@dataclass(frozen=True)
class Curve:
    """Scores along a path between two networks, at ``ALPHAS``; see ``Score``."""

    accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    tuned_loss: tuple[float, ...]


def curve(
    a: nn.Module,
    b: nn.Module,
    examples: Examples,
    *,
    repaired: bool = False,
    ends: tuple[Score, Score] | None = None,
) -> Curve:
    """Score the path from ``a`` to ``b``.

    Args:
        a: at 0.
        b: at 1, in the coordinates of ``a`` or not.
        examples: to be classified.
        repaired: whether activations between the ends are re-normalised (``repair``).
        ends: scores of ``a`` and ``b``, where they are known.
    """
    sample = examples.sample(_REPAIRED_ON)
    groups = symmetry_groups(a, sample).groups if repaired else ()
    scores = []
    for alpha in ALPHAS:
        if alpha in (0.0, 1.0) and ends is not None:
            scores.append(ends[int(alpha)])
            continue
        network = interpolate(a, b, alpha)
        if repaired and 0 < alpha < 1:
            network = repair(network, a, b, alpha, sample, groups)
        scores.append(score(network, examples))
    return Curve(
        tuple(each.accuracy for each in scores),
        tuple(each.loss for each in scores),
        tuple(each.tuned_loss for each in scores),
    )


def aligned(recipe: StudyRecipe, pair: Pair, examples: Examples) -> Transformation:
    """Return what brings the second trained network of a pair closest to the first."""
    sample = examples.sample(recipe.observations).cpu()
    # On the CPU, where assignments are found.
    a, b = (interpolate(each, each, 0).cpu() for each in pair.trained)
    return align(a, b, sample, method=recipe.method).transformation


def averaged(
    initial: tuple[nn.Module, nn.Module], examples: Examples, done: Transformation | None = None
) -> float:
    """Return the accuracy of the mean of two networks, the second one transformed."""
    a, b = initial
    return score(interpolate(a, b if done is None else done.apply(b), 0.5), examples).accuracy


@dataclass(frozen=True)
class PairOutcome:
    """What lies between the two networks of a pair.

    Attributes:
        seeds: of the two.
        curves: scores along the path between the trained networks, ``"plain"`` and ``"aligned"``,
            and both ``"repaired"``.
        initial: accuracies of the mean of the untrained networks, ``"plain"`` and ``"aligned"`` as
            the trained ones are.
        permutations: of the second network's units, for each group.
    """

    seeds: tuple[int, int]
    curves: dict[str, Curve]
    initial: dict[str, float]
    permutations: tuple[tuple[int, ...], ...]


def study_pair(recipe: StudyRecipe, examples: Examples, number: int) -> PairOutcome:
    """Train, align and score a pair.

    Raises:
        DivergedError: see ``train``.
    """
    return measured(recipe, trained_pair(recipe, examples, number), examples)


def measured(recipe: StudyRecipe, pair: Pair, examples: Examples) -> PairOutcome:
    """Align a trained pair, and score what lies between."""
    done = aligned(recipe, pair, examples)
    a, b = pair.trained
    moved = done.apply(b)
    ends = score(a, examples), score(b, examples)
    curves = {
        f"{name}{', repaired' if repaired else ''}": curve(
            a, other, examples, repaired=repaired, ends=ends
        )
        for name, other in (("plain", b), ("aligned", moved))
        for repaired in (False, True)
    }
    initial = {
        "plain": averaged(pair.initial, examples),
        "aligned": averaged(pair.initial, examples, done),
    }
    permutations = tuple(tuple(each.permutation.tolist()) for each in done.elements)
    return PairOutcome(pair.seeds, curves, initial, permutations)


def control(
    recipe: StudyRecipe, examples: Examples, number: int, permutations: Iterable[Sequence[int]]
) -> float:
    """Return the accuracy of a pair's averaged initialisations, aligned by another pair's units."""
    _, initial = initial_pair(recipe, examples, number)
    groups = symmetry_groups(initial[0], examples.sample(1)).groups
    elements = (
        Element.permuting(np.array(each), group)
        for each, group in zip(permutations, groups, strict=True)
    )
    return averaged(initial, examples, Transformation(groups, tuple(elements)))


@dataclass(frozen=True)
class Outcome:
    """What lies between networks of different seeds.

    Attributes:
        pairs: of which each has seeds of its own.
        controls: accuracies of each pair's averaged initialisations, aligned as the next pair is;
            none where there is one pair.
    """

    pairs: tuple[PairOutcome, ...]
    controls: tuple[float, ...]

    def mean(self, name: str, figure: str) -> tuple[list[float], list[float]]:
        """Return means and standard errors of a curve over the pairs, at ``ALPHAS``.

        Args:
            name: of the curve.
            figure: ``"accuracy"``, ``"loss"`` or ``"tuned_loss"``.
        """
        rows = np.array([getattr(pair.curves[name], figure) for pair in self.pairs])
        columns = [mean_and_error(column) for column in rows.T]
        return [mean for mean, _ in columns], [error for _, error in columns]

    def averaged_initialisations(self) -> dict[str, tuple[float, float]]:
        """Return means and standard errors of their accuracies: plain, aligned, and control."""
        found = {
            name: mean_and_error([pair.initial[name] for pair in self.pairs])
            for name in ("plain", "aligned")
        }
        return found | ({"control": mean_and_error(self.controls)} if self.controls else {})


def mean_and_error(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the mean and its standard error; that of one value is 0, for want of another.

    >>> mean_and_error([1.0, 3.0])
    (2.0, 1.0)
    """
    count = len(values)
    error = float(np.std(values, ddof=1)) / count**0.5 if count > 1 else 0.0
    return float(np.mean(values)), error


def study(
    recipe: StudyRecipe,
    examples: Examples,
    progress: Callable[[int, PairOutcome], None] | None = None,
) -> Outcome:
    """Train pairs of networks, align them, and score what lies between.

    Args:
        recipe: every setting.
        examples: images.
        progress: called with each pair's number and outcome.

    Raises:
        DivergedError: see ``train``.
    """
    pairs = []
    for number in range(recipe.pairs):
        pairs.append(study_pair(recipe, examples, number))
        if progress is not None:
            progress(number, pairs[-1])
    controls = [
        control(recipe, examples, number, pairs[(number + 1) % len(pairs)].permutations)
        for number in range(len(pairs) if len(pairs) > 1 else 0)
    ]
    return Outcome(tuple(pairs), tuple(controls))
