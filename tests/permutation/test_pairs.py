import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skillrl.errors import InvalidValueError, NotEquivalentError
from skillrl.permutation import Transformation, align, align_many, align_pairs, symmetry_groups


def mlp(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Linear(3, 10), nn.Tanh(), nn.Linear(10, 10), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(10, 2)).double()


def observations() -> Tensor:
    return torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def same(one: Transformation, other: Transformation) -> bool:
    return all(
        np.array_equal(a.permutation, b.permutation) and np.allclose(a.factor, b.factor, rtol=1e-9)
        for a, b in zip(one.elements, other.elements, strict=True)
    )


def test_what_was_done_to_copies_is_undone() -> None:
    network = mlp(0)
    groups = symmetry_groups(network, observations()).groups
    done = [Transformation.random(groups, np.random.default_rng(seed)) for seed in range(3)]
    pairs = align_pairs([each.apply(network) for each in done], observations(), scales=True)
    for target in range(3):
        for source in {0, 1, 2} - {target}:
            expected = done[target].after(done[source].inverse())
            assert same(pairs.between(target, source), expected)


def test_pairs_are_aligned_as_if_there_were_no_others() -> None:
    networks = [mlp(seed) for seed in range(3)]
    pairs = align_pairs(networks, observations())
    for (i, j), found in pairs.transformations.items():
        assert same(found, align(networks[i], networks[j], observations()).transformation)


def test_two_come_closer_than_in_coordinates_that_all_share() -> None:
    networks = [mlp(seed) for seed in range(6)]

    def distance(first: nn.Module, second: nn.Module) -> float:
        a, b = (nn.utils.parameters_to_vector(each.parameters()) for each in (first, second))
        return (a - b).norm().item()

    pairs = align_pairs(networks, observations(), method="weights")
    shared = align_many(networks, observations(), method="weights")
    direct, by_way_of_all = (
        sum(
            distance(networks[i], each.between(i, j).apply(networks[j]))
            for i, j in pairs.transformations
        )
        for each in (pairs, shared)
    )
    assert direct < by_way_of_all


def test_what_cannot_be_compared_is_refused() -> None:
    other = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    with pytest.raises(InvalidValueError, match="different architectures"):
        align_pairs([mlp(0), other], observations())


def test_every_pair_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> float:
        raise NotEquivalentError("It computes something else.")

    monkeypatch.setattr("skillrl.permutation.pairs.verify", wrong)
    with pytest.raises(NotEquivalentError):
        align_pairs([mlp(0), mlp(1)], observations())
    align_pairs([mlp(0), mlp(1)], observations(), verified=False)
