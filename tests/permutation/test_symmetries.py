from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from architectures import ACTIVATIONS, ARCHITECTURES, chunk
from skillrl.errors import InvalidValueError, UnsupportedOperationError
from skillrl.permutation import Transformation, symmetry_groups, verify
from skillrl.permutation.symmetries import Group
from skillrl.permutation.trace import state_of


def groups_of(name: str) -> tuple[Group, ...]:
    architecture = ARCHITECTURES[name]
    network = architecture.network()
    return symmetry_groups(network, architecture.batch(), architecture.forward).groups


def sites(group: Group) -> list[tuple[str, int, int]]:
    return [(site.tensor, site.axis, site.power) for site in group.sites]


@pytest.mark.parametrize(
    ("activation", "symmetries"),
    [
        ("relu", {"scale"}),
        ("leaky-relu", {"scale"}),
        ("tanh", {"sign"}),
        ("hardtanh", {"sign"}),
        ("silu", set()),
        ("gelu", set()),
        ("elu", set()),
        ("sigmoid", set()),
        ("softplus", set()),
        ("prelu", {"scale"}),
    ],
)
def test_the_activation_decides(activation: str, symmetries: set[str]) -> None:
    network = nn.Sequential(nn.Linear(5, 4), ACTIVATIONS[activation](), nn.Linear(4, 2))
    (group,) = symmetry_groups(network, torch.zeros(1, 5))
    assert group.size == 4
    assert group.symmetries == {"permutation", *symmetries}
    power = 1 if symmetries else 0
    assert sites(group) == [
        ("0.weight", 0, power),
        ("0.bias", 0, power),
        ("2.weight", 1, -power),
    ]


class Converting(nn.Module):
    """Converts its type to the one that a layer has, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden: Tensor = self.first(inputs.float()).relu()
        return self.second(hidden.to(self.second.weight.dtype))


def test_conversions_of_type_let_symmetries_pass() -> None:
    (group,) = symmetry_groups(Converting(), torch.zeros(1, 3, dtype=torch.uint8))
    assert sites(group) == [
        ("first.weight", 0, 1),
        ("first.bias", 0, 1),
        ("second.weight", 1, -1),
    ]


def test_slopes_move_with_their_units() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.PReLU(4), nn.Linear(4, 2))
    (group,) = symmetry_groups(network, torch.zeros(1, 5))
    assert ("1.weight", 0, 0) in sites(group)


def test_a_flattened_image_has_slots() -> None:
    first, second, dense = groups_of("convolutions")
    # Behind a batch norm units cannot be scaled, and relu lets none be flipped.
    assert first.symmetries == {"permutation"}
    assert {"1.weight", "1.bias", "1.running_mean", "1.running_var"} <= {
        site.tensor for site in first.sites
    }
    assert second.symmetries == {"permutation", "scale"}
    flattened = next(site for site in second.sites if site.tensor == "8.weight")
    assert flattened.axis == 1
    # Each of 5 channels has 2 × 2 pixels, next to one another.
    assert flattened.index.tolist() == torch.arange(20).view(5, 4).tolist()
    assert dense.symmetries == {"permutation", "sign"}


def test_a_residual_stream_is_one_group() -> None:
    stream, inner = groups_of("residual")
    assert stream.symmetries == {"permutation"}  # a layer norm subtracts the mean
    assert {(site.tensor, site.axis) for site in stream.sites} == {
        ("encoder.weight", 0),
        ("encoder.bias", 0),
        ("norm.weight", 0),
        ("norm.bias", 0),
        ("inner.weight", 1),
        ("outer.weight", 0),
        ("outer.bias", 0),
        ("head.weight", 1),
    }
    head = next(site for site in inner.sites if site.tensor == "head.weight")
    assert head.index.flatten().tolist() == list(range(8, 18))


def test_halves_of_a_gated_linear_unit_go_together() -> None:
    _, gated = groups_of("gated")
    assert gated.size == 6
    # The linear half can be flipped and scaled, the gate can not.
    linear, gate = (site for site in gated.sites if site.tensor == "gate.weight")
    assert (linear.power, linear.index.flatten().tolist()) == (1, [0, 1, 2, 3, 4, 5])
    assert (gate.power, gate.index.flatten().tolist()) == (0, [6, 7, 8, 9, 10, 11])


def test_a_batch_norm_before_tanh_lets_units_be_flipped() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).eval()
    (group,) = symmetry_groups(network, torch.zeros(2, 5))
    assert group.symmetries == {"permutation", "sign"}
    assert {tensor: power for tensor, _, power in sites(group)} == {
        "0.weight": 1,
        "0.bias": 1,
        "1.weight": 0,
        "1.bias": 1,
        "1.running_mean": 1,
        "1.running_var": 0,
        "3.weight": -1,
    }


def test_actor_and_critic_have_groups_of_their_own() -> None:
    groups = groups_of("actor-critic")
    assert [group.name for group in groups] == [
        f"mlp_extractor.{part}_net.{layer}.weight"
        for part in ("policy", "value")
        for layer in (0, 2)
    ]
    assert all(group.symmetries == {"permutation", "sign"} for group in groups)


def test_states_of_a_linear_recurrent_unit_have_phases() -> None:
    states = groups_of("recurrent-shared")[1]
    layer = "recurrences.shared.layer"
    assert states.size == 7
    assert states.symmetries == {"permutation", "sign", "scale", "phase", "conjugation"}
    assert states.angle == f"{layer}.theta_log"
    assert {site.tensor: (site.axis, site.power, site.parts) for site in states.sites} == {
        f"{layer}.input_weight": (1, 1, 2),
        f"{layer}.nu_log": (0, 0, None),
        f"{layer}.theta_log": (0, 0, None),
        f"{layer}.gamma_log": (0, 0, None),
        f"{layer}.output_weight": (0, -1, 1),
    }


@pytest.mark.parametrize(
    ("name", "symmetries"),
    [
        ("recurrent-linear-rtu", {"permutation", "scale"}),  # relu
        ("stack-rtu", {"permutation", "sign"}),  # tanh
        ("recurrent-nonlinear-rtu", {"permutation", "sign"}),
        ("recurrent-gru", {"permutation"}),
        ("stack-rnn", {"permutation", "sign", "scale"}),
    ],
)
def test_other_recurrent_units(name: str, symmetries: set[str]) -> None:
    found = [group for group in groups_of(name) if group.size in (5, 7)]
    assert found
    assert all(group.symmetries == symmetries for group in found)


class Cumulative(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.after(self.before(inputs).cumsum(-1))


def test_an_operation_that_is_not_understood_is_refused_by_name() -> None:
    expected = r"'cumsum' is applied to hidden units \(of before\.weight, before\.bias\)"
    with pytest.raises(UnsupportedOperationError, match=expected):
        symmetry_groups(Cumulative(), torch.zeros(1, 3))


def test_what_is_done_to_outputs_does_not_matter() -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4))
    (group,) = symmetry_groups(network, torch.zeros(2, 3), lambda m, x: m(x).sort(-1).values)
    assert group.size == 8


def test_grouped_convolutions_are_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2))
    with pytest.raises(UnsupportedOperationError, match="'conv2d'"):
        symmetry_groups(
            nn.Sequential(network, nn.Flatten(), nn.Linear(4, 1)), torch.zeros(1, 1, 1, 1)
        )


def test_of_attention_the_layer_is_named() -> None:
    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.first(inputs)[:, None]
            return self.last(self.attention(hidden, hidden, hidden)[0])

    with pytest.raises(
        UnsupportedOperationError, match=r"part of MultiheadAttention \(attention\)"
    ):
        symmetry_groups(Attentive(), torch.zeros(4, 3))


@pytest.mark.parametrize(
    "inputs", [torch.zeros(4, 5), np.zeros((4, 3)), torch.zeros(4, 3).double()]
)
def test_inputs_that_a_network_does_not_take(inputs: Any) -> None:
    network = nn.Sequential(nn.Linear(3, 4).float(), nn.ReLU(), nn.Linear(4, 2).float())
    with pytest.raises(InvalidValueError, match="Sequential does not take these inputs: "):
        symmetry_groups(network, inputs)


def test_a_computation_that_depends_on_values_is_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Branching(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs if inputs.sum() > 0 else -inputs

    line = r"line \d+, `return inputs if inputs\.sum\(\) > 0 else -inputs`"
    with pytest.raises(InvalidValueError, match=f"Branching cannot be traced.*{line}"):
        symmetry_groups(Branching(), torch.zeros(1, 3))
    # Torch prints the whole graph otherwise.
    assert capfd.readouterr() == ("", "")


def test_a_policy_is_refused_without_a_forward_and_understood_with_one() -> None:
    policy = ARCHITECTURES["recurrent-lru"].network()
    observations = torch.zeros(3, 2, 5, dtype=torch.float64)
    with pytest.raises(InvalidValueError, match="does not take these inputs"):
        symmetry_groups(policy, observations)
    assert len(symmetry_groups(policy, observations, chunk)) == 6


def test_a_network_is_left_as_it_was() -> None:
    network = ARCHITECTURES["convolutions"].network().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    symmetry_groups(network, ARCHITECTURES["convolutions"].batch())
    assert network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_groups_survive_json() -> None:
    for group in groups_of("recurrent-shared"):
        again = Group.from_json(group.to_json())
        assert str(again.to_json()) == str(group.to_json())


class Between(nn.Module):
    """A layer, something that is done with what it makes, and a layer."""

    def __init__(self, first: nn.Module, act: Callable[[Tensor], Tensor], last: nn.Module) -> None:
        super().__init__()
        self.first, self.act, self.last = first, act, last

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.act(self.first(inputs)))


def proven(network: nn.Module, inputs: Tensor) -> tuple[Group, ...]:
    """The groups of a network, of which a random element is shown to change no output."""
    groups = symmetry_groups(network, inputs).groups
    verify(network, Transformation.random(groups, np.random.default_rng(0)), inputs)
    return groups


def test_views_merge_channels_and_pixels() -> None:
    network = Between(
        nn.Conv2d(1, 4, 3), lambda hidden: hidden.relu().view(hidden.size(0), -1), nn.Linear(16, 2)
    )
    (group,) = proven(network, torch.randn(20, 1, 4, 4))
    assert group.size == 4
    read = next(site for site in group.sites if site.tensor == "last.weight")
    # Each of 4 channels has 2 × 2 pixels, next to one another.
    assert read.index.tolist() == torch.arange(16).view(4, 4).tolist()


def test_views_merge_units_at_several_places() -> None:
    network = Between(nn.Linear(5, 6), lambda hidden: hidden.tanh().view(-1, 24), nn.Linear(24, 2))
    (group,) = proven(network, torch.randn(20, 4, 5))
    assert group.size == 6
    assert group.symmetries == {"permutation", "sign"}
    read = next(site for site in group.sites if site.tensor == "last.weight")
    # All 6 units stand there at each of 4 places.
    assert read.index.tolist() == torch.arange(24).view(4, 6).T.tolist()


@pytest.mark.parametrize(
    "spread",
    [
        lambda norm, hidden: norm.expand_as(hidden),
        lambda norm, hidden: norm.expand(-1, 8),
        lambda norm, hidden: norm.broadcast_to(hidden.shape),
    ],
    ids=["expand_as", "expand", "broadcast_to"],
)
def test_what_is_spread_over_units_leaves_them_exchangeable(
    spread: Callable[[Tensor, Tensor], Tensor],
) -> None:
    def normalised(hidden: Tensor) -> Tensor:
        return hidden / spread(hidden.norm(dim=-1, keepdim=True), hidden)

    network = Between(nn.Linear(5, 8), normalised, nn.Linear(8, 2))
    (group,) = proven(network, torch.randn(20, 5))
    assert group.size == 8
    assert group.symmetries == {"permutation"}


def test_normalised_features_are_exchangeable() -> None:
    network = Between(nn.Linear(5, 8), partial(nn.functional.normalize, dim=-1), nn.Linear(8, 2))
    (group,) = proven(network, torch.randn(20, 5))
    assert group.size == 8
    assert group.symmetries == {"permutation"}


class Weighed(nn.Module):
    """Units that all meet one number, which a unit of its own makes."""

    def __init__(self, meet: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.weigh, self.last = nn.Linear(5, 8), nn.Linear(8, 1), nn.Linear(8, 2)
        self.meet = meet

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs).tanh()
        return self.last(self.meet(self.weigh(hidden), hidden))


@pytest.mark.parametrize(
    ("meet", "signs"),
    [
        (lambda number, hidden: hidden * number.expand_as(hidden), {"sign"}),
        (lambda number, hidden: hidden * number, {"sign"}),
        (lambda number, hidden: hidden + number, set()),
        (lambda number, hidden: torch.where(number > 0, hidden, -hidden), set()),
        (lambda number, hidden: (torch.softmax(number, 1) * hidden).sum(1), {"sign"}),
    ],
    ids=["expanded", "product", "sum", "choice", "attention"],
)
def test_what_a_unit_is_spread_over_keeps_its_symmetries(
    meet: Callable[[Tensor, Tensor], Tensor], signs: set[str]
) -> None:
    # Some steps of time, over which attention has a mean.
    (group,) = proven(Weighed(meet), torch.randn(20, 4, 5))
    # The number's own sign is that of all others' outputs: it has none.
    assert group.size == 8
    assert group.symmetries == {"permutation", *signs}
    assert "weigh.weight" in {site.tensor for site in group.sites}


def test_pools_that_say_where_they_found_the_largest() -> None:
    for pool, first, pixels in (
        (nn.AdaptiveMaxPool1d(1), nn.Conv1d(1, 4, 3), (8,)),
        (nn.AdaptiveMaxPool2d(1), nn.Conv2d(1, 4, 3), (8, 8)),
    ):
        layers = first, nn.ReLU(), pool, nn.Flatten()
        (group,) = proven(nn.Sequential(*layers, nn.Linear(4, 2)), torch.randn(20, 1, *pixels))
        assert group.size == 4
        assert group.symmetries == {"permutation", "scale"}


def test_parts_of_what_is_split_are_seen_one_by_one() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.left, self.right = nn.Linear(3, 8), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            left, right = self.first(inputs).tanh().chunk(2, -1)
            return self.left(left) + self.right(right)

    network, inputs = Halves(), torch.randn(20, 3)
    symmetries = symmetry_groups(network, inputs)
    assert [group.size for group in symmetries] == [4, 4]
    seen = symmetries.activations(state_of(network), inputs)
    torch.testing.assert_close(torch.cat(seen), network.first(inputs).tanh().detach().T)


def test_units_are_not_lost_to_what_they_are_repeated_over() -> None:
    network = Between(
        nn.Linear(5, 4),
        lambda hidden: hidden.sigmoid().unsqueeze(-1).expand(-1, -1, 9).flatten(1),
        nn.Linear(36, 2),
    )
    (group,) = proven(network, torch.randn(20, 5))
    assert group.size == 4


@pytest.mark.parametrize("flat", [True, False])
def test_copies_of_what_is_seen_are_no_units(flat: bool) -> None:
    class Copying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.last = nn.Parameter(torch.randn(3, 5, 8)), nn.Linear(8, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            copies = inputs.unsqueeze(1).expand(-1, 3, -1)
            if flat:
                return self.last(torch.tanh(copies.flatten(1) @ self.weight.flatten(0, 1)))
            return self.last(torch.tanh(torch.einsum("bti,tio->bo", copies, self.weight)))

    (group,) = proven(Copying(), torch.randn(20, 5))
    assert (sites(group)[0], group.size) == (("weight", 2, 1), 8)


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # of torch.export, on GRUs
@pytest.mark.parametrize(
    ("operation", "last", "shape"),
    [
        ("conv_transpose2d", nn.ConvTranspose2d(4, 2, 2), (3, 1, 4, 4)),
        ("conv2d", nn.Conv2d(4, 2, 1, groups=2), (3, 1, 4, 4)),
        ("lstm", nn.LSTM(8, 2), (3, 4, 5)),
        ("gru", nn.GRU(8, 2), (3, 4, 5)),
        ("gru_cell", nn.GRUCell(8, 2), (3, 5)),
    ],
)
def test_the_last_layer_is_refused_as_any_other_is(
    operation: str, last: nn.Module, shape: tuple[int, ...]
) -> None:
    first = nn.Linear(5, 8) if shape[-1] == 5 else nn.Conv2d(1, 4, 3)
    with pytest.raises(UnsupportedOperationError, match=rf"'{operation}'.*\(of first\.weight"):
        symmetry_groups(Between(first, torch.relu, last), torch.zeros(shape))


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # of torch.export, on GRUs
def test_what_stands_before_a_last_layer_is_refused_too() -> None:
    network = Between(nn.Linear(5, 8), lambda hidden: hidden.cumsum(-1), nn.GRU(8, 2))
    with pytest.raises(UnsupportedOperationError, match="'cumsum'"):
        symmetry_groups(network, torch.zeros(3, 4, 5))


def test_heads_are_refused() -> None:
    network = Between(nn.Linear(5, 8), lambda hidden: hidden.unflatten(-1, (2, 4)), nn.Linear(4, 2))
    with pytest.raises(UnsupportedOperationError, match="'unflatten'"):
        symmetry_groups(network, torch.zeros(3, 5))


def test_buffers_are_known_and_compared_where_nothing_else_is() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    (group,) = symmetry_groups(network, torch.zeros(2, 5))
    buffers = {site.tensor for site in group.sites if site.buffer}
    assert buffers == {"1.running_mean", "1.running_var"}
    assert {site.tensor for site in group.weights} == {
        *("0.weight", "0.bias", "1.weight", "1.bias", "3.weight")
    }
    alone = Group(group.name, 4, group.symmetries, tuple(s for s in group.sites if s.buffer))
    assert alone.weights == alone.sites
