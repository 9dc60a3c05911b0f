"""Single steps: by real numbers alone they are the same, and resets forget everything."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from skillrl.recurrent import GRU, LRU, Carry, LinearRNN, LinearRTU, NonlinearRTU
from streams import doubles


@pytest.fixture(autouse=True)
def in_doubles() -> Iterator[None]:
    yield from doubles()


@pytest.mark.parametrize("kind", [LRU, LinearRTU, NonlinearRTU, GRU, LinearRNN])
def test_real_steps_are_the_layers_own(kind: Any) -> None:
    layer = kind(3, 5)
    inputs, starts = torch.randn(20, 4, 3), torch.rand(20, 4) < 0.2
    assert starts[1:].any()
    # From a state that is not zero.
    carry = Carry({"state": torch.randn(4, *layer.carried()["state"])})
    with torch.no_grad():
        expected, last = layer(inputs, carry, starts)
    step, state, found = layer.real_stepper(), carry["state"], []
    for each, begins in zip(inputs, starts, strict=True):
        outputs, state = step(each, state, begins)
        found.append(outputs)
    torch.testing.assert_close(torch.stack(found), expected)
    torch.testing.assert_close(state, last["state"])
    assert not state.requires_grad


@pytest.mark.parametrize("kind", [LRU, LinearRTU, NonlinearRTU, GRU, LinearRNN])
def test_an_episode_begins_anew_even_after_what_is_not_finite(kind: Any) -> None:
    layer = kind(3, 5)
    act, inputs = layer.stepper(), torch.randn(2, 3)
    fresh = layer.initial_carry(2)
    lost = Carry({name: torch.full_like(value, torch.nan) for name, value in fresh.items()})
    expected, after = act(inputs, fresh)
    outputs, carry = act(inputs, lost, torch.tensor([False, True]))
    assert outputs[0].isnan().any()
    torch.testing.assert_close(outputs[1], expected[1])
    for name, value in carry.items():
        torch.testing.assert_close(value[1], after[name][1])


def test_a_step_of_an_lru_knows_no_parameters_but_those_of_its_time() -> None:
    layer = LRU(3, 5)
    act, inputs, carry = layer.stepper(), torch.randn(2, 3), layer.initial_carry(2)
    expected = act(inputs, carry)[0]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1)
    torch.testing.assert_close(act(inputs, carry)[0], expected, rtol=0, atol=0)
    assert not torch.allclose(layer.stepper()(inputs, carry)[0], expected)
