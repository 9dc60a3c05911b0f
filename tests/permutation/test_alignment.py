from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import alignment_speed
from architectures import ARCHITECTURES, Architecture
from skillrl.errors import (
    DamagedFileError,
    InvalidValueError,
    NotEquivalentError,
    UnsupportedOperationError,
)
from skillrl.permutation import (
    Alignment,
    Alignments,
    Element,
    Transformation,
    align,
    interpolate,
    recalculate_batch_norm,
    symmetry_groups,
    verify,
)
from skillrl.permutation.alignment import observe
from skillrl.permutation.matching import match
from skillrl.permutation.symmetries import Group, Site
from skillrl.permutation.trace import state_of


def mlp(seed: int, width: int = 12, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Linear(3, width), activation(), nn.Linear(width, width), activation()
    return nn.Sequential(*layers, nn.Linear(width, 2))


class Mean(nn.Module):
    """The mean over all pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def observations(count: int = 200) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", ["activations", "weights", "both"])
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_a_transformed_network_is_brought_back(architecture: Architecture, method: Any) -> None:
    network, inputs = architecture.network(), architecture.batch()
    groups = symmetry_groups(network, inputs, architecture.forward).groups
    done = Transformation.random(groups, np.random.default_rng(0))
    alignment = align(
        network,
        done.apply(network),
        inputs,
        method=method,
        scales=True,
        forward=architecture.forward,
    )
    undone = alignment.transformation.after(done)
    for group, element, (idle, _) in zip(groups, undone.elements, alignment.idle, strict=True):
        active = np.setdiff1d(np.arange(group.size), idle)
        assert len(active) > 0
        assert element.permutation[active].tolist() == active.tolist()
        assert not element.conjugated[active].any()
        np.testing.assert_allclose(element.factor[active], 1, rtol=0, atol=1e-9)
    assert min(alignment.similarity) > 1 - 1e-9


def test_matching_by_activations_is_the_published_one() -> None:
    # Two in which all units fire: what never does is matched otherwise.
    a, b = (mlp(seed, activation=nn.ReLU) for seed in (6, 7))
    alignment = align(a, b, observations())
    assert alignment.idle == (((), ()), ((), ()))
    expected = state_of(alignment_speed.matching(a, b, observations()))
    assert not torch.equal(expected["2.weight"], state_of(b)["2.weight"])
    for name, tensor in state_of(alignment.apply(b)).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


@torch.no_grad()
def cnn(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    convolutions = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
    for each in convolutions:
        # Whatever is positive, all channels fire.
        each.weight -= each.weight.mean((1, 2, 3), keepdim=True)
        each.bias.zero_()  # type: ignore[union-attr]
    layers = [convolutions[0], nn.ReLU(), nn.MaxPool2d(2), convolutions[1], nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)]
    return nn.Sequential(*layers).double()


def test_convolutions_are_matched_as_published() -> None:
    """A channel's activations behind its relu, flattened over batch and space."""
    a, b = cnn(0), cnn(1)
    images = torch.randn(60, 3, 8, 8, dtype=torch.float64)
    alignment = align(a, b, images)
    found = [element.permutation.tolist() for element in alignment.transformation.elements]

    def matched(depth: int) -> list[int]:
        with torch.no_grad():
            seen = [each[:depth](images).movedim(1, 0).flatten(1) for each in (a, b)]
        rows = [nn.functional.normalize(units).numpy() for units in seen]
        columns: list[int] = linear_sum_assignment(rows[0] @ rows[1].T, maximize=True)[1].tolist()
        return columns

    assert alignment.idle == (((), ()), ((), ()))
    assert found == [matched(2), matched(5)]
    # What is left behind the pools would be matched otherwise.
    assert matched(2) != matched(3)
    assert matched(5) != matched(6)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveMaxPool2d(1),
        nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(4)),
        Mean(),
    ],
    ids=["average", "maximum", "twice", "mean"],
)
def test_every_pixel_is_seen_before_it_is_pooled(pool: nn.Module) -> None:
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.Dropout()
    network = nn.Sequential(*layers, nn.Linear(6, 2)).double().eval()
    images = torch.randn(20, 3, 8, 8, dtype=torch.float64)
    symmetries = symmetry_groups(network, images)
    (units,) = symmetries.activations(state_of(network), images)
    torch.testing.assert_close(units, network[:2](images).movedim(1, 0).flatten(1).detach())
    # What happens behind a pool is seen behind it.
    network[3] = nn.Sequential(nn.Tanh(), nn.Flatten())
    (units,) = symmetry_groups(network, images).activations(state_of(network), images)
    torch.testing.assert_close(units, network[:4](images).T.detach())


def test_signs_scales_and_phases_are_left_alone_where_not_wanted() -> None:
    network = ARCHITECTURES["recurrent-lru"]
    a, b, inputs = network.network(0), network.network(1), network.batch()
    alignment = align(a, b, inputs, signs=False, phases=False, forward=network.forward)
    for element in alignment.transformation.elements:
        assert (element.factor == 1).all()
        assert not element.conjugated.any()
    alignment = align(a, b, inputs, phases=False, forward=network.forward)
    factors = np.concatenate([element.factor for element in alignment.transformation.elements])
    assert set(factors.tolist()) == {-1.0, 1.0}


def test_alignment_lies_closer_than_what_it_began_with() -> None:
    a, b = mlp(0), mlp(1)

    def distance(other: nn.Module) -> float:
        here, there = (nn.utils.parameters_to_vector(each.parameters()) for each in (a, other))
        return float((here - there).detach().norm())

    for method in ("weights", "both"):
        alignment = align(a, b, observations(), method=method)
        assert distance(alignment.apply(b)) < distance(b)


def test_the_midpoint_is_half_way_between_what_is_matched() -> None:
    a, b = mlp(0), mlp(1)
    alignment = align(a, b, observations())
    moved = alignment.apply(b).state_dict()
    for name, tensor in alignment.interpolate(0.5).state_dict().items():
        torch.testing.assert_close(tensor, (a.state_dict()[name] + moved[name]) / 2)
    torch.testing.assert_close(alignment.interpolate(1).state_dict(), moved)


def test_units_that_never_fire_are_reported_and_matched_last() -> None:
    a = mlp(0, activation=nn.ReLU)
    with torch.no_grad():
        a.get_parameter("0.bias")[[2, 7]] = -100.0
        a.get_parameter("0.bias")[5] = 3.0
        a.get_parameter("0.weight")[5] = 0.0  # it is on, and never changes
    groups = symmetry_groups(a, observations()).groups
    done = Transformation.random(groups, np.random.default_rng(1)).elements[0]
    first = Transformation(groups, (done, Element.identity(groups[1])))
    alignment = align(a, first.apply(a), observations(), scales=True)
    of_a, of_b = alignment.idle[0]
    assert of_a == (2, 5, 7)
    assert sorted(done.permutation[list(of_b)].tolist()) == [2, 5, 7]
    # All others are found, and those are matched with one another.
    undone = alignment.transformation.elements[0].after(done)
    active = [unit for unit in range(12) if unit not in of_a]
    assert undone.permutation[active].tolist() == active
    assert alignment.similarity[0] == pytest.approx(1)


@pytest.mark.parametrize("scales", [False, True])
def test_idle_units_of_all_layers_are_told_apart_by_their_weights(scales: bool) -> None:
    a = mlp(0, activation=nn.ReLU)
    with torch.no_grad():
        for name in ("0.bias", "2.bias"):
            a.get_parameter(name)[[1, 4, 7]] = -100.0
    groups = symmetry_groups(a, observations()).without(*(() if scales else ("scale",))).groups
    done = Transformation.random(groups, np.random.default_rng(1))
    alignment = align(a, done.apply(a), observations(), scales=scales)
    assert all({1, 4, 7} <= {*of_a} for of_a, _ in alignment.idle)
    for element in alignment.transformation.after(done).elements:
        assert element.permutation.tolist() == [*range(12)]


def test_a_wrong_specification_is_caught() -> None:
    network = mlp(0).double()
    (group, _) = symmetry_groups(network, observations().double())
    forgotten = Group(group.name, group.size, group.symmetries, group.sites[:-1])
    permutation = np.roll(np.arange(12), 1)
    wrong = Transformation((forgotten,), (Element.permuting(permutation, forgotten),))
    with pytest.raises(NotEquivalentError, match="computes something else"):
        verify(network, wrong, observations().double())
    # Scaling what stands before a tanh is wrong, too, and a site too many.
    scaled = Element(np.arange(12), np.full(12, 2.0), np.zeros(12, bool))
    with pytest.raises(NotEquivalentError):
        verify(network, Transformation((group,), (scaled,)), observations())
    more = Group(
        group.name,
        group.size,
        group.symmetries,
        (*group.sites, Site("2.weight", 0, np.arange(12)[:, None], 0)),
    )
    many = Transformation((more,), (Element.permuting(permutation, more),))
    with pytest.raises(NotEquivalentError):
        verify(network, many, observations())


def test_a_branch_that_was_not_traced_is_caught() -> None:
    class Switching(nn.Module):
        """Flipping units is right for what it does with one batch, and wrong for another."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.first(inputs)
            odd = len(inputs) == 200
            return self.last(torch.tanh(hidden) if odd else torch.relu(hidden))

    torch.manual_seed(0)
    a, b = Switching(), Switching()
    alignment = align(a, b, observations(200))
    assert alignment.verify(observations(200)) < 1e-9
    with pytest.raises(NotEquivalentError):
        alignment.verify(observations(100))


def test_an_alignment_survives_a_file(tmp_path: Path) -> None:
    architecture = ARCHITECTURES["recurrent-lru"]
    a, b, inputs = architecture.network(0), architecture.network(1), architecture.batch()
    alignment = align(a, b, inputs, forward=architecture.forward)
    alignment.save(tmp_path / "alignment.safetensors")
    again = Alignment.load(tmp_path / "alignment.safetensors", a, b, architecture.forward)
    assert again.idle == alignment.idle
    assert again.similarity == alignment.similarity
    expected = state_of(alignment.interpolate(0.3))
    for name, tensor in state_of(again.interpolate(0.3)).items():
        assert torch.equal(tensor, expected[name])
    assert again.verify(inputs) < 1e-9


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    from skillrl.files import write_tensors

    a, b = mlp(0), mlp(1)
    path = tmp_path / "alignment.safetensors"
    with pytest.raises(DamagedFileError, match="does not exist"):
        Alignment.load(path, a, b)
    write_tensors(path, {}, {"format": "carry"})
    with pytest.raises(DamagedFileError, match="holds no alignment but 'carry'"):
        Alignment.load(path, a, b)
    alignment = align(a, b, observations())
    tensors, groups = alignment.transformation.packed()
    description = {"format": "alignment", "groups": groups, "similarity": [], "idle": []}
    for name, value in (
        ("0.permutation", np.zeros(12, np.int64)),
        ("0.factor", np.zeros((12, 2))),
        ("0.factor", np.ones((3, 2))),
        ("0.factor", np.full((12, 2), np.nan)),
        ("0.permutation", np.arange(12.0)),
        ("0.conjugated", np.zeros(12)),
    ):
        write_tensors(path, {**tensors, name: value}, description)
        with pytest.raises(DamagedFileError, match="group 0"):
            Alignment.load(path, a, b)
    write_tensors(path, {}, description)
    with pytest.raises(DamagedFileError, match="damaged"):
        Alignment.load(path, a, b)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("index", [*range(12)], "no whole positions of 12 units"),
        ("index", [[unit] for unit in range(11)], "no whole positions of 12 units"),
        ("index", [[unit + 0.5] for unit in range(12)], "no whole positions of 12 units"),
        ("index", [[10**30] for _ in range(12)], "no whole positions of 12 units"),
        ("index", [[unit] for unit in (0, *range(11))], "one for several units"),
        ("index", [[unit - 1] for unit in range(12)], "positions below 0"),
        ("axis", -1, r"axes -1 and None"),
        ("axis", "0", r"axes '0' and None"),
        ("parts", 0, r"axes 0 and 0"),
        ("power", 2, "power 2"),
        ("angle", "0.angle", "no site at its angle '0.angle'"),
    ],
)
def test_positions_of_units_in_a_file_are_checked(
    key: str, value: Any, message: str, tmp_path: Path
) -> None:
    from skillrl.files import write_tensors

    a, b = mlp(0), mlp(1)
    tensors, groups = align(a, b, observations()).transformation.packed()
    (groups[0] if key == "angle" else groups[0]["sites"][0])[key] = value
    description: dict[str, Any] = {"groups": groups, "similarity": [], "idle": []}
    one = {**description, "format": "alignment"}
    write_tensors(tmp_path / "alignment.safetensors", tensors, one)
    with pytest.raises(DamagedFileError, match=rf"alignment\.safetensors is damaged: .*{message}"):
        Alignment.load(tmp_path / "alignment.safetensors", a, b)
    both = {f"{number}.{name}": part for number in range(2) for name, part in tensors.items()}
    two = {**description, "format": "alignments", "count": 2}
    write_tensors(tmp_path / "alignments.safetensors", both, two)
    with pytest.raises(DamagedFileError, match=rf"alignments\.safetensors is damaged: .*{message}"):
        Alignments.load(tmp_path / "alignments.safetensors", [a, b])


def test_different_architectures_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"0\.weight is .*12.* and .*13"):
        align(mlp(0), mlp(1, 13), observations())
    with pytest.raises(InvalidValueError, match="1 is a Tanh and a ReLU"):
        align(mlp(0), mlp(1, activation=nn.ReLU), observations())
    with pytest.raises(InvalidValueError, match="different architectures"):
        align(mlp(0), nn.Sequential(*mlp(1), nn.Linear(2, 2)), observations())
    with pytest.raises(InvalidValueError, match="5 is absent and a Dropout"):
        align(mlp(0), nn.Sequential(*mlp(1), nn.Dropout()), observations())
    with pytest.raises(InvalidValueError, match="different architectures"):
        interpolate(mlp(0), mlp(1, 13), 0.5)


def test_weights_that_are_not_finite_are_refused() -> None:
    broken = mlp(1)
    with torch.no_grad():
        broken.get_parameter("2.weight")[3, 4] = torch.nan
    with pytest.raises(InvalidValueError, match=r"2\.weight of network 1 .* not finite"):
        align(mlp(0), broken, observations())


def test_observations_that_say_nothing_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"9 observation\(s\) are too few"):
        align(mlp(0), mlp(1), observations(9))
    with pytest.raises(InvalidValueError, match="observations that differ"):
        align(mlp(0), mlp(1), torch.ones(200, 3))
    with pytest.raises(InvalidValueError, match="activations that are not finite"):
        align(mlp(0), mlp(1), torch.full((200, 3), torch.inf))


def test_what_cannot_be_aligned_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="no hidden units"):
        align(nn.Linear(3, 2), nn.Linear(3, 2), observations())
    with pytest.raises(InvalidValueError, match="method should be one of activations, weights"):
        align(mlp(0), mlp(1), observations(), method="by hand")  # type: ignore[arg-type]

    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(self.first(inputs).sort(-1).values)

    with pytest.raises(UnsupportedOperationError, match="'sort'"):
        align(Sorted(), Sorted(), observations())


def test_flipped_units_are_worse_matched_by_permutations_alone() -> None:
    a = mlp(0)
    groups = symmetry_groups(a, observations()).groups
    b = Transformation.random(groups, np.random.default_rng(0)).apply(a)
    signed, unsigned = (align(a, b, observations(), signs=signs) for signs in (True, False))
    assert min(signed.similarity) == pytest.approx(1, abs=1e-4)
    assert max(unsigned.similarity) < 0.95


@pytest.mark.parametrize("method", ["weights", "both"])
def test_statistics_do_not_outweigh_weights(method: Any) -> None:
    def network() -> nn.Sequential:
        layers: list[nn.Module] = []
        for size in (5, 16):
            layers += [nn.Linear(size, 16), nn.BatchNorm1d(16), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(16, 2)).double()

    torch.manual_seed(0)
    first, seen = network(), [10 * torch.randn(50, 5, dtype=torch.float64) for _ in range(2)]
    groups = symmetry_groups(first.eval(), seen[0]).groups
    planted = Transformation.random(groups, np.random.default_rng(0))
    second = planted.apply(first)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1 * parameter.std() * torch.randn_like(parameter))
    # Each has statistics of its own, far larger than weights.
    a, b = (
        recalculate_batch_norm(each, [batch])
        for each, batch in zip((first, second), seen, strict=True)
    )
    assert float(a.get_buffer("1.running_var").median()) > 10
    found = align(a, b, seen[0], method=method).transformation
    for element in found.after(planted).elements:
        assert element.permutation.tolist() == [*range(16)]
    # They move with their units all the same.
    assert align(a, planted.apply(a), seen[0], method=method).verify(seen[0]) < 1e-9


class _Elsewhere(TorchFunctionMode):
    """As on a GPU: no array is made of what `cpu()` has not brought here."""

    def __init__(self) -> None:
        super().__init__()
        self.here: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.numpy and not any(args[0] is each for each in self.here):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        found = func(*args, **(kwargs or {}))
        if func is Tensor.cpu:
            self.here.append(found)
        return found


@pytest.mark.parametrize("method", ["activations", "both"])
def test_signs_and_phases_are_brought_from_the_device(method: Any) -> None:
    architecture = ARCHITECTURES["recurrent-lru"]
    networks, inputs = [architecture.network(seed) for seed in (0, 1)], architecture.batch()
    arguments = networks, inputs, method, True, True, True, architecture.forward
    symmetries, (a, b) = observe(*arguments)
    expected = match(symmetries.groups, a, b, method)
    with _Elsewhere():
        found = match(symmetries.groups, a, b, method)
    assert found.same_as(expected)
