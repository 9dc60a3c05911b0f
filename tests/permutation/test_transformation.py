import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from architectures import ARCHITECTURES, Architecture
from skillrl.errors import InvalidValueError
from skillrl.permutation import Element, Transformation, symmetry_groups, verify
from skillrl.permutation.symmetries import Group
from skillrl.permutation.trace import evaluate, state_of

every_architecture = pytest.mark.parametrize(
    "architecture", ARCHITECTURES.values(), ids=ARCHITECTURES
)


@every_architecture
def test_a_transformed_network_is_the_same_function(architecture: Architecture) -> None:
    network, inputs = architecture.network(), architecture.batch()
    groups = symmetry_groups(network, inputs, architecture.forward).groups
    transformation = Transformation.random(groups, np.random.default_rng(0))
    other = transformation.apply(network)
    outputs = [
        pytree.tree_leaves(evaluate(each, inputs, architecture.forward))
        for each in (network, other)
    ]
    for before, after in zip(*outputs, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    # All that hidden units stand on has changed, and is restored.
    changed = {site.tensor for group in groups for site in group.sites}
    restored = transformation.inverse().apply(other)
    for name, tensor in state_of(network).items():
        assert torch.equal(state_of(other)[name], tensor) == (name not in changed), name
        torch.testing.assert_close(state_of(restored)[name], tensor, rtol=1e-12, atol=1e-12)


ACTIVATIONS: list[type[nn.Module]] = [nn.Tanh, nn.ReLU, nn.SiLU, nn.Identity, nn.Sigmoid]


class Random(nn.Module):
    """Dense layers with or without norms, residual connections and concatenated inputs."""

    def __init__(self, layers: list[tuple[int, type[nn.Module], str, str]]) -> None:
        super().__init__()
        self.layers, self.norms, self.activations = nn.ModuleList(), nn.ModuleList(), []
        self.ways = [way for *_, way in layers]
        width = 3
        for units, activation, norm, way in layers:
            units = width if way == "add" else units
            self.layers.append(nn.Linear(width, units))
            norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": nn.Identity}
            self.norms.append(norms[norm](units))
            self.activations.append(activation())
            width = units + (width if way == "cat" else 0)
        self.head = nn.Linear(width, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        parts = zip(self.layers, self.norms, self.activations, self.ways, strict=True)
        for layer, norm, activation, way in parts:
            found = activation(norm(layer(hidden)))
            if way == "add":
                found = hidden + found
            hidden = torch.cat([hidden, found], -1) if way == "cat" else found
        return self.head(hidden)


layers = st.tuples(
    st.integers(2, 6),
    st.sampled_from(ACTIVATIONS),
    st.sampled_from(["none", "batch", "layer"]),
    st.sampled_from(["on", "add", "cat"]),
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(layers, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_no_transformation_of_any_network_changes_it(
    layers: list[tuple[int, type[nn.Module], str, str]], seed: int
) -> None:
    torch.manual_seed(seed)
    network = Random(layers).double().eval()
    inputs = torch.randn(20, 3, dtype=torch.float64)
    groups = symmetry_groups(network, inputs).groups
    transformation = Transformation.random(groups, np.random.default_rng(seed))
    assert verify(network, transformation, inputs) <= 1e-9


def complex_group(size: int) -> Group:
    return Group("states", size, frozenset({"permutation", "phase", "conjugation", "scale"}), ())


@pytest.mark.parametrize("seed", range(5))
def test_elements_are_a_group_that_acts_on_activations(seed: int) -> None:
    generator = np.random.default_rng(seed)
    group = complex_group(6)
    first, second, third = (Element.random(group, generator) for _ in range(3))
    units = torch.randn(6, 4, dtype=torch.complex128)
    # What is done in one step is what is done in two …
    torch.testing.assert_close(second.after(first).of(units), second.of(first.of(units)))
    # … in whatever order the steps are put together, and it can be undone.
    torch.testing.assert_close(
        third.after(second).after(first).of(units), third.after(second.after(first)).of(units)
    )
    torch.testing.assert_close(first.inverse().of(first.of(units)), units)
    torch.testing.assert_close(first.of(first.inverse().of(units)), units)


def test_an_element_by_hand() -> None:
    element = Element(np.array([1, 0]), np.array([2j, -1.0]), np.array([True, False]))
    units = torch.tensor([[1 + 1j], [3 + 4j]])
    # 2i times the conjugate of 3 + 4i, and minus 1 + i.
    assert element.of(units).tolist() == [[8 + 6j], [-1 - 1j]]


def test_a_layer_by_hand() -> None:
    network = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))
    with torch.no_grad():
        network.get_parameter("0.weight").copy_(torch.tensor([[1.0], [2.0]]))
        network.get_parameter("0.bias").copy_(torch.tensor([3.0, 4.0]))
        network.get_parameter("2.weight").copy_(torch.tensor([[5.0, 6.0]]))
    groups = symmetry_groups(network, torch.zeros(1, 1)).groups
    element = Element(np.array([1, 0]), np.array([1.0, -1.0]), np.zeros(2, bool))
    other = Transformation(groups, (element,)).apply(network)
    state = other.state_dict()
    assert state["0.weight"].tolist() == [[2.0], [-1.0]]
    assert state["0.bias"].tolist() == [4.0, -3.0]
    assert state["2.weight"].tolist() == [[6.0, -5.0]]


def test_another_architecture_is_refused() -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    groups = symmetry_groups(network, torch.zeros(1, 3)).groups
    transformation = Transformation.identity(groups)
    smaller = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 2))
    with pytest.raises(InvalidValueError, match=r"0\.weight.*another architecture"):
        transformation.apply(smaller)
    with pytest.raises(InvalidValueError, match=r"no '0\.weight'"):
        transformation.apply(nn.Identity())
