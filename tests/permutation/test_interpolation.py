import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skillrl.errors import InvalidValueError
from skillrl.permutation import (
    barrier,
    interpolate,
    recalculate_batch_norm,
    repair,
    symmetry_groups,
    tuned_temperature,
    walk,
)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1.0, 1.0, 1.0], 0.0),
        ([1.0, 3.0, 1.0], 0.0),  # a path above the line has none
        ([2.0, 0.5, 1.0], 1.0),  # 1.5 in the middle of the line
        ([-200.0, -300.0, -900.0, -250.0, -300.0], 650.0),
    ],
)
def test_barriers_by_hand(scores: list[float], expected: float) -> None:
    assert barrier(scores) == pytest.approx(expected)
    assert barrier([-score for score in scores], losses=True) == pytest.approx(expected)


def test_barriers_at_uneven_places() -> None:
    # The line is 1.0 at 0.1 and 1.8 at 0.9 of the way.
    assert barrier([0.9, 0.8, 1.7, 1.9], [0.0, 0.1, 0.9, 1.0]) == pytest.approx(0.2)


def test_a_barrier_relative_to_a_random_policy() -> None:
    assert barrier([-200.0, -1000.0, -300.0], random=-1250.0) == pytest.approx(0.75)
    with pytest.raises(InvalidValueError, match="better than it"):
        barrier([1.0, 0.0, 1.0], random=1.0)


@pytest.mark.parametrize("scores", [[1.0, 2.0], [1.0, np.nan, 1.0]])
def test_scores_that_make_no_barrier_are_refused(scores: list[float]) -> None:
    with pytest.raises(InvalidValueError, match="finite scores"):
        barrier(scores)


def test_a_walk_scores_the_networks_on_the_way() -> None:
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        a.weight.fill_(1.0)
        b.weight.fill_(3.0)

    def score(network: nn.Module) -> float:
        assert isinstance(network, nn.Linear)
        return network.weight.item()

    path = walk(a, b, score, alphas=[0.0, 0.25, 1.0])
    assert path.scores == (1.0, 1.5, 3.0)
    assert path.barrier() == 0.0
    doubled = walk(a, b, score, [0.0, 0.5, 1.0], mend=lambda n, alpha: interpolate(n, n, alpha))
    assert doubled.scores == (1.0, 2.0, 3.0)
    with pytest.raises(InvalidValueError, match="alphas from 0 to 1"):
        walk(a, b, score, alphas=[0.5, 1.0, 0.0])


def test_buffers_are_interpolated_and_counters_are_not() -> None:
    a, b = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    b.running_mean = torch.tensor([2.0, 4.0])
    b.get_buffer("num_batches_tracked").fill_(9)
    middle = interpolate(a, b, 0.25)
    assert middle.get_buffer("running_mean").tolist() == [0.5, 1.0]
    assert int(middle.get_buffer("num_batches_tracked")) == 0


@pytest.mark.parametrize("bias", [True, False])
def test_repaired_units_vary_as_those_they_were_merged_from(bias: bool) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(500, 3)

    def network() -> nn.Sequential:
        layers = nn.Linear(3, 8, bias=bias), nn.ReLU(), nn.Linear(8, 6, bias=bias), nn.ReLU()
        return nn.Sequential(*layers, nn.Linear(6, 2, bias=bias))

    a, b, alpha = network(), network(), 0.25
    groups = symmetry_groups(a, inputs).groups
    merged = interpolate(a, b, alpha)
    repaired = repair(merged, a, b, alpha, inputs, groups)
    for depth in (1, 3):  # what each of the two hidden layers gives, before its relu
        outputs = [part[:depth](inputs) for part in (a, b, repaired)]  # type: ignore[index]
        for moment in (Tensor.mean, Tensor.std):
            of_a, of_b, of_repaired = (moment(output, 0) for output in outputs)
            torch.testing.assert_close(of_repaired, (1 - alpha) * of_a + alpha * of_b)
    # The read-out is as it was, and so is the network that was given.
    assert torch.equal(repaired[4].weight, merged[4].weight)  # type: ignore[index]
    torch.testing.assert_close(merged[0].weight, interpolate(a, b, alpha)[0].weight)  # type: ignore[index]


def test_channels_are_repaired_too() -> None:
    torch.manual_seed(0)
    images = torch.randn(50, 2, 6, 6)

    def network() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))

    a, b = network(), network()
    groups = symmetry_groups(a, images).groups
    repaired = repair(interpolate(a, b, 0.5), a, b, 0.5, images, groups)
    of_a, of_b, found = (each[0](images).std((0, 2, 3)) for each in (a, b, repaired))  # type: ignore[index]
    torch.testing.assert_close(found, (of_a + of_b) / 2, rtol=1e-3, atol=1e-3)


def test_batch_norm_statistics_are_those_of_the_batches() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    batches = [torch.randn(50, 3) + 2 for _ in range(3)]
    found = recalculate_batch_norm(network, batches)
    outputs = [network[0](batch) for batch in batches]
    torch.testing.assert_close(
        found.get_buffer("1.running_mean"), torch.stack([o.mean(0) for o in outputs]).mean(0)
    )
    torch.testing.assert_close(
        found.get_buffer("1.running_var"), torch.stack([o.var(0) for o in outputs]).mean(0)
    )
    assert not found.training
    assert network.training
    assert network.get_buffer("1.running_mean").tolist() == [0.0] * 4
    assert network[1].momentum == 0.1


def test_the_best_temperature_by_hand() -> None:
    # Logits ±1 that are right three times of four: the best odds are 3 : 1, so 2 / T = ln 3.
    logits = torch.tensor([[1.0, -1.0]] * 4)
    labels = torch.tensor([0, 0, 0, 1])
    assert tuned_temperature(logits, labels) == pytest.approx(2 / np.log(3), rel=1e-4)


class Twice(nn.Module):
    """A layer that is called twice, or two layers that share a weight."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.again = nn.Linear(8, 8) if shared else self.inner
        self.again.weight = self.inner.weight

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs).tanh()
        return self.last(self.again(self.inner(hidden).tanh()).tanh())


@pytest.mark.parametrize(
    ("shared", "message"),
    [(False, r"layer inner is called more"), (True, "layers inner and again share a weight")],
)
def test_layers_at_several_places_are_not_repaired(shared: bool, message: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(50, 3)
    a, b = Twice(shared=shared), Twice(shared=shared)
    groups = symmetry_groups(a, inputs).groups
    with pytest.raises(InvalidValueError, match=message):
        repair(interpolate(a, b, 0.5), a, b, 0.5, inputs, groups)
    # Groups that no such layer makes can be repaired.
    outer = [group for group in groups if group.name == "last.weight"]
    repair(interpolate(a, b, 0.5), a, b, 0.5, inputs, outer)


class Written(nn.Module):
    """A layer that is written as a product, or whose weight is used without it."""

    def __init__(self, *, product: bool) -> None:
        super().__init__()
        self.product = product
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.weight = nn.Parameter(torch.randn(8, 3))
        self.norm = nn.LayerNorm(8)

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.weight if self.product else self.first.weight
        return self.last(torch.tanh(self.norm(inputs @ weight.T)))


@pytest.mark.parametrize(("product", "name"), [(True, "weight"), (False, "first.weight")])
def test_what_is_no_layer_is_not_repaired_in_silence(product: bool, name: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(50, 3)
    a, b = Written(product=product), Written(product=product)
    groups = symmetry_groups(a, inputs).groups
    with pytest.raises(InvalidValueError, match=rf"no such call is seen: {name}\."):
        repair(interpolate(a, b, 0.5), a, b, 0.5, inputs, groups)
