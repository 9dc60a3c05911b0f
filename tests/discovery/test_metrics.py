import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from records import new_record
from skillrl.agents import SkillPolicy
from skillrl.discovery.descriptors import FEET, watch
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.metrics import (
    _dimensions,
    coverage,
    distinctness,
    growing_variety,
    mutual_information,
    variety,
)
from skillrl.discovery.recipes import recipe_for
from skillrl.errors import InvalidValueError
from skillrl.rewards import NeuralReward


def test_skills_that_are_alike_tell_nothing() -> None:
    for skills in ([np.zeros(10)] * 3, [np.arange(7.0)] * 3):
        assert f"{mutual_information(skills):.2f}" == "0.00"  # without a sign


def test_mutual_information_worked_by_hand() -> None:
    # Two skills that share one of two buckets each. Together 1/4, 1/2, 1/4: entropy 1.5 log 2;
    # alone log 2 each.
    skills = [np.array([0.01, 1.01] * 10), np.array([1.01, 2.01] * 10)]
    assert mutual_information(skills) == pytest.approx(0.5 * math.log(2))


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_the_bound_is_reached_by_skills_that_share_nothing(count: int) -> None:
    skills = [np.full((10, 500), index * 0.5 - 5.0) for index in range(count)]
    assert mutual_information(skills) == pytest.approx(math.log(count))


def test_skills_that_are_alike_share_everything() -> None:
    values = np.random.default_rng(0).normal(size=1_000)
    assert mutual_information([values] * 5) == pytest.approx(0.0, abs=1e-12)


def test_skills_weigh_the_same_however_many_values_they_have() -> None:
    skills = [np.array([0.01, 1.01] * 10), np.array([1.01, 2.01] * 300)]
    assert mutual_information(skills) == pytest.approx(0.5 * math.log(2))


def test_it_is_that_of_normal_distributions() -> None:
    # Two normals a distance apart, by numerical integration in float64.
    grid = np.linspace(-10.0, 10.0, 20_001)
    densities = [np.exp(-0.5 * (grid - mean) ** 2) / math.sqrt(2 * math.pi) for mean in (-1, 1)]
    mixture = (densities[0] + densities[1]) / 2

    def entropy(density: np.ndarray) -> float:
        return float(-np.trapezoid(density * np.log(density), grid))

    expected = entropy(mixture) - (entropy(densities[0]) + entropy(densities[1])) / 2
    rng = np.random.default_rng(0)
    skills = [rng.normal(mean, 1.0, 1_000_000) for mean in (-1, 1)]
    assert mutual_information(skills) == pytest.approx(expected, abs=2e-3)


def test_values_beyond_the_buckets_count_as_the_nearest() -> None:
    assert mutual_information([np.full(5, -40.0), np.full(5, 1e9)]) == pytest.approx(math.log(2))
    assert mutual_information([np.full(5, 40.0), np.full(5, 1e9)]) == 0.0


@pytest.mark.parametrize(
    ("skills", "message"),
    [
        ([], r"Received \[\]"),
        ([np.ones(3), np.ones(0)], r"Received \[3, 0\]"),
        ([np.array([1.0, np.nan])], "finite"),
    ],
)
def test_what_cannot_be_compared_is_named(skills: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        mutual_information(skills)
    with pytest.raises(InvalidValueError, match=message):
        distinctness(skills)


def test_distinctness_is_the_total_variation_distance() -> None:
    rng = np.random.default_rng(0)
    skills = [rng.normal(mean, 1.0, 1_000_000) for mean in (-0.5, 0.5, 8.0)]
    expected = math.erf(0.5 / math.sqrt(2))  # of two normals a standard deviation apart
    told_apart = distinctness(skills)
    assert told_apart[0, 1] == pytest.approx(expected, abs=5e-3)
    assert told_apart[0, 2] == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_array_equal(told_apart, told_apart.T)
    np.testing.assert_array_equal(np.diag(told_apart), 0.0)


def test_coverage_counts_squares_once() -> None:
    walk = np.stack([np.linspace(-3.5, 3.5, 1_000), np.zeros(1_000)], axis=1)
    assert coverage(walk) == 8
    assert coverage(np.stack([walk, walk, walk + np.array([0.0, 1.0])])) == 16


def drifting(library: SkillLibrary, index: int, action: float) -> None:
    """Add a skill of HalfCheetah that always does the same."""
    space, reward = Box(-np.inf, np.inf, (17,)), NeuralReward((17,), hidden=2)
    policy = SkillPolicy(space, Box(-1.0, 1.0, (6,)), lambda _: 0.0, hidden=(4,))
    torch.nn.init.zeros_(policy.action_net.weight)
    torch.nn.init.constant_(policy.action_net.bias, action)
    record = new_record(index, env="HalfCheetah-v5", live=index > 0, task_return=-float(index))
    library.add(policy, reward, record)


def test_the_variety_of_a_run(tmp_path: Path) -> None:
    library = SkillLibrary.create(tmp_path / "run", recipe_for("HalfCheetah-v5"), 0)
    with pytest.raises(InvalidValueError, match="no finished skill"):
        variety(library)
    for index, action in enumerate((0.0, 0.0, 5.0)):
        drifting(library, index, action)
    known = variety(library, episodes=2)
    assert known.live == pytest.approx(2 / 3)
    assert known.task_return == 0.0
    assert known.bound == pytest.approx(math.log(3))
    # The body cannot move sideways; the third skill's posture is another.
    assert set(known.information) == {"forward velocity", "height"}
    assert 0.3 < known.information["height"] < math.log(3)
    assert known.distinct is not None
    assert 0.6 < known.distinct < 0.9
    assert known.coverage is not None
    assert 1 <= known.coverage < 10

    first, second, third = growing_variety(library, episodes=2)
    assert third == known
    assert first.distinct is None
    assert (first.bound, first.live) == (0.0, 0.0)
    # The first two do the same.
    assert second.information["height"] == pytest.approx(0.0, abs=1e-9)
    assert second.distinct == 0.0


def test_skills_that_fall_have_as_many_values(tmp_path: Path) -> None:
    library = SkillLibrary.create(tmp_path / "run", recipe_for("Walker2d-v5"), 0)
    space, reward = Box(-np.inf, np.inf, (17,)), NeuralReward((17,), hidden=2)
    for index in range(2):
        policy = SkillPolicy(space, Box(-1.0, 1.0, (6,)), lambda _: 0.0, hidden=(4,))
        torch.nn.init.zeros_(policy.action_net.weight)
        torch.nn.init.constant_(policy.action_net.bias, 1.0)
        library.add(policy, reward, new_record(index, env="Walker2d-v5"))
    sizes: Any = {"episodes": 2, "steps": 1_000, "seed": 0}
    motion = watch(policy, "Walker2d-v5", {}, FEET["Walker2d-v5"], **sizes, again=True)
    begins = motion.starts.sum(0)
    assert motion.alive.all() and (begins > 3).all()
    values = {name: len(each) for name, each in _dimensions(motion).items()}
    assert set(values.values()) == {2 * 500 - motion.starts[-500:].sum()}
    # A walker that falls forwards is soon put back to its start: no step is so fast.
    assert np.abs(_dimensions(motion)["forward velocity"]).max() < 10.0
    assert variety(library, episodes=2).coverage == coverage(motion.position[..., :2])


def test_the_variety_of_skills_without_a_body(tiny_run: Path) -> None:
    known = variety(SkillLibrary(tiny_run))
    assert known.information == {}
    assert known.distinct is None
    assert known.coverage is None
