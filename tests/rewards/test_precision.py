"""Convolutions: bfloat16 on CUDA, and on a CPU what they always were."""

import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from skillrl.agents.features import ConvolvedImage
from skillrl.rewards import NeuralReward, precision
from skillrl.rewards.precision import convolution_precision

IMAGES = torch.randint(256, (6, 4, 40, 44), generator=torch.Generator().manual_seed(0))


def networks() -> list[nn.Module]:
    torch.manual_seed(0)
    space = spaces.Box(0, 255, (4, 40, 44), np.uint8)
    return [ConvolvedImage(space), NeuralReward((4, 40, 44), "image", hidden=16)]


def test_the_device_decides() -> None:
    assert isinstance(convolution_precision(torch.device("cpu")), nullcontext)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no CUDA here
        context = convolution_precision(torch.device("cuda", 0))
    assert isinstance(context, torch.autocast)
    assert (context.device, context.fast_dtype) == ("cuda", torch.bfloat16)


@pytest.mark.parametrize("network", networks(), ids=lambda network: type(network).__name__)
def test_in_bfloat16_outputs_and_gradients_are_floats_and_nearly_the_same(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome() -> list[torch.Tensor]:
        outputs = network(IMAGES.byte())
        network.zero_grad()
        outputs.sum().backward()
        return [
            outputs.detach(),
            *(p.grad.clone() for p in network.parameters() if p.grad is not None),
        ]

    exact = outcome()
    # What CUDA does, on the CPU.
    monkeypatch.setattr(
        f"{precision.__name__}.nullcontext", lambda: torch.autocast("cpu", torch.bfloat16)
    )
    rounded = outcome()
    assert len(exact) == len(rounded) == 1 + len(list(network.parameters()))
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32
        assert (one - other).norm() <= 0.05 * one.norm()
    assert not torch.equal(exact[0], rounded[0])


@pytest.mark.parametrize("network", networks(), ids=lambda network: type(network).__name__)
def test_channels_come_last_in_memory_and_change_nothing(network: nn.Module) -> None:
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 2
    assert all(c.weight.is_contiguous(memory_format=torch.channels_last) for c in convolutions)
    with torch.no_grad():
        last = network(IMAGES.byte())
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        first = network(IMAGES.byte())
    torch.testing.assert_close(last, first, rtol=1e-4, atol=1e-5)
