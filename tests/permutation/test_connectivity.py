import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skillrl.errors import InvalidValueError
from skillrl.permutation import Transformation, align_pairs, interpolate, modes, symmetry_groups
from skillrl.permutation.connectivity import clusters_of


def network(seed: int, sign: float) -> nn.Sequential:
    torch.manual_seed(seed)
    found = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    with torch.no_grad():
        weight = found.get_parameter("2.weight")
        weight.copy_(sign * weight.abs())
    return found


def observations() -> Tensor:
    return torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_copies_are_one_mode_and_others_are_others() -> None:
    first, second = network(0, 1.0), network(7, 1.0)
    groups = symmetry_groups(first, observations()).groups
    others = [
        Transformation.random(groups, np.random.default_rng(seed)).apply(each)
        for seed, each in enumerate((first, second))
    ]
    networks = [first, second, *others]
    with torch.no_grad():
        targets = [first(observations()), second(observations())]

    def loss(module: nn.Module) -> float:
        """How far a network is from the nearer of two functions."""
        with torch.no_grad():
            return min(float((module(observations()) - each).square().mean()) for each in targets)

    alignments = align_pairs(networks, observations())
    found = modes(alignments, loss, observations(), threshold=1e-9, losses=True)
    assert found.clusters == [0, 1, 0, 1]
    assert found.scores == pytest.approx([0.0] * 4, abs=1e-12)
    # Copies are connected only after they are aligned; they are the same function all the time.
    assert found.before[0][2] > 1e-3
    assert found.after[0][2] == pytest.approx(0, abs=1e-12)
    assert found.after[0][1] > 1e-9
    assert found.functional_distance[0][2] == pytest.approx(0, abs=1e-9)
    assert found.functional_distance[0][1] > 0.1
    assert found.parameter_distance[0][2] > 0.1
    assert found.aligned_parameter_distance[0][2] == pytest.approx(0, abs=1e-9)
    for matrix in (found.before, found.after, found.functional_distance):
        assert np.array_equal(np.array(matrix), np.array(matrix).T)
    assert np.array(found.linkage).shape == (3, 4)
    again = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert again["after"] == found.after
    assert len(again["paths"]["after"]["0-1"]) == len(found.alphas)


def test_a_path_that_needs_no_alignment_connects_as_well() -> None:
    pair = [network(0, 1.0), network(7, 1.0)]
    alphas = (0.0, 0.5, 1.0)
    good = [interpolate(pair[0], pair[1], alpha).get_parameter("0.weight") for alpha in alphas]

    def score(module: nn.Module) -> float:
        return float(any(torch.equal(module.get_parameter("0.weight"), each) for each in good))

    alignments = align_pairs(pair, observations())
    found = modes(alignments, score, observations(), threshold=0.1, alphas=alphas)
    assert (found.before[0][1], found.after[0][1]) == (0.0, 1.0)
    assert found.clusters == [0, 0]
    assert found.linkage[0][2] == 0.0


def test_a_threshold_is_not_negative() -> None:
    alignments = align_pairs([network(0, 1.0), network(1, 1.0)], observations())
    with pytest.raises(InvalidValueError, match="threshold"):
        modes(alignments, lambda _: 0.0, observations(), threshold=-1)


def test_clusters_by_way_of_others() -> None:
    # 0 and 2 are connected by way of 1, and 3 with nobody.
    barriers = [[0, 0.1, 0.9, 0.8], [0.1, 0, 0.05, 0.7], [0.9, 0.05, 0, 0.6], [0.8, 0.7, 0.6, 0]]
    assert clusters_of(barriers, 0.1) == [0, 0, 0, 1]
    assert clusters_of(barriers, 0.05) == [0, 1, 1, 2]
    assert clusters_of(barriers, 0.6) == [0, 0, 0, 0]
