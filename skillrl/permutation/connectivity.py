"""Whether networks lie in one mode: barriers between all pairs, before and after alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from skillrl.errors import InvalidValueError
from skillrl.permutation.interpolation import Path, Score, interpolate
from skillrl.permutation.trace import Forward, call, copy_of, evaluate
from skillrl.permutation.transformation import Transformation
from skillrl.randomness import drawn_aside

Matrix = list[list[float]]


class Aligned(Protocol):
    """Several networks that can be brought into the coordinates of each other."""

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks as they were."""

    def between(self, target: int, source: int) -> Transformation:
        """Return what brings one network into the coordinates of another."""


@dataclass(frozen=True)
class Modes:
    """Barriers and distances between N networks; matrices are ``(N, N)``, symmetric.

    Attributes:
        scores: of the networks themselves.
        alphas: where the paths were scored.
        paths: scores along the path from network i to network j, by ``"i-j"``, before and after.
        before: barriers between the networks as they were.
        after: barriers after the second network of each pair was aligned to the first.
        threshold: below which two networks count as connected.
        clusters: for each network, the number of its mode, from 0: networks that are connected by
            either path, directly or by way of others, have the same.
        linkage: of the hierarchical clustering by the lower of the barriers before and after
            alignment, as SciPy's ``linkage`` returns it, for a dendrogram.
        functional_distance: norm of the difference between outputs on the same inputs, relative to
            the mean of their norms.
        parameter_distance: norm of the difference between the parameters, relative to the mean of
            their norms, before alignment.
        aligned_parameter_distance: the same, after alignment.
    """

    scores: list[float]
    alphas: list[float]
    paths: dict[str, dict[str, list[float]]]
    before: Matrix
    after: Matrix
    threshold: float
    clusters: list[int]
    linkage: Matrix
    functional_distance: Matrix
    parameter_distance: Matrix
    aligned_parameter_distance: Matrix

    def to_json(self) -> dict[str, Any]:
        """Return a description that JSON can hold."""
        return asdict(self)


def modes(
    alignments: Aligned,
    score: Score,
    inputs: Any,
    *,
    threshold: float,
    alphas: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    losses: bool = False,
    random: float | None = None,
    forward: Forward = call,
) -> Modes:
    """Score the paths between all pairs of networks, before and after alignment.

    Args:
        alignments: of the networks, by ``align_pairs``, or by ``align_many``, which leaves higher
            barriers.
        score: from a network to a number, such as a mean return over the same episodes.
        inputs: on which outputs are compared.
        threshold: barriers up to this connect two networks.
        alphas: where paths are scored.
        losses: whether smaller scores are better.
        random: return of a random policy, see ``barrier``.
        forward: what the networks compute, for the functional distance.

    Raises:
        InvalidValueError: if the threshold is negative, or as ``barrier`` does.
    """
    if not threshold >= 0:
        raise InvalidValueError(f"threshold should be at least 0. Received {threshold}.")
    networks = alignments.networks
    scores = [float(score(network)) for network in networks]
    paths: dict[str, dict[str, list[float]]] = {"before": {}, "after": {}}
    barriers, distances = (
        {key: np.zeros((len(networks), len(networks))) for key in paths} for _ in range(2)
    )
    inner = [alpha for alpha in alphas if 0 < alpha < 1]
    places = (0.0, *inner, 1.0)
    for i, j in combinations(range(len(networks)), 2):
        first, second = networks[i], networks[j]
        ends = {"before": second, "after": alignments.between(i, j).apply(second)}
        for key, end in ends.items():
            # The scores of the ends are known: the networks are the same before and after.
            between = (float(score(interpolate(first, end, alpha))) for alpha in inner)
            path = Path(places, (scores[i], *between, scores[j]))
            paths[key][f"{i}-{j}"] = list(path.scores)
            barriers[key][i, j] = barriers[key][j, i] = path.barrier(losses=losses, random=random)
            distances[key][i, j] = distances[key][j, i] = _parameter_distance(first, end)
    # A path that needs no alignment connects as well.
    lower = np.minimum(barriers["before"], barriers["after"])
    return Modes(
        scores=scores,
        alphas=list(places),
        paths=paths,
        before=barriers["before"].tolist(),
        after=barriers["after"].tolist(),
        threshold=threshold,
        clusters=clusters_of(lower, threshold),
        linkage=tree(lower).tolist(),
        functional_distance=_functional_distances(networks, inputs, forward),
        parameter_distance=distances["before"].tolist(),
        aligned_parameter_distance=distances["after"].tolist(),
    )


def clusters_of(barriers: Matrix | np.ndarray, threshold: float) -> list[int]:
    """Return for each network the number of its mode, from 0; see ``Modes.clusters``.

    Args:
        barriers: between all pairs of networks, ``(N, N)``, symmetric.
        threshold: barriers up to this connect two networks.

    >>> clusters_of([[0.0, 0.9, 0.1], [0.9, 0.0, 0.8], [0.1, 0.8, 0.0]], threshold=0.1)
    [0, 1, 0]
    """
    found = fcluster(tree(barriers), threshold, criterion="distance").tolist()
    numbers = {name: number for number, name in enumerate(dict.fromkeys(found))}
    return [numbers[name] for name in found]


def tree(barriers: Matrix | np.ndarray) -> np.ndarray:
    """Return the hierarchy of single linkage, as SciPy's ``linkage`` does.

    Who is connected by way of others belongs together.

    Args:
        barriers: between all pairs of networks, ``(N, N)``, symmetric.
    """
    return linkage(squareform(np.asarray(barriers), checks=False), method="single")


@torch.no_grad()
def _functional_distances(networks: Sequence[nn.Module], inputs: Any, forward: Forward) -> Matrix:
    outputs = []
    for network in networks:
        # Whatever is drawn is drawn alike.
        with drawn_aside(0):
            leaves = pytree.tree_leaves(evaluate(copy_of(network).eval(), inputs, forward))
        outputs.append(torch.cat([leaf.flatten().double() for leaf in leaves]))
    return _relative_distances(torch.stack(outputs))


def _parameter_distance(*networks: nn.Module) -> float:
    rows = [
        torch.cat([parameter.detach().flatten().double() for parameter in network.parameters()])
        for network in networks
    ]
    return _relative_distances(torch.stack(rows))[0][1]


def _relative_distances(rows: Tensor) -> Matrix:
    """Distances between all pairs of rows, relative to the mean of their norms."""
    norms = rows.norm(dim=1)
    means = (norms.unsqueeze(0) + norms.unsqueeze(1)).clamp_min(1e-30) / 2
    return (torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist") / means).tolist()
