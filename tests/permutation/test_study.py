import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from skillrl.errors import DivergedError, InvalidValueError
from skillrl.permutation import Transformation, symmetry_groups
from skillrl.permutation.recipes import STUDY_RECIPES, StudyRecipe
from skillrl.permutation.study import (
    Curve,
    Examples,
    Outcome,
    Pair,
    PairOutcome,
    control,
    curve,
    make_network,
    measured,
    score,
    study,
    train,
    trained_pair,
)
from skillrl.permutation.trace import state_of

SMALL = StudyRecipe("dense", width=16, updates=60, batch_size=10, learning_rate=1e-2, pairs=2)
CONVOLUTIONAL = StudyRecipe("convolutional", width=3, depth=2, updates=2, batch_size=10)


def examples(count: int = 60, size: int = 4) -> Examples:
    """Images of three classes, each bright in rows of its own, with noise."""
    generator = np.random.default_rng(0)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 3
        images = generator.integers(0, 100, (count, 1, size, size))
        images[np.arange(count), 0, labels] += 100
        return images.astype(np.uint8), labels

    return Examples(split(count), split(30))


def test_inputs_are_standardised_channel_by_channel() -> None:
    images = np.zeros((2, 2, 1, 2), np.uint8)
    images[:, 0] = [[[10, 30]], [[10, 30]]]
    images[0, 1] = 200
    found = Examples((images, np.array([0, 1])), (images, np.array([0, 1])))
    seen = found.encode(found.train)
    assert seen[0, 0, 0].tolist() == pytest.approx([-1, 1])
    assert seen[:, 1, 0, 0].tolist() == pytest.approx([1, -1])


def test_networks_are_those_of_the_paper() -> None:
    dense = make_network(STUDY_RECIPES["dense"], (3, 32, 32), 10, 0)
    shapes = [tuple(parameter.shape) for parameter in dense.parameters()]
    assert shapes == [(1_000, 3_072), (10, 1_000)]
    first = next(dense.parameters())
    assert first.std().item() == pytest.approx(math.sqrt(2 / 3_072), rel=0.01)
    convolutional = make_network(STUDY_RECIPES["convolutional"], (3, 32, 32), 10, 0)
    shapes = [tuple(parameter.shape) for parameter in convolutional.parameters()]
    assert shapes == [
        (64, 3, 3, 3),
        (64, 64, 3, 3),
        (128, 64, 3, 3),
        (128, 128, 3, 3),
        (10, 128),
    ]
    kinds = [type(layer) for layer in convolutional if not isinstance(layer, nn.ReLU)]
    assert kinds.index(nn.MaxPool2d) == 2
    assert kinds[-3:] == [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]


def test_a_seed_gives_its_network_and_another_seed_another() -> None:
    a, again = trained_pair(SMALL, examples(), 1), trained_pair(SMALL, examples(), 1)
    assert a.seeds == (2, 3)
    for one, other in zip(a.trained, again.trained, strict=True):
        for name, tensor in state_of(one).items():
            assert torch.equal(tensor, state_of(other)[name])
    assert not torch.equal(state_of(a.trained[0])["1.weight"], state_of(a.trained[1])["1.weight"])


def test_nothing_is_learnt_in_no_updates() -> None:
    pair = trained_pair(replace(SMALL, updates=0), examples(), 0)
    for before, after in zip(pair.initial, pair.trained, strict=True):
        for name, tensor in state_of(before).items():
            assert torch.equal(tensor, state_of(after)[name])


def test_an_update_is_adamws() -> None:
    found = examples(count=10)
    recipe = replace(SMALL, updates=1, learning_rate=1e-3)
    network = make_network(recipe, found.shape, 3, 0)
    before = state_of(make_network(recipe, found.shape, 3, 0))
    train(network, found, recipe, 0)
    for name, tensor in state_of(network).items():
        # The first step is one of the learning rate, besides a weight decay of 0.01.
        step = (tensor - before[name] * (1 - 1e-5)).abs()
        moved = step[step > 1e-8]
        assert moved.numel() > 10
        assert moved.max().item() == pytest.approx(1e-3, rel=1e-2)


def test_scores_worked_by_hand() -> None:
    # One pixel, two classes: logits are the standardised pixel times (1, -1) and k.
    images = np.array([0, 200, 0, 200], np.uint8).reshape(4, 1, 1, 1)
    found = Examples((images, np.array([0, 1, 0, 1])), (images, np.array([0, 1, 1, 0])))
    layer = nn.Linear(1, 2, bias=False)
    network = nn.Sequential(nn.Flatten(), layer)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-1.5], [1.5]]))
    result = score(network, found)
    assert result.accuracy == 0.5
    # Logits are 3 apart: two answers are right, two wrong.
    right, wrong = math.log(1 + math.exp(-3)), math.log(1 + math.exp(3))
    assert result.loss == pytest.approx((right + wrong) / 2, rel=1e-6)
    # In either half, one is right and one is wrong: the best temperature knows nothing.
    assert result.tuned_loss == pytest.approx(math.log(2), rel=1e-3)


@pytest.mark.parametrize("recipe", [SMALL, CONVOLUTIONAL], ids=["dense", "convolutional"])
def test_a_permuted_copy_is_found_to_be_the_same(recipe: StudyRecipe) -> None:
    found = examples()
    one = trained_pair(recipe, found, 0)
    groups = symmetry_groups(one.initial[0], found.sample(1)).groups
    groups = tuple(group.without("scale") for group in groups)
    done = Transformation.random(groups, np.random.default_rng(0))
    a, b = one.initial[0], one.trained[0]
    pair = Pair((0, 0), (a, done.apply(a)), (b, done.apply(b)))
    outcome = measured(recipe, pair, found)
    for inverse, element in zip(outcome.permutations, done.elements, strict=True):
        assert element.permutation[[*inverse]].tolist() == [*range(len(inverse))]
    expected = score(b, found)
    for name in ("aligned", "aligned, repaired"):
        assert outcome.curves[name].accuracy == pytest.approx([expected.accuracy] * 11)
        assert outcome.curves[name].loss == pytest.approx([expected.loss] * 11, rel=1e-4)
    assert outcome.initial["aligned"] == score(a, found).accuracy
    assert max(outcome.curves["plain"].loss) > 1.01 * expected.loss


def test_the_ends_of_a_path_are_the_networks() -> None:
    found = examples()
    a, b = trained_pair(SMALL, found, 0).trained
    path = curve(a, b, found)
    ends = score(a, found), score(b, found)
    assert (path.loss[0], path.loss[-1]) == pytest.approx([each.loss for each in ends])
    assert curve(a, b, found, ends=ends).loss == pytest.approx(path.loss)


def test_a_study_of_networks_that_learn() -> None:
    seen = []
    outcome = study(SMALL, examples(), lambda number, pair: seen.append((number, pair.seeds)))
    assert seen == [(0, (0, 1)), (1, (2, 3))]
    ends = [outcome.mean("plain", "accuracy")[0][index] for index in (0, -1)]
    assert min(ends) > 0.95
    assert outcome.mean("aligned", "accuracy")[0][5] > 0.95
    own = [
        control(SMALL, examples(), number, pair.permutations)
        for number, pair in enumerate(outcome.pairs)
    ]
    assert own == [pair.initial["aligned"] for pair in outcome.pairs]
    # Of two pairs, each is the other's control.
    swapped = control(SMALL, examples(), 0, outcome.pairs[1].permutations)
    assert outcome.controls[0] == swapped
    assert study(replace(SMALL, updates=1, pairs=1), examples()).controls == ()


def test_means_over_pairs() -> None:
    def pair(loss: float) -> PairOutcome:
        line = Curve((0.5,) * 11, (loss,) * 11, (1.0,) * 11)
        return PairOutcome((0, 1), {"plain": line}, {"plain": loss, "aligned": 0.5}, ())

    outcome = Outcome((pair(1.0), pair(3.0)), (0.1, 0.1))
    assert outcome.mean("plain", "loss") == ([2.0] * 11, [1.0] * 11)
    assert outcome.averaged_initialisations() == {
        "plain": (2.0, 1.0),
        "aligned": (0.5, 0.0),
        "control": (0.1, 0.0),
    }


def test_a_training_that_diverges() -> None:
    with pytest.raises(DivergedError, match=r"learning rate of 1e\+30"):
        trained_pair(replace(SMALL, learning_rate=1e30), examples(), 0)


def test_images_of_two_sizes() -> None:
    images = np.zeros((2, 1, 4, 4), np.uint8)
    with pytest.raises(InvalidValueError, match=r"\(1, 4, 4\) and \(1, 4, 3\)"):
        Examples((images, np.arange(2)), (images[..., :3], np.arange(2)))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("network", "transformer", "one of dense, convolutional. Received 'transformer'"),
        ("method", "guess", "one of activations, weights, both"),
        ("width", 0, "width should be at least 1. Received 0"),
        ("updates", -1, "updates should be at least 0"),
        ("limit", 0, "limit should be at least 1"),
        ("learning_rate", 0.0, "learning_rate should be positive"),
    ],
)
def test_settings_out_of_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        replace(SMALL, **{name: value})
