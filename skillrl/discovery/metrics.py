"""How varied the skills of a run are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skillrl.discovery.descriptors import Motion, feet_of, watch
from skillrl.discovery.library import SkillLibrary
from skillrl.errors import InvalidValueError

# Buckets of the histograms and the interval that they divide, as in the paper.
BUCKETS, INTERVAL = 1_000, (-10.0, 10.0)
# Steps at the end of an episode that count.
LAST = 500


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
    if not skills or not all(np.size(values) for values in skills):
        raise InvalidValueError(
            "Mutual information needs skills with at least one value each. Received "
            f"{[np.size(values) for values in skills]} values."
        )
    if not all(np.isfinite(values).all() for values in skills):
        raise InvalidValueError("Mutual information needs finite values.")
    histograms = [
        np.histogram(np.clip(values, *INTERVAL), BUCKETS, INTERVAL)[0] / np.size(values)
        for values in skills
    ]
    together, alone = _entropy(np.mean(histograms, axis=0)), map(_entropy, histograms)
    return together - sum(alone) / len(histograms)


def _entropy(shares: np.ndarray) -> float:
    """The entropy in nats of a distribution."""
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def body_information(library: SkillLibrary, *, episodes: int = 10) -> dict[str, float]:
    """The mutual information of skills with what a robot's torso does.

    Of the forward velocity and the height, and where the robot can move sideways, of the lateral
    velocity, in the last 500 steps of each of ``episodes`` trajectories of 1,000 steps.

    Args:
        library: a run.
        episodes: trajectories of each skill.

    Returns:
        The mutual information in nats by the name of the dimension; empty where no body is known.
    """
    values: dict[str, list[np.ndarray]] = {}
    for skill in library:
        record = skill.record
        feet = feet_of(record.env, record.env_kwargs)
        if feet is None:
            continue
        motion = watch(
            *(skill.policy, record.env, record.env_kwargs, feet),
            episodes=episodes,
            steps=1_000,
            seed=library.seed,
        )
        for name, each in _dimensions(motion).items():
            values.setdefault(name, []).append(each)
    return {name: mutual_information(each) for name, each in values.items()}


def _dimensions(motion: Motion) -> dict[str, np.ndarray]:
    velocity = np.diff(motion.position, axis=0) / motion.seconds
    alive = motion.alive[1:]
    # The last 500 steps of each episode.
    late = alive & (np.cumsum(alive[::-1], axis=0)[::-1] <= LAST)
    dimensions = {
        "forward velocity": velocity[late][:, 0],
        "height": motion.position[1:][late][:, 2],
    }
    if velocity[late][:, 1].any():
        dimensions["lateral velocity"] = velocity[late][:, 1]
    return dimensions
