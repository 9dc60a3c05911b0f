"""The gradient of every layer and rule, in float64 against backpropagation through time."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skillrl.errors import InvalidValueError
from skillrl.recurrent import (
    GRU,
    LRU,
    Carry,
    LinearRNN,
    LinearRTU,
    NonlinearRTU,
    RecurrentLayer,
    RecurrentStack,
)
from streams import doubles, gradients, worst

STEPS, BATCH, INPUTS, UNITS = 70, 3, 4, 5

Make = Callable[[], RecurrentLayer]
ONLINE: dict[str, Make] = {
    "lru": partial(LRU, INPUTS, UNITS, r_min=0.5),
    "linear-rtu": partial(LinearRTU, INPUTS, UNITS, activation="tanh", r_min=0.5),
    "linear-rtu-relu": partial(LinearRTU, INPUTS, UNITS, r_min=0.5),
    "nonlinear-rtu": partial(NonlinearRTU, INPUTS, UNITS, r_min=0.5),
    "nonlinear-rtu-relu": partial(NonlinearRTU, INPUTS, UNITS, activation="relu", r_min=0.5),
}
online = pytest.mark.parametrize("make", ONLINE.values(), ids=ONLINE)
# Anew in every chunk; at the first step of a chunk of 7; never.
RESETS = {"none": 0.0, "some": 0.1, "many": 0.5}
resets = pytest.mark.parametrize("share", RESETS.values(), ids=RESETS)


@pytest.fixture(autouse=True)
def in_doubles() -> Iterator[None]:
    yield from doubles()


def stream(outputs: int, share: float) -> tuple[Tensor, Tensor, Tensor | None]:
    starts = torch.rand(STEPS, BATCH) < share
    starts[14, 1] = share > 0  # the first step of a chunk of 7
    return (
        torch.randn(STEPS, BATCH, INPUTS),
        torch.randn(STEPS, BATCH, outputs),
        starts if share else None,
    )


@online
@resets
@pytest.mark.parametrize("chunk", [1, 7, 64, STEPS])
def test_online_equals_backpropagation_through_time(make: Make, share: float, chunk: int) -> None:
    layer = make()
    inputs, targets, starts = stream(layer.output_size, share)
    true = gradients(layer, inputs, targets, rule="bptt", chunk=STEPS, starts=starts)
    found = gradients(layer, inputs, targets, rule="online", chunk=chunk, starts=starts)
    assert worst(found, true) < 1e-10


@online
def test_truncation_does_not(make: Make) -> None:
    layer = make()
    inputs, targets, _ = stream(layer.output_size, 0)
    true = gradients(layer, inputs, targets, rule="bptt", chunk=STEPS)
    found = gradients(layer, inputs, targets, rule="truncated", chunk=7)
    assert worst(found, true, ["0.nu_log", "0.theta_log", "0.input_weight"]) > 0.05


@online
@pytest.mark.parametrize("chunk", [1, 7])
def test_one_step_is_truncation_at_one_step(make: Make, chunk: int) -> None:
    layer = make()
    inputs, targets, starts = stream(layer.output_size, 0.1)
    expected = gradients(layer, inputs, targets, rule="truncated", chunk=1, starts=starts)
    found = gradients(layer, inputs, targets, rule="one_step", chunk=chunk, starts=starts)
    assert worst(found, expected) < 1e-12


@online
def test_spatial_gives_the_recurrence_no_credit(make: Make) -> None:
    layer = make()
    inputs, targets, _ = stream(layer.output_size, 0)
    one_step = gradients(layer, inputs, targets, rule="one_step", chunk=7)
    spatial = gradients(layer, inputs, targets, rule="spatial", chunk=7)
    assert spatial["0.theta_log"].abs().max() == 0
    assert one_step["0.theta_log"].abs().min() > 0
    assert worst(spatial, one_step, ["0.input_weight"]) < 1e-12


@online
@pytest.mark.parametrize("chunk", [1, 7])
def test_parameters_below_the_layer_lack_the_path_across_borders(make: Make, chunk: int) -> None:
    layer, below = make(), nn.Linear(INPUTS, INPUTS)
    inputs, targets, _ = stream(layer.output_size, 0)
    true = gradients(layer, inputs, targets, rule="bptt", chunk=STEPS, below=below)
    found = gradients(layer, inputs, targets, rule="online", chunk=chunk, below=below)
    own = [name for name in true if name.startswith("0.")]
    assert worst(found, true, own) < 1e-10
    assert worst(found, true, ["1.weight"]) > 1e-3
    whole = gradients(layer, inputs, targets, rule="online", chunk=STEPS, below=below)
    assert worst(whole, true) < 1e-10


def test_in_a_stack_the_last_layer_is_exact_and_longer_chunks_come_closer_below() -> None:
    network = RecurrentStack(
        INPUTS, 2, width=6, depth=3, layer=lambda width: LRU(width, UNITS, r_min=0.5)
    )
    inputs, targets, starts = stream(2, 0.02)
    true = gradients(network, inputs, targets, rule="bptt", chunk=STEPS, starts=starts)
    errors = []
    last = [name for name in true if ".blocks.2.layer." in name]
    lower = [name for name in true if ".blocks.0.layer." in name]
    for chunk in (1, 16, STEPS):
        found = gradients(network, inputs, targets, rule="online", chunk=chunk, starts=starts)
        assert worst(found, true, last) < 1e-10
        errors.append(worst(found, true, lower))
    assert errors[0] > errors[1] > 1e-3
    assert errors[2] < 1e-10


SNAP: dict[str, Make] = {
    "linear-rnn": partial(LinearRNN, INPUTS, UNITS),
    "gru": partial(GRU, INPUTS, UNITS),
}


@pytest.mark.parametrize("make", [partial(LinearRNN, INPUTS, 1), partial(GRU, INPUTS, 1)])
@resets
@pytest.mark.parametrize("chunk", [1, 7])
def test_snap1_is_exact_with_one_unit(make: Make, share: float, chunk: int) -> None:
    layer = make()
    inputs, targets, starts = stream(layer.output_size, share)
    true = gradients(layer, inputs, targets, rule="bptt", chunk=STEPS, starts=starts)
    found = gradients(layer, inputs, targets, rule="snap1", chunk=chunk, starts=starts)
    assert worst(found, true) < 1e-10


@pytest.mark.parametrize("make", SNAP.values(), ids=SNAP)
@resets
@pytest.mark.parametrize("chunk", [1, 7])
def test_snap1_is_exact_for_a_diagonal_recurrence(make: Make, share: float, chunk: int) -> None:
    layer: Any = make()
    with torch.no_grad():
        # Of the one matrix of the linear RNN, of the three of the GRU.
        layer.recurrent_weight.mul_(torch.eye(UNITS))
    inputs, targets, starts = stream(layer.output_size, share)
    true = gradients(layer, inputs, targets, rule="bptt", chunk=STEPS, starts=starts)
    found = gradients(layer, inputs, targets, rule="snap1", chunk=chunk, starts=starts)
    # Of the weights between units, too: each is its unit's own.
    assert worst(found, true) < 1e-10


@pytest.mark.parametrize("make", SNAP.values(), ids=SNAP)
def test_snap1_in_chunks_of_one_step_is_the_published_rule(make: Make) -> None:
    layer: Any = make()
    inputs, targets, _ = stream(layer.output_size, 0.0)
    inputs, targets = inputs[:8, :1], targets[:8, :1]
    found = gradients(layer, inputs, targets, rule="snap1", chunk=1)
    layer.rule = "truncated"
    own = {name: p.detach() for name, p in layer.named_parameters()}
    names = [name for name in own if name not in ("output_weight", "feedthrough")]

    def step(state: Tensor, seen: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        if isinstance(layer, LinearRNN):
            return given["recurrent_weight"] @ state + given["input_weight"] @ seen
        # The state is what comes out.
        arguments = (seen[None, None], Carry({"state": state[None]}))
        outputs: Tensor = torch.func.functional_call(layer, given, arguments)[0]
        return outputs[0, 0]

    def loss(state: Tensor, seen: Tensor, target: Tensor) -> Tensor:
        if isinstance(layer, LinearRNN):
            state = own["output_weight"] @ state + own["feedthrough"] * seen
        return (state.tanh() - target).square().sum()

    jacobian = torch.autograd.functional.jacobian
    state = torch.zeros(UNITS)
    sensitivities = {name: torch.zeros(UNITS, *own[name].shape) for name in names}
    expected = {name: torch.zeros_like(own[name]) for name in names}
    for seen, target in zip(inputs[:, 0], targets[:, 0], strict=True):
        itself, _, *direct = jacobian(step, (state, seen, *(own[name] for name in names)))
        for name, added in zip(names, direct, strict=True):
            passed = torch.einsum("n,n...->n...", itself.diagonal(), sensitivities[name])
            sensitivities[name] = passed + added
        state = step(state, seen, *(own[name] for name in names))
        owing = jacobian(loss, (state, seen, target))[0]
        for name in names:
            expected[name] += torch.einsum("n,n...->...", owing, sensitivities[name])
    assert worst({name.removeprefix("0."): g for name, g in found.items()}, expected) < 1e-10


@pytest.mark.parametrize("make", SNAP.values(), ids=SNAP)
def test_snap1_is_nearer_than_truncation(make: Make) -> None:
    layer = make()
    inputs, targets, starts = stream(layer.output_size, 0.05)
    true = gradients(layer, inputs, targets, rule="bptt", chunk=STEPS, starts=starts)

    def cosine(rule: str) -> float:
        found = gradients(layer, inputs, targets, rule=rule, chunk=1, starts=starts)
        names = ["0.input_weight", "0.recurrent_weight"]
        ours, theirs = (torch.cat([g[n].flatten() for n in names]) for g in (found, true))
        return float(nn.functional.cosine_similarity(ours, theirs, dim=0))

    assert 0.3 < cosine("truncated") < cosine("snap1") < 1 - 1e-6


def test_snap1_passes_on_the_diagonal_of_the_jacobian() -> None:
    layer = GRU(INPUTS, UNITS)
    state, seen = torch.randn(UNITS), torch.randn(1, 1, INPUTS)
    zeros = layer.initial_carry(1)

    def step(before: Tensor) -> Tensor:
        return layer(seen, Carry({"state": before[None]}))[0][0, 0]

    def sensitivity_after(before: float) -> Tensor:
        known = {"state": state[None], "input_bias": torch.full((1, 3, UNITS), before)}
        with torch.no_grad():
            return layer(seen, Carry({**zeros, **known}))[1]["input_bias"][0]

    layer.rule = "truncated"
    jacobian = torch.autograd.functional.jacobian(step, state)
    passed = sensitivity_after(1.0) - sensitivity_after(0.0)
    torch.testing.assert_close(passed, jacobian.diagonal().expand(3, -1))


@online
def test_a_stale_state_is_corrected_to_first_order(make: Make) -> None:
    layer = make()
    inputs, _, starts = stream(layer.output_size, 0.05)
    directions = [torch.randn_like(parameter) for parameter in layer.parameters()]

    def errors(size: float) -> tuple[float, float]:
        """Of a stale state and of a corrected one, after parameters have moved so far."""
        with torch.no_grad():
            _, carry = layer(inputs, layer.initial_carry(BATCH), starts)
            then = layer.coefficients()
            for parameter, direction in zip(layer.parameters(), directions, strict=True):
                parameter.add_(direction, alpha=size)
            true = layer(inputs, None, starts)[1]["state"]
            corrected = layer.corrected(carry, then)["state"]
            for parameter, direction in zip(layer.parameters(), directions, strict=True):
                parameter.sub_(direction, alpha=size)
        return float((carry["state"] - true).norm()), float((corrected - true).norm())

    (stale, corrected), (staler, worse) = errors(1e-5), errors(2e-5)
    # Of first order before, of second order afterwards.
    assert staler / stale == pytest.approx(2, rel=0.05)
    assert worse / corrected == pytest.approx(4, rel=0.1)
    assert corrected < 0.01 * stale


def test_what_is_owed_to_the_gain_is_corrected_exactly() -> None:
    layer = LRU(INPUTS, UNITS).double()
    inputs, _, starts = stream(layer.output_size, 0.05)
    with torch.no_grad():
        _, carry = layer(inputs, layer.initial_carry(BATCH), starts)
        then = layer.coefficients()
        layer.gamma_log.add_(0.1)
    corrected = layer.corrected(carry, then)
    layer.zero_grad()
    layer(inputs[:1], corrected)[0].sum().backward()
    given = layer.gamma_log.grad
    layer.zero_grad()
    # The state is linear in the gain: nothing else that is carried has changed.
    with torch.no_grad():
        _, fresh = layer(inputs, layer.initial_carry(BATCH), starts)
    layer(inputs[:1], fresh)[0].sum().backward()
    torch.testing.assert_close(given, layer.gamma_log.grad, rtol=1e-12, atol=0)


def test_other_layers_have_no_correction() -> None:
    with pytest.raises(InvalidValueError, match="states of GRU cannot be corrected"):
        GRU(INPUTS, UNITS).coefficients()


@pytest.mark.parametrize("name", [*ONLINE, *SNAP])
def test_outputs_alone_are_those_of_a_chunk_and_learn_the_same(name: str) -> None:
    layer = (ONLINE | SNAP)[name]()
    inputs, targets, starts = stream(layer.output_size, 0.1)
    assert starts is not None
    _, carry = layer(inputs[:7], None, starts[:7])
    part = slice(7, 14)
    found = []
    for outputs in (
        layer(inputs[part], carry, starts[part])[0],
        layer.outputs(inputs[part], carry, starts[part]),
    ):
        loss = (outputs - targets[part]).square().sum()
        found.append((outputs, *torch.autograd.grad(loss, [*layer.parameters()])))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU for CUDA here")
@pytest.mark.parametrize("name", [*ONLINE, *SNAP])
@resets
def test_cuda_computes_what_the_cpu_does(name: str, share: float) -> None:
    layer, rule = (ONLINE | SNAP)[name](), "online" if name in ONLINE else "snap1"
    inputs, targets, starts = stream(layer.output_size, share)
    expected = gradients(layer, inputs, targets, rule=rule, chunk=7, starts=starts)
    moved = (inputs.cuda(), targets.cuda())
    starts = None if starts is None else starts.cuda()
    found = gradients(layer.cuda(), *moved, rule=rule, chunk=7, starts=starts)
    assert worst({name: grad.cpu() for name, grad in found.items()}, expected) < 1e-10
