"""How varied the skills of a run are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skillrl.errors import InvalidValueError

# Buckets of the histograms and the interval that they divide, as in the paper.
BUCKETS, INTERVAL = 1_000, (-10.0, 10.0)


def mutual_information(skills: Sequence[np.ndarray]) -> float:
    """How much a single value tells about which skill it comes from.

    The entropy of the histogram of all skills together minus the mean entropy of each skill alone,
    a particle-based estimate of the mutual information. Source: Meier & Mujika 2022 (arXiv
    2202.08266), where the values are a dimension such as the forward velocity in the last 500
    steps of 10 trajectories a skill.

    Args:
        skills: the values of each skill, as many of each, of any shape; those outside of
            [-10, 10] count as the nearest bound.

    Returns:
        The mutual information in nats, from 0 (all skills are alike) to ``log(len(skills))``, its
        bound (none share a bucket).

    Raises:
        InvalidValueError: if there are no skills, their numbers of values differ, or values are
            not finite.

    >>> still, fast = np.zeros(100), np.full(100, 3.0)
    >>> f"{mutual_information([still, fast]):.4f} of at most {np.log(2):.4f}"
    '0.6931 of at most 0.6931'
    """
    sizes = {np.size(values) for values in skills}
    if len(sizes) != 1 or sizes == {0}:
        raise InvalidValueError(
            "Mutual information needs as many values of every skill, and at least one. Received "
            f"{[np.size(values) for values in skills]}."
        )
    if not all(np.isfinite(values).all() for values in skills):
        raise InvalidValueError("Mutual information needs finite values.")
    histograms = np.array(
        [np.histogram(np.clip(values, *INTERVAL), BUCKETS, INTERVAL)[0] for values in skills]
    )
    together, alone = _entropy(histograms.sum(0)), np.mean([_entropy(h) for h in histograms])
    return float(together - alone)


def _entropy(counts: np.ndarray) -> float:
    """The entropy in nats of a distribution given by counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
