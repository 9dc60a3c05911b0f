"""The numbers that convolutions are computed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

_exactly: ContextVar[bool] = ContextVar("exactly", default=False)


def convolution_precision(weight: Tensor) -> AbstractContextManager[object]:
    """Compute in bfloat16 where the device is made for it; elsewhere as ever.

    That are CUDA's tensor cores, and CPUs with bfloat16 instructions (AVX-512 BF16, AMX), which
    take half of the time. Weights, and what is learnt with, stay float32 (mixed precision,
    Micikevicius et al. 2018, arXiv 1710.03740); bytes are bfloat16 without an error, so that no
    loss has to be scaled.

    Args:
        weight: of the first convolution. One of another type than float32 stays what it is.

    Returns:
        A context for a ``with`` block.
    """
    if _number_type(weight) == torch.bfloat16:
        return torch.autocast(weight.device.type, torch.bfloat16)
    return nullcontext()


def as_numbers(images: Tensor, weight: Tensor) -> Tensor:
    """Return images ``(batch, channels, rows, columns)`` as the first convolution takes them.

    Channels come last in memory, which is faster.

    Args:
        images: bytes, or what else holds whole numbers from 0 to 255.
        weight: of that convolution.
    """
    numbers = _number_type(weight)
    if numbers == torch.bfloat16:
        # First the type: half of the bytes are moved then.
        return images.to(numbers).contiguous(memory_format=torch.channels_last)
    return images.to(numbers, memory_format=torch.channels_last)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Compute in the weights' own type within the block: to compare, or to write a model."""
    token = _exactly.set(True)
    try:
        yield
    finally:
        _exactly.reset(token)


def _number_type(weight: Tensor) -> torch.dtype:
    if weight.dtype != torch.float32 or _exactly.get():
        return weight.dtype
    return torch.bfloat16 if _made_for_bfloat16(weight.device.type) else torch.float32


@cache
def _made_for_bfloat16(device: str) -> bool:
    if device == "cpu":
        if not torch.backends.mkldnn.is_available():
            return False
        told = getattr(torch.cpu, "get_capabilities", None)  # not in older versions of torch
        return told is not None and bool(told().get("avx512_bf16"))
    return device == "cuda"
