"""How varied the skills of a run are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skillrl.discovery.descriptors import Motion, feet_of, watch
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.record import Record
from skillrl.errors import InvalidValueError

# Buckets of the histograms and the interval that they divide, as in the paper.
BUCKETS, INTERVAL = 1_000, (-10.0, 10.0)
# Steps of a trajectory, and those at its end that count.
STEPS, LAST = 1_000, 500


def mutual_information(skills: Sequence[np.ndarray]) -> float:
    """How much a single value tells about which skill it comes from.

    The entropy of the histogram of all skills together minus the mean entropy of each skill alone,
    a particle-based estimate of the mutual information. Source: Meier & Mujika 2022 (arXiv
    2202.08266), where the values are a dimension such as the forward velocity in the last 500
    steps of 10 trajectories a skill.

    Args:
        skills: the values of each skill, of any shape; those outside of [-10, 10] count as the
            nearest bound. All skills weigh the same, however many values they have.

    Returns:
        The mutual information in nats, from 0 (all skills are alike) to ``log(len(skills))``, its
        bound (none share a bucket).

    Raises:
        InvalidValueError: if a skill has no values, or there are none, or values are not finite.

    >>> still, fast = np.zeros(100), np.full(100, 3.0)
    >>> f"{mutual_information([still, fast]):.4f} of at most {np.log(2):.4f}"
    '0.6931 of at most 0.6931'
    """
    histograms = _histograms(skills)
    together, alone = _entropy(np.mean(histograms, axis=0)), map(_entropy, histograms)
    # Never negative, but for rounding; zero first, which max prefers to -0.0.
    return max(0.0, together - sum(alone) / len(histograms))


def _histograms(skills: Sequence[np.ndarray]) -> np.ndarray:
    """The share of each skill's values in each bucket, ``(skills, buckets)``."""
    if not skills or not all(np.size(values) for values in skills):
        raise InvalidValueError(
            "Skills are compared by at least one value each. Received "
            f"{[np.size(values) for values in skills]} values."
        )
    if not all(np.isfinite(values).all() for values in skills):
        raise InvalidValueError("Skills are compared by finite values.")
    return np.stack(
        [
            np.histogram(np.clip(values, *INTERVAL), BUCKETS, INTERVAL)[0] / np.size(values)
            for values in skills
        ]
    )


def _entropy(shares: np.ndarray) -> float:
    """The entropy in nats of a distribution."""
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def distinctness(skills: Sequence[np.ndarray]) -> np.ndarray:
    """How well two skills can be told apart by a single value, for each pair of them.

    The total variation distance between the histograms of two skills: how much more likely than by
    a guess one tells from a value which of the two it comes from.

    Args:
        skills: the values of each skill, as for ``mutual_information``.

    Returns:
        Distances ``(len(skills), len(skills))``, from 0 (alike) to 1 (no bucket in common). Of a
        few thousand values each, two samples of one skill are about 0.1 apart.

    Raises:
        InvalidValueError: as for ``mutual_information``.

    >>> distinctness([np.array([0.0, 1.0]), np.array([1.0, 2.0])]).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    histograms = _histograms(skills)
    return np.abs(histograms[:, None] - histograms[None]).sum(-1) / 2


def coverage(places: np.ndarray) -> int:
    """Return the number of squares of 1 m × 1 m that were visited.

    Source: the state coverage of METRA (Park et al. 2024, arXiv 2310.08887), where ``places`` are
    those of all skills' trajectories.

    Args:
        places: positions ``(..., 2)`` on the ground, in metres.

    >>> coverage(np.array([[0.2, 0.2], [0.9, 0.1], [-0.1, 0.1]]))
    2
    """
    return len(np.unique(np.floor(places.reshape(-1, 2)), axis=0))


@dataclass(frozen=True)
class Variety:
    """How varied the skills of a run are; all from ordinary resets."""

    live: float | None
    """Share of the skills that are live, in [0, 1]; None of skills learnt together."""
    task_return: float | None
    """The highest return of the environment's own reward that a skill earns, not having been
    trained on it (zero-shot)."""
    bound: float
    """The logarithm of the number of skills: what mutual information can be at most, in nats."""
    information: dict[str, float]
    """Mutual information of skills with what the torso does, in nats by the name of the dimension:
    forward velocity and height, and where the robot can move sideways, lateral velocity; in the
    last 500 of 1,000 steps of 10 trajectories a skill. Where an episode ends sooner the next one
    follows, so that all skills have as many values: of few values the estimate is too high. Empty
    where no body is known."""
    distinct: float | None
    """Mean over all pairs of skills of how well they can be told apart by the best of these
    dimensions, in [0, 1]; None where there are no pairs or no body is known."""
    coverage: int | None
    """Squares of 1 m × 1 m that the torso visits in these trajectories; None where no body is
    known."""


def variety(library: SkillLibrary, *, episodes: int = 10) -> Variety:
    """Watch all skills of a run, and tell how varied they are.

    Args:
        library: a run with at least one skill.
        episodes: trajectories of each skill.

    Raises:
        InvalidValueError: if the run has no skill yet.
    """
    return growing_variety(library, episodes=episodes)[-1]


def growing_variety(library: SkillLibrary, *, episodes: int = 10) -> list[Variety]:
    """Return the variety of a run's first skill, of its first two, and so on.

    Args:
        library: a run with at least one skill.
        episodes: trajectories of each skill.

    Raises:
        InvalidValueError: if the run has no skill yet.
    """
    records, motions = [], []
    for skill in library:
        record = skill.record
        feet = feet_of(record.env, record.env_kwargs)
        if feet is not None:
            sizes = {"episodes": episodes, "steps": STEPS, "seed": library.seed}
            motions.append(
                watch(skill.policy, record.env, record.env_kwargs, feet, **sizes, again=True)
            )
        records.append(record)
    if not records:
        raise InvalidValueError(f"{library.path} has no finished skill yet.")
    return [_variety(records[:count], motions[:count]) for count in range(1, len(records) + 1)]


def _variety(records: Sequence[Record], motions: Sequence[Motion]) -> Variety:
    dimensions: dict[str, list[np.ndarray]] = {}
    for motion in motions:
        for name, values in _dimensions(motion).items():
            dimensions.setdefault(name, []).append(values)
    # A robot that cannot move sideways has a lateral velocity of zero in all skills.
    dimensions = {n: v for n, v in dimensions.items() if any(values.any() for values in v)}
    returns = [record.task_return for record in records if record.task_return is not None]
    distinct = covered = None
    if len(motions) > 1:
        told_apart = np.max([distinctness(each) for each in dimensions.values()], axis=0)
        distinct = float(told_apart[np.triu_indices(len(motions), 1)].mean())
    if motions:
        covered = coverage(np.concatenate([m.position[..., :2] for m in motions]))
    judged = [record.live for record in records if record.live is not None]
    return Variety(
        live=float(np.mean(judged)) if judged else None,
        task_return=max(returns, default=None),
        bound=float(np.log(len(records))),
        information={name: mutual_information(each) for name, each in dimensions.items()},
        distinct=distinct,
        coverage=covered,
    )


def _dimensions(motion: Motion) -> dict[str, np.ndarray]:
    velocity = np.diff(motion.position, axis=0)[-LAST:] / motion.seconds
    # The step from the end of an episode to the begin of the next is none of the body's.
    own = ~motion.starts[-LAST:]
    return {
        "forward velocity": velocity[own][:, 0],
        "height": motion.position[-LAST:][own][:, 2],
        "lateral velocity": velocity[own][:, 1],
    }
