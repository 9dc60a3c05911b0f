"""Which skill of one run is which of another: paired by what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from skillrl.agents.returns import Seen


@dataclass(frozen=True)
class Behaviour:
    """What a skill sees in its episodes.

    Attributes:
        count: of observations.
        mean: of every component, ``(components,)``.
        std: of every component, ``(components,)``.
    """

    count: int
    mean: np.ndarray
    std: np.ndarray

    @staticmethod
    def of(seen: Seen) -> Behaviour:
        """Return the behaviour in some episodes."""
        observations = seen.observations
        assert isinstance(observations, np.ndarray)  # skills see no dictionaries
        total, squares = np.zeros((2, int(np.prod(observations.shape[2:]))))
        # Step by step: all images in float64 at once would be too much.
        for step, moment in enumerate(observations):
            rows = moment[step < seen.lengths].reshape(-1, len(total)).astype(np.float64)
            total += rows.sum(0)
            squares += np.square(rows).sum(0)
        count = int(seen.lengths.sum())
        mean = total / count
        return Behaviour(count, mean, np.sqrt(np.maximum(squares / count - np.square(mean), 0)))


def pair_skills(runs: Sequence[Sequence[Behaviour]]) -> list[dict[int, tuple[int, float]]]:
    """Pair the skills of several runs with those of the first by the distance of their behaviour.

    The distance of two skills is the root mean square of the differences between the means, and
    between the standard deviations, of all components, in units of a component's standard deviation
    over all skills. Pairs are those with the smallest sum of distances.

    Args:
        runs: the behaviour of every skill of every run.

    Returns:
        For each skill of the first run, from a run's number to the skill paired with it and its
        distance; the first run's own has the distance 0. A run with fewer skills is not in all.
    """
    scale = _std_over_all([each for run in runs for each in run])
    first, *others = [
        np.stack([np.concatenate([each.mean / scale, each.std / scale]) for each in run])
        for run in runs
    ]
    found: list[dict[int, tuple[int, float]]] = [{0: (skill, 0.0)} for skill in range(len(first))]
    for run, other in enumerate(others, start=1):
        distances = np.sqrt(np.square(first[:, None] - other).mean(-1))
        for mine, theirs in zip(*linear_sum_assignment(distances), strict=True):
            found[mine][run] = int(theirs), float(distances[mine, theirs])
    return found


def _std_over_all(behaviours: Sequence[Behaviour]) -> np.ndarray:
    """The standard deviation of all that is seen; of what never changes a little."""
    weights = np.array([each.count for each in behaviours], float)
    weights /= weights.sum()
    means = np.stack([each.mean for each in behaviours])
    within = np.stack([np.square(each.std) for each in behaviours])
    variance = weights @ (within + np.square(means - weights @ means))
    return np.maximum(np.sqrt(variance), 1e-8)
