import copy
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from architectures import ARCHITECTURES
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.permutation import (
    Alignments,
    Element,
    Transformation,
    align,
    align_many,
    symmetry_groups,
)
from skillrl.permutation.trace import state_of


def mlp(seed: int, width: int = 10) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(width, 2)).double()


def observations() -> Tensor:
    return torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("method", ["activations", "weights", "both"])
def test_whatever_way_is_taken_units_end_up_in_the_same_place(method: Any) -> None:
    networks = [mlp(seed) for seed in range(4)]
    alignments = align_many(networks, observations(), method=method, scales=True)
    for i, j, k in permutations(range(4), 3):
        straight = alignments.between(i, k)
        around = alignments.between(i, j).after(alignments.between(j, k))
        for one, other in zip(straight.elements, around.elements, strict=True):
            assert one.permutation.tolist() == other.permutation.tolist()
            np.testing.assert_allclose(one.factor, other.factor, rtol=1e-12)
    for number, group in enumerate(alignments.transformations[0].groups):
        itself = alignments.between(2, 2).elements[number]
        assert itself.permutation.tolist() == [*range(group.size)]


@pytest.mark.parametrize("method", ["activations", "weights", "both"])
def test_transformed_copies_are_merged_to_the_same_function(method: Any) -> None:
    architecture = ARCHITECTURES["recurrent-lru"]
    network, inputs = architecture.network(), architecture.batch()
    groups = symmetry_groups(network, inputs, architecture.forward).groups
    copies = [
        Transformation.random(groups, np.random.default_rng(seed)).apply(network)
        for seed in range(4)
    ]
    alignments = align_many(
        copies, inputs, method=method, scales=True, forward=architecture.forward
    )
    with torch.no_grad():
        expected = architecture.forward(network, inputs)
        merged = architecture.forward(alignments.merged(), inputs)
    torch.testing.assert_close(merged, expected, rtol=1e-6, atol=1e-8)


def test_networks_lie_closer_together_than_before() -> None:
    networks = [mlp(seed) for seed in range(5)]

    def spread(each: list[nn.Module]) -> float:
        rows = torch.stack([nn.utils.parameters_to_vector(one.parameters()) for one in each])
        return (rows - rows.mean(0)).square().sum().item()

    alignments = align_many(networks, observations(), method="weights")
    assert spread([alignments.apply(n) for n in range(5)]) < 0.9 * spread([*networks])


def test_alignments_survive_a_file(tmp_path: Path) -> None:
    networks = [mlp(seed) for seed in range(3)]
    with torch.no_grad():
        networks[1].get_parameter("2.bias")[[4, 7]] = -100.0
    alignments = align_many(networks, observations())
    assert all(
        {4, 7}.issubset(each[1]) == (number == 1) for number, each in enumerate(alignments.idle)
    )
    path = tmp_path / "alignments.safetensors"
    alignments.save(path)
    again = Alignments.load(path, networks)
    assert again.idle == alignments.idle
    expected = state_of(alignments.merged())
    for name, tensor in state_of(again.merged()).items():
        assert torch.equal(tensor, expected[name])
    with pytest.raises(DamagedFileError, match="no alignments of 2 networks"):
        Alignments.load(path, networks[:2])


def test_one_network_is_not_aligned() -> None:
    with pytest.raises(InvalidValueError, match="At least two networks"):
        align_many([mlp(0)], observations())


def alive_and_dead() -> tuple[nn.Module, nn.Module]:
    """A network, and the same with four units that are never on."""
    torch.manual_seed(0)
    layers = nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 4)
    alive = nn.Sequential(*layers).double()
    with torch.no_grad():
        alive.get_parameter("0.bias").zero_()
    dead = copy.deepcopy(alive)
    with torch.no_grad():
        dead.get_parameter("0.bias")[[2, 5, 6, 8]] = -9.0
    return alive, dead


def test_units_that_are_at_work_in_one_network_alone_are_matched_by_weights() -> None:
    alive, dead = alive_and_dead()
    groups = symmetry_groups(alive, observations()).groups
    done = [Transformation.random(groups, np.random.default_rng(seed)) for seed in range(3)]
    networks = [each.apply(dead) for each in done[:2]] + [done[2].apply(alive)]
    alignments = align_many(networks, observations())
    for target in range(2):
        undone = alignments.between(target, 2).after(done[2])
        found = done[target].inverse().after(undone).elements[0]
        assert found.permutation.tolist() == [*range(10)]


@pytest.mark.parametrize("count", [1, 2])
def test_units_that_are_idle_elsewhere_keep_their_scale(count: int) -> None:
    alive, dead = alive_and_dead()
    (group,) = symmetry_groups(alive, observations()).groups
    generator = np.random.default_rng(0)

    def permuted(network: nn.Module) -> nn.Module:
        element = Element.permuting(generator.permutation(10), group)
        return Transformation((group,), (element,)).apply(network)

    networks = [permuted(each) for each in (dead, dead, *[alive] * count)]
    found = [*align_many(networks, observations(), scales=True).transformations]
    found.append(align(dead, networks[-1], observations(), scales=True).transformation)
    for transformation in found:
        np.testing.assert_allclose(transformation.elements[0].factor, 1, rtol=1e-9)
