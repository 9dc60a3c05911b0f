"""The path between two networks, and what it costs to walk it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from skillrl.errors import InvalidValueError
from skillrl.permutation.symmetries import Group
from skillrl.permutation.trace import (
    Forward,
    call,
    check_alike,
    copy_of,
    evaluate,
    state_of,
    with_state,
)

Score = Callable[[nn.Module], float]
Mend = Callable[[nn.Module, float], nn.Module]


def interpolate(a: nn.Module, b: nn.Module, alpha: float) -> nn.Module:
    """Return the network ``(1 − alpha) a + alpha b``: all parameters and buffers that are floats.

    Args:
        a: at 0.
        b: at 1; of the same architecture, in the same coordinates if the path is to mean anything.
        alpha: where on the path; outside of [0, 1] it is prolonged.

    Raises:
        InvalidValueError: if the networks are of different architectures.
    """
    check_alike([a, b])
    start, end = state_of(a), state_of(b)
    return with_state(
        a,
        {
            name: tensor + alpha * (end[name] - tensor) if tensor.is_floating_point() else tensor
            for name, tensor in start.items()
        },
    )


@dataclass(frozen=True)
class Path:
    """Scores along the path between two networks.

    Attributes:
        alphas: where they were measured, from 0 to 1.
        scores: of the networks there.
    """

    alphas: tuple[float, ...]
    scores: tuple[float, ...]

    def barrier(self, *, losses: bool = False, random: float | None = None) -> float:
        """Return the height of the barrier on the path; see the function ``barrier``."""
        return barrier(self.scores, self.alphas, losses=losses, random=random)


def walk(
    a: nn.Module,
    b: nn.Module,
    score: Score,
    alphas: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    mend: Mend | None = None,
) -> Path:
    """Score the networks on the path from ``a`` to ``b``.

    Args:
        a: at 0.
        b: at 1, in the coordinates of ``a``.
        score: from a network to a number, such as a loss, an accuracy or a mean return.
        alphas: where to score, from 0 to 1.
        mend: what is done to each network between the ends before it is scored, such as
            ``lambda network, alpha: repair(network, a, b, alpha, observations, groups)``.
    """
    if len(alphas) < 3 or alphas[0] != 0 or alphas[-1] != 1 or sorted(alphas) != [*alphas]:
        raise InvalidValueError(
            "A path needs both ends and a point between them: alphas from 0 to 1, in order. "
            f"Received {tuple(alphas)}."
        )
    scores = []
    for alpha in alphas:
        network = interpolate(a, b, alpha)
        if mend is not None and 0 < alpha < 1:
            network = mend(network, alpha)
        scores.append(float(score(network)))
    return Path(tuple(alphas), tuple(scores))


def barrier(
    scores: Sequence[float],
    alphas: Sequence[float] | None = None,
    *,
    losses: bool = False,
    random: float | None = None,
) -> float:
    """Return how far a path falls below the straight line between the scores of its ends.

    Args:
        scores: along the path, its ends included.
        alphas: where they were measured; evenly from 0 to 1 if None.
        losses: whether smaller scores are better; then it is how far the path rises above the line.
        random: the return of a random policy. Where it is given, the barrier is a share of what the
            ends are better than that, on average.

    Returns:
        At least 0; 0 for a path that lies nowhere below the line.

    Raises:
        InvalidValueError: if there are no scores between the ends, or the ends are no better than
            a random policy.

    >>> barrier([1.0, 0.4, 2.0])
    1.1
    >>> barrier([100.0, 40.0, 100.0], random=20.0)
    0.75
    """
    heights = np.asarray(scores, float)
    places = np.linspace(0, 1, len(heights)) if alphas is None else np.asarray(alphas, float)
    if len(heights) < 3 or len(heights) != len(places) or not np.isfinite(heights).all():
        raise InvalidValueError(
            "A barrier needs finite scores at both ends and between them. "
            f"Received the scores {list(scores)} for {len(places)} places."
        )
    line = heights[0] + places * (heights[-1] - heights[0])
    gap = float(np.max(heights - line if losses else line - heights))
    # At the ends the line is the path: what is left there is rounding.
    gap = max(gap, 0.0)
    if random is None:
        return gap
    better = float(heights[0] + heights[-1]) / 2 - random
    if losses or better <= 0:
        raise InvalidValueError(
            "A barrier relative to a random policy is one of returns that are better than it. "
            f"Received a mean of {random + better} at the ends and {random} for the random policy."
        )
    return gap / better


_Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


@torch.no_grad()
def repair(
    network: nn.Module,
    a: nn.Module,
    b: nn.Module,
    alpha: float,
    inputs: Any,
    groups: Sequence[Group],
    forward: Forward = call,
) -> nn.Module:
    """Return a merged network whose units vary as much as those that they were merged from.

    Where units of ``a`` and ``b`` are not wholly alike, their mean varies less than either, less
    still in every layer that follows. Means and standard deviations of the outputs of all hidden
    linear layers and convolutions are set to those between the end points', one layer after the
    other. Layers without a bias get one. Source: Jordan et al. 2022 (REPAIR, arXiv 2211.08403).

    Args:
        network: at ``alpha`` between ``a`` and ``b``.
        a: at 0.
        b: at 1.
        alpha: where the network is.
        inputs: one batch.
        groups: of hidden units; what makes them is set right.
        forward: what the networks compute.

    Raises:
        InvalidValueError: if hidden units stand on a weight that is no linear layer's or
            convolution's, or whose layer is not called; or if a layer that makes them is called
            more than once, or shares its weight with another one: what is right for one place is
            wrong for the other.
    """
    makers = {site.tensor for group in groups for site in group.sites if site.axis == 0}
    _check_shared(network, makers)
    found = [_moments(each, inputs, makers, forward) for each in (a, b)]
    _check_seen(network, groups, _layers(network, makers).keys() - found[0].keys())
    repaired = copy_of(network).eval()

    def correct(name: str) -> Callable[..., Tensor]:
        def hook(layer: _Layer, _: Any, output: Tensor) -> Tensor:
            (mean_a, std_a), (mean_b, std_b) = (moments[name] for moments in found)
            mean, std = _moments_of(output, layer)
            wanted = std_a + alpha * (std_b - std_a)
            factor = torch.where(std > 0, wanted / std.clamp_min(1e-30), torch.ones_like(std))
            shift = mean_a + alpha * (mean_b - mean_a) - mean * factor
            layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))
            bias = shift if layer.bias is None else layer.bias * factor + shift
            layer.bias = nn.Parameter(bias)
            along = [1] * output.dim()
            along[_channels(layer)] = -1
            return output * factor.view(along) + shift.view(along)

        return hook

    _with_hooks(repaired, inputs, makers, forward, correct)
    return repaired


def _layers(network: nn.Module, makers: set[str]) -> dict[str, _Layer]:
    """The layers that make hidden units."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _Layer) and f"{name}.weight" in makers
    }


def _check_seen(network: nn.Module, groups: Sequence[Group], uncalled: Iterable[str]) -> None:
    """All hidden units should be made by layers whose outputs are seen."""
    known = {
        f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, _Layer)
    }
    weights = {name for name, parameter in network.named_parameters() if parameter.dim() > 1}
    names = {site.tensor for group in groups for site in group.sites} & weights - known
    names |= {f"{name}.weight" for name in uncalled}
    if names:
        raise InvalidValueError(
            "Units are repaired where linear layers and convolutions are called, and hidden units "
            f"stand on parameters of which no such call is seen: {', '.join(sorted(names))}."
        )


def _check_shared(network: nn.Module, makers: set[str]) -> None:
    for layer in _layers(network, makers).values():
        owners = [
            name
            for name, part in network.named_modules()
            if any(parameter is layer.weight for parameter in part.parameters(recurse=False))
        ]
        if len(owners) > 1:
            raise InvalidValueError(
                f"The layers {' and '.join(owners)} share a weight. A layer is repaired by a "
                "change of its weight, and the others would be changed with it."
            )


def _moments(
    network: nn.Module, inputs: Any, makers: set[str], forward: Forward
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of every unit that a layer makes."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(layer: _Layer, _: Any, output: Tensor) -> None:
            if name in found:
                raise InvalidValueError(
                    f"The layer {name} is called more than once. It is repaired where its outputs "
                    "are seen, and they are others at each call."
                )
            found[name] = _moments_of(output, layer)

        return hook

    _with_hooks(copy_of(network).eval(), inputs, makers, forward, record)
    return found


def _with_hooks(
    network: nn.Module,
    inputs: Any,
    makers: set[str],
    forward: Forward,
    hook: Callable[[str], Callable[..., Any]],
) -> None:
    handles = [
        layer.register_forward_hook(hook(name)) for name, layer in _layers(network, makers).items()
    ]
    evaluate(network, inputs, forward)
    for handle in handles:
        handle.remove()


def _channels(layer: _Layer) -> int:
    return -1 if isinstance(layer, nn.Linear) else 1


def _moments_of(output: Tensor, layer: _Layer) -> tuple[Tensor, Tensor]:
    units = output.movedim(_channels(layer), 0).flatten(1)
    return units.mean(1), units.std(1, correction=0)


@torch.no_grad()
def recalculate_batch_norm(
    network: nn.Module, batches: Iterable[Any], forward: Forward = call
) -> nn.Module:
    """Return a copy with batch-norm statistics of its own: the mean over some batches.

    Args:
        network: in whatever mode; the copy is in evaluation mode.
        batches: of inputs.
        forward: what is computed.
    """
    network = copy_of(network).eval()
    norms = [
        part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)
    ]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # A cumulative mean.
        norm.momentum = None
        norm.train()
    for batch in batches:
        evaluate(network, batch, forward)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return network.eval()


def tuned_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature that logits are best divided by: that of the least cross-entropy.

    Merged networks are less certain than they could be.

    Args:
        logits: ``(batch, classes)``.
        labels: ``(batch,)``, integers.

    >>> certain = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0], [0.0, 9.0]])
    >>> tuned_temperature(certain, torch.tensor([0, 1, 0, 0])) > 1  # one of four is wrong
    True
    """
    exact = logits.detach().double()

    def loss(log_temperature: float) -> float:
        return float(nn.functional.cross_entropy(exact / np.exp(log_temperature), labels))

    return float(np.exp(minimize_scalar(loss, bounds=(-7, 7), method="bounded").x))
