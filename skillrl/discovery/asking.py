"""What a reward asks for, of all that exploration reached.

All of it, as in the paper; what was not seen there before; one way to go on, a cluster of
explorations; or one direction, more or less of one component of the observation.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.cluster.vq import kmeans2

from skillrl.discovery.settings import SampleRecipe

# Components that persist less oscillate, and cannot be asked to go far for long; those that persist
# less than the second are asked for by single observations.
OSCILLATION, POSTURE = 0.03, 0.1
# What asks for directions, and how much their components persist at least.
DIRECTIONS = {"directions": OSCILLATION, "velocities": POSTURE}
# Standardised components that vary less than this have nowhere to go.
STILL = 0.05
# Share of what exploration reached that has to be new, if what is new alone is to be asked for: far
# off the way a hundredth is seldom found, and of a few dozen pictures a reward learns the place.
NEW = 0.002


def asked_for(
    kind: str,
    points: np.ndarray,
    explorations: np.ndarray,
    recipe: SampleRecipe,
    rng: np.random.Generator,
    earlier: Sequence[str] = (),
    new: np.ndarray | None = None,
) -> tuple[np.ndarray, str]:
    """Choose what a reward is to ask for of what exploration reached.

    Args:
        kind: one of ``SampleRecipe.asks_for``.
        points: observations, ``(n, ...)``, those of an exploration in their order; vectors should
            be standardised.
        explorations: the exploration that each belongs to, ``(n,)``.
        recipe: of the samples.
        rng: source of randomness.
        earlier: what was asked for before.
        new: which of them fall into cells in which no skill was seen, ``(n,)``; None of vectors,
            which have no cells.

    Returns:
        Which observations are asked for, ``(n,)``, and a name for it: the kind, or a direction such
        as ``"+8"``, for more of component 8.
    """
    everything = np.ones(len(points), bool), "all"
    if len(points) < 2 or kind == "all":
        return everything
    if kind == "new cells":
        least = max(2, NEW * len(points))
        return (new, kind) if new is not None and new.sum() >= least else everything
    # Who falls goes far and is lively, but not for long.
    among = lasting(explorations)
    points, explorations = points[among], explorations[among]
    wanted = np.zeros(len(among), bool)
    if kind in DIRECTIONS and points.ndim == 2 and points.dtype.kind == "f":
        persistent = DIRECTIONS[kind]
        directions = least_asked(points, explorations, recipe.extreme, earlier, persistent)
        if directions:
            wanted[among] = far(points, explorations, directions[0], recipe.extreme)
            return wanted, directions[0]
    lively = np.ones(len(points), bool)
    if kind == "lively ways":
        lively = liveliest(points, explorations, recipe.lively)
    chosen = np.flatnonzero(among)[lively]
    wanted[chosen] = one_way(points[lively], explorations[lively], recipe.clusters, rng)
    return wanted, "ways" if kind in DIRECTIONS else kind


def lasting(explorations: np.ndarray) -> np.ndarray:
    """Find the explorations that no end of an episode cut short, or the quarter cut short last.

    Args:
        explorations: the exploration that each observation belongs to, ``(n,)``.

    Returns:
        Which observations belong to these explorations, ``(n,)``.
    """
    _, numbers, lengths = np.unique(explorations, return_inverse=True, return_counts=True)
    return (lengths >= np.quantile(lengths, 0.75))[numbers]


def persistence(points: np.ndarray, explorations: np.ndarray) -> np.ndarray:
    """Return how much of each component's variance lies between explorations.

    Near 1 it is a posture, which an exploration hardly leaves; near 0 an oscillation, of which
    nothing is left on average; between the two there are velocities. 0 of what hardly moves.

    Args:
        points: observations ``(n, components)``.
        explorations: the exploration that each belongs to, ``(n,)``.

    Returns:
        Shares in [0, 1], ``(components,)``.
    """
    means, numbers = _means(points, explorations)
    moves = points.std(0) > STILL
    return np.where(moves, means[numbers].var(0) / np.where(moves, points.var(0), 1.0), 0.0)


def least_asked(
    points: np.ndarray,
    explorations: np.ndarray,
    share: float,
    earlier: Sequence[str],
    least: float = OSCILLATION,
) -> list[str]:
    """Return the directions that were asked for least often, the liveliest components first.

    Of each component, the direction in which exploration goes farther comes before the other.

    Args:
        points: observations ``(n, components)``.
        explorations: the exploration that each belongs to, ``(n,)``.
        share: of the observations, by which the two directions are compared.
        earlier: what was asked for before.
        least: persistence of the components that count.
    """
    persistent = persistence(points, explorations)
    directions: list[str] = []
    for component in np.argsort(persistent):
        if persistent[component] < least:
            continue
        values = points[:, component]
        up = values[values >= np.quantile(values, 1 - share)].mean() - values.mean()
        down = values.mean() - values[values <= np.quantile(values, share)].mean()
        directions += [f"{sign}{component}" for sign in ("+-" if up >= down else "-+")]
    counts = [earlier.count(direction) for direction in directions]
    return [d for d, n in zip(directions, counts, strict=True) if n == min(counts)]


def far(points: np.ndarray, explorations: np.ndarray, direction: str, share: float) -> np.ndarray:
    """Find what goes farthest in one direction.

    Single observations where the component does not persist: moments that cannot be held but only
    be passed again and again, as in somersaults. Whole explorations where it does, by the average
    of their second half, because many that are fast at first are falling; and of those that go
    farthest the larger of two clusters, because one may run where the other slides.

    Args:
        points: observations ``(n, components)``, those of an exploration in their order.
        explorations: the exploration that each belongs to, ``(n,)``.
        direction: such as ``"+8"``.
        share: of the explorations or observations.

    Returns:
        Which observations do, ``(n,)``.
    """
    component, sign = int(direction[1:]), 1.0 if direction[0] == "+" else -1.0
    values = sign * points[:, component].astype(np.float64)
    if persistence(points, explorations)[component] < POSTURE:
        return values >= np.quantile(values, 1 - share)
    late = _second_half(explorations)
    # An exploration of any length has a second half.
    means, late_numbers = _means(points[late], explorations[late])
    goes = np.zeros(len(means))
    np.add.at(goes, late_numbers, values[late])
    goes /= np.bincount(late_numbers)
    farthest = np.flatnonzero(goes >= np.quantile(goes, 1 - share))
    chosen = farthest[_labels(means[farthest], 2, np.random.default_rng(0)) == 0]
    return np.isin(np.unique(explorations, return_inverse=True)[1], chosen)


def component_of(asked: str) -> int | None:
    """Return the component that a direction goes along; None of what is no direction.

    >>> component_of("-12"), component_of("lively ways")
    (12, None)
    """
    return int(asked[1:]) if asked[:1] in ("+", "-") else None


def told_apart_by(
    component: int, positives: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Add to each group the other one's observations with this component of its own.

    A reward fitted to both asks for the component itself, and not for what happens to go with it:
    where the fastest explorations crouch, for speed, which other postures may serve better.

    Args:
        component: of the observations.
        positives: observations ``(n, components)``.
        others: observations ``(m, components)``; m may be 0.
        rng: source of randomness.

    Returns:
        Both groups, ``(n + m, components)`` each, where there are others.
    """
    if len(others) == 0:
        return positives, others
    like_positives, like_others = others.copy(), positives.copy()
    like_positives[:, component] = rng.choice(positives[:, component], len(others))
    like_others[:, component] = rng.choice(others[:, component], len(positives))
    return np.concatenate([positives, like_positives]), np.concatenate([others, like_others])


def one_way(
    points: np.ndarray, explorations: np.ndarray, clusters: int, rng: np.random.Generator
) -> np.ndarray:
    """Sort explorations into clusters by what they saw on average, and choose one at random.

    Averages tell lying from running, where single observations would tell a gait's phases apart.

    Args:
        points: observations, ``(n, ...)``; vectors should be standardised.
        explorations: the exploration that each belongs to, ``(n,)``.
        clusters: see ``one_cluster``.
        rng: source of randomness.

    Returns:
        Which observations belong to the chosen cluster of explorations, ``(n,)``.
    """
    means, numbers = _means(points.reshape(len(points), -1), explorations)
    return one_cluster(means, clusters, rng)[numbers]


def liveliest(points: np.ndarray, explorations: np.ndarray, share: float) -> np.ndarray:
    """Find the explorations whose observations change most from step to step.

    Args:
        points: observations, ``(n, ...)``, those of an exploration in their order; vectors should
            be standardised.
        explorations: the exploration that each belongs to, ``(n,)``.
        share: of the explorations, in (0, 1].

    Returns:
        Which observations belong to these explorations, ``(n,)``.
    """
    order = np.argsort(explorations, kind="stable")
    _, numbers, counts = np.unique(explorations, return_inverse=True, return_counts=True)
    pace = np.zeros(len(counts))
    # One exploration after the other: images become four times as large.
    for number, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        steps = np.diff(points[rows].reshape(len(rows), -1).astype(np.float32), axis=0)
        pace[number] = np.linalg.norm(steps, axis=1).mean() if len(steps) else 0.0
    return (pace >= np.quantile(pace, 1 - share))[numbers]


def one_cluster(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Sort points into clusters (k-means), and choose one at random.

    Args:
        points: ``(n, ...)``.
        clusters: their number; those with less than a quarter of their share are not chosen.
        rng: source of the first centres and of the choice.

    Returns:
        Which points belong to the chosen cluster, ``(n,)``.
    """
    labels = _labels(points.reshape(len(points), -1).astype(np.float64), clusters, rng)
    large = np.flatnonzero(np.bincount(labels) >= len(points) / (4 * clusters))
    return labels == rng.choice(large)


def _means(points: np.ndarray, explorations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The average of each exploration, and the number of each observation's among them."""
    _, numbers, counts = np.unique(explorations, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), points.shape[1]))
    np.add.at(means, numbers, points)
    return means / counts[:, None], numbers


def _second_half(explorations: np.ndarray) -> np.ndarray:
    """Whether each observation belongs to the second half of its exploration."""
    order = np.argsort(explorations, kind="stable")
    _, numbers, counts = np.unique(explorations, return_inverse=True, return_counts=True)
    steps = np.empty(len(explorations), np.int64)
    steps[order] = np.arange(len(explorations)) - np.repeat(np.cumsum(counts) - counts, counts)
    return steps >= counts[numbers] // 2


def _labels(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Sort points ``(n, components)`` into clusters by k-means; 0 is the largest."""
    clusters = min(clusters, len(np.unique(points, axis=0)))
    with warnings.catch_warnings():
        # An empty cluster has no labels, and is the smallest.
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        _, labels = kmeans2(points, clusters, minit="++", rng=rng)
    by_size = np.argsort(-np.bincount(labels, minlength=clusters), kind="stable")
    return np.argsort(by_size)[labels]
