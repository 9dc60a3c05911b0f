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
def test_nothing_is_left_of_an_episode_whose_numbers_were_none(kind: Any) -> None:
    layer = kind(3, 5)
    inputs, starts = torch.randn(2, 3), torch.tensor([True, False])
    carry = layer.initial_carry(2)
    broken = Carry({name: value.clone().fill_(torch.nan) for name, value in carry.items()})
    expected, fresh = layer.stepper()(inputs, carry)
    found, after = layer.stepper()(inputs, broken, starts)
    real, state = layer.real_stepper()(inputs, broken["state"], starts)
    for ours, theirs in (
        *((found, expected), (real, expected), (state, fresh["state"])),
        *zip(after.values(), fresh.values(), strict=True),
    ):
        torch.testing.assert_close(ours[0], theirs[0])
        assert ours[1].isnan().any()
