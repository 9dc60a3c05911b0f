import math
from typing import Any

import numpy as np
import pytest

from skillrl.discovery.metrics import mutual_information
from skillrl.errors import InvalidValueError


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
