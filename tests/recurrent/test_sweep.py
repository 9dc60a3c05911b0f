"""Sweeps: what is carried to where chunks begin, against chunk after chunk."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch

from skillrl.recurrent import GRU, LRU, LinearRTU, NonlinearRTU, RecurrentLayer
from streams import doubles

LAYERS: dict[str, Callable[[], RecurrentLayer]] = {
    "lru": partial(LRU, 3, 5, r_min=0.5),
    "linear-rtu": partial(LinearRTU, 3, 5, r_min=0.5),
    "nonlinear-rtu": partial(NonlinearRTU, 3, 5, r_min=0.5),
    "gru": partial(GRU, 3, 5, rule="snap1"),
}


@pytest.fixture(autouse=True)
def in_doubles() -> Iterator[None]:
    yield from doubles()


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("chunk", [1, 4, 12])
@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize("sensitivities", [True, False])
def test_a_sweep_finds_what_is_carried_from_chunk_to_chunk(
    make: Callable[[], RecurrentLayer], chunk: int, share: float, sensitivities: bool
) -> None:
    layer = make()
    _, carry = layer(torch.randn(7, 2, 3))
    if not sensitivities:
        carry = carry.without_sensitivities()
    inputs, starts = torch.randn(12, 2, 3), torch.rand(12, 2) < share
    starts[4, 1] = share > 0  # where a chunk of 4 begins
    expected = [carry]
    with torch.no_grad():
        for seen, begins in zip(inputs.split(chunk), starts.split(chunk), strict=True):
            expected.append(layer(seen, expected[-1], begins)[1])
    found = layer.sweep(inputs, carry, starts, chunk)
    assert len(found) == 12 // chunk + 1
    for ours, theirs in zip(found, expected, strict=True):
        assert [*ours] == [*theirs]
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-12)
    assert not any(value.requires_grad for value in found[-1].values())
