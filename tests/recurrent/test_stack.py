import re

import pytest
import torch

from skillrl.errors import InvalidValueError
from skillrl.recurrent import (
    GRU,
    LRU,
    Block,
    Carry,
    LinearRNN,
    LinearRTU,
    NonlinearRTU,
    RecurrentLayer,
    RecurrentStack,
    parameter_groups,
)
from skillrl.recurrent.stack import MakeLayer, Readout

LAYERS: dict[str, MakeLayer] = {
    "lru": lambda width: LRU(width, 5),
    "linear-rtu": lambda width: LinearRTU(width, 5),
    "nonlinear-rtu": lambda width: NonlinearRTU(width, 5),
    "linear-rnn": lambda width: LinearRNN(width, 5),
    "gru": lambda width: GRU(width, 5),
}


def network(layer: MakeLayer = LAYERS["lru"], readout: Readout = "step") -> RecurrentStack:
    torch.manual_seed(0)
    return RecurrentStack(3, 2, width=6, depth=2, layer=layer, readout=readout)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_stream_gives_what_the_whole_sequence_does(layer: MakeLayer) -> None:
    stack = network(layer)
    inputs, starts = torch.randn(20, 4, 3), torch.rand(20, 4) < 0.1
    whole, last = stack(inputs, None, starts)
    outputs, carry = [], None
    for part in range(0, 20, 6):
        each, carry = stack(inputs[part : part + 6], carry, starts[part : part + 6])
        outputs.append(each)
    torch.testing.assert_close(torch.cat(outputs), whole)
    assert carry is not None
    for name, value in last.items():
        torch.testing.assert_close(carry[name], value)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("readout", ["step", "mean"])
def test_steps_give_what_a_chunk_does(layer: MakeLayer, readout: Readout) -> None:
    stack = network(layer, readout)
    inputs, starts = torch.randn(9, 4, 3), torch.rand(9, 4) < 0.2
    begin = stack.initial_carry(4)
    act, outputs, carry = stack.stepper(), [], begin
    for seen, first in zip(inputs, starts, strict=True):
        each, carry = act(seen, carry, first)
        outputs.append(each)
    expected, last = stack(inputs, begin, starts)
    torch.testing.assert_close(torch.stack(outputs) if readout == "step" else outputs[-1], expected)
    assert not outputs[0].requires_grad
    for name, value in last.items():
        torch.testing.assert_close(carry[name], value)
    # Without sensitivities there are none afterwards, and without starts none are needed.
    assert {*act(inputs[0], begin.without_sensitivities())[1]} == {*begin.without_sensitivities()}


def test_a_block_is_norm_layer_gate_and_residual() -> None:
    torch.manual_seed(0)
    block = Block(LRU(4, 3), 4)
    inputs = torch.randn(5, 2, 4)
    centred = inputs - inputs.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    hidden, _ = block.layer(normed)
    value, gate = (hidden @ block.gate.weight.t() + block.gate.bias).chunk(2, -1)
    torch.testing.assert_close(block(inputs)[0], inputs + value * gate.sigmoid())


def test_the_mean_is_over_all_steps_since_the_sequence_began() -> None:
    steps, mean = network(), network(readout="mean")
    inputs = torch.randn(20, 4, 3)
    starts = torch.zeros(20, 4, dtype=torch.bool)
    starts[[3, 9], 1] = True  # before the second chunk, and in it
    starts[8, 2] = True  # where it begins
    expected = steps(inputs, None, starts)[0]
    _, carry = mean(inputs[:8], None, starts[:8])
    found, _ = mean(inputs[8:], carry, starts[8:])
    # The head is linear: the mean of the outputs is the output of the mean.
    for sequence, begin in enumerate((0, 9, 8, 0)):
        torch.testing.assert_close(found[sequence], expected[begin:, sequence].mean(0))


def test_episodes_do_not_know_of_those_before_them() -> None:
    stack = network()
    inputs = torch.randn(10, 1, 3)
    starts = torch.zeros(10, 1, dtype=torch.bool)
    starts[4] = True
    torch.testing.assert_close(stack(inputs, None, starts)[0][4:], stack(inputs[4:])[0])


def test_recurrences_learn_more_slowly() -> None:
    stack = network()
    rest, recurrent = parameter_groups(stack, 1e-3)
    assert (rest["lr"], recurrent["lr"]) == (1e-3, 5e-4)
    slow = {id(parameter) for parameter in recurrent["params"]}  # type: ignore[attr-defined]
    names = {name for name, parameter in stack.named_parameters() if id(parameter) in slow}
    own = ("nu_log", "theta_log", "gamma_log", "input_weight")
    assert names == {f"blocks.{block}.layer.{name}" for block in range(2) for name in own}
    total = len(rest["params"]) + len(recurrent["params"])  # type: ignore[arg-type]
    assert total == len([*stack.parameters()])


def test_the_rule_is_that_of_all_layers() -> None:
    stack = network()
    stack.rule = "truncated"
    assert [layer.rule for layer in stack.layers()] == ["truncated"] * 2
    assert stack.rule == "truncated"
    with pytest.raises(InvalidValueError, match="LRU has no rule 'snap1'"):
        stack.rule = "snap1"


def test_dropout_is_for_training_only() -> None:
    stack = RecurrentStack(3, 2, width=6, depth=1, layer=LAYERS["lru"], dropout=0.5)
    inputs = torch.randn(10, 4, 3)
    assert not torch.equal(stack(inputs)[0], stack(inputs)[0])
    stack.eval()
    assert torch.equal(stack(inputs)[0], stack(inputs)[0])


def make(**changes: object) -> RecurrentStack:
    settings = {"width": 4, "depth": 1, "layer": LAYERS["lru"], **changes}
    return RecurrentStack(3, 2, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth=0"),
        ({"readout": "last"}, "readout should be one of step, mean. Received 'last'"),
        ({"dropout": 1.0}, "dropout should be in [0, 1). Received 1.0"),
    ],
)
def test_bad_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        make(**changes)


def test_bad_calls() -> None:
    stack, inputs = network(), torch.randn(10, 4, 3)
    with pytest.raises(InvalidValueError, match=re.escape("(time, batch, 3). Received (10, 3)")):
        stack(inputs[:, 0])
    deeper = RecurrentStack(3, 2, width=6, depth=3, layer=LAYERS["lru"])
    with pytest.raises(InvalidValueError, match=r"carries the parts 0, 1\. .* holds 0, 1, 2"):
        stack(inputs, deeper.initial_carry(4))
    with pytest.raises(InvalidValueError, match=r"are torch\.float64 on cpu, and the parameters"):
        stack(inputs.double())
    with pytest.raises(InvalidValueError, match=r"are torch\.float32 on meta, and the parameters"):
        stack(inputs.to("meta"))
    with pytest.raises(InvalidValueError, match="takes a Carry, as the last chunk"):
        stack(inputs, torch.zeros(4, 5, 2))
    mean, wider = (
        RecurrentStack(3, 2, width=w, depth=1, layer=lambda width: GRU(width, 5), readout="mean")
        for w in (6, 8)
    )
    mean.rule = wider.rule = "truncated"
    with pytest.raises(InvalidValueError, match=r"mean of shape \(4, 7\), .* Received \(4, 9\)"):
        mean(inputs, wider.initial_carry(4))
    other = mean.initial_carry(4)
    with pytest.raises(
        InvalidValueError, match=r"float32 on cpu\. Received \(4, 7\), torch\.float64"
    ):
        mean(inputs, Carry({**other, "mean.state": other["mean.state"].double()}))
    single: RecurrentLayer = LRU(3, 5)
    with pytest.raises(InvalidValueError, match="carries the parts 0, 1"):
        stack(inputs, single.initial_carry(4))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (LRU(8, 8), "such as lambda width: LRU(width, 64). Received LRU(8, 8"),
        (lambda width: torch.nn.GRU(width, width), "Received GRU(8, 8)"),
        (lambda width: LRU(4, 5), "The layer of a block of width 8 takes as many components"),
    ],
)
def test_what_is_no_function_to_a_layer(layer: MakeLayer, message: str) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        RecurrentStack(3, 2, width=8, depth=1, layer=layer)
