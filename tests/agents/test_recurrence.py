"""How an agent's memory begins."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skillrl.agents.recurrence import Recurrence
from skillrl.recurrent.diagonal import DiagonalLayer


def begun(cell: str, **arguments: Any) -> tuple[Tensor, Tensor]:
    """In how many steps units keep 1/e at first, and how far they turn in a step."""
    memory = Recurrence(
        3,
        encoder=(),
        activation=nn.Tanh,
        cell=cell,
        state_size=4_000,
        rule=None,
        cell_kwargs=arguments,
    )
    layer = memory.layer
    assert isinstance(layer, DiagonalLayer)
    decay = torch.view_as_complex(layer.decay().double()).detach()
    return -1 / decay.abs().log(), decay.angle() % (2 * math.pi)


@pytest.mark.parametrize("cell", ["lru", "linear-rtu"])
def test_units_are_spread_on_logarithmic_scales(cell: str) -> None:
    horizons, phases = begun(cell)
    assert horizons.min() > 1 - 1e-3 and horizons.max() < 100.1
    assert (horizons < 10).double().mean().item() == pytest.approx(0.5, abs=0.03)
    assert phases.min() > 0.1 - 1e-5
    middle = math.sqrt(0.1 * 2 * math.pi)
    assert (phases < middle).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_what_is_named_takes_the_place_of_it() -> None:
    horizons, phases = begun("lru", horizon=200)
    assert horizons.min() > 199 and phases.min() > 0.1 - 1e-5
    # As in the paper: |λ|² and phases are uniform.
    horizons, phases = begun("lru", r_min=0.0, max_phase=0.05)
    squares = (-2 / horizons).exp()
    assert squares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert phases.mean().item() == pytest.approx(0.025, abs=0.001)
