"""Random numbers of torch's that are drawn aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawn_aside(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Let torch draw from ``seed`` in a ``with`` block, and go on afterwards as if it had not.

    Args:
        seed: of the block's random numbers.
        device: where they are drawn, besides the CPU.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
