"""The numbers that convolutions are computed in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def convolution_precision(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bfloat16 on CUDA, whose tensor cores are made for it; elsewhere as ever.

    Weights, and what is learnt with, stay float32 (mixed precision, Micikevicius et al. 2018,
    arXiv 1710.03740); bytes are bfloat16 without an error, so that no loss has to be scaled.

    Args:
        device: where the convolutions are.

    Returns:
        A context for a ``with`` block.
    """
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
