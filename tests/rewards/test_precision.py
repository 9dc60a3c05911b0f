"""Convolutions: bfloat16 where the device is made for it, and what they always were elsewhere."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from skillrl.agents.features import ConvolvedImage
from skillrl.rewards import NeuralReward, precision
from skillrl.rewards.precision import as_numbers, convolution_precision, exact_convolutions

IMAGES = torch.randint(256, (6, 4, 40, 44), generator=torch.Generator().manual_seed(0))


def networks() -> list[nn.Module]:
    torch.manual_seed(0)
    space = spaces.Box(0, 255, (4, 40, 44), np.uint8)
    return [ConvolvedImage(space), NeuralReward((4, 40, 44), "image", hidden=16)]


def with_bfloat16(monkeypatch: pytest.MonkeyPatch, devices: set[str]) -> None:
    monkeypatch.setattr(precision, "_made_for_bfloat16", devices.__contains__)


def test_the_device_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, images = torch.zeros(1), IMAGES.byte()
    with_bfloat16(monkeypatch, set())
    assert isinstance(convolution_precision(weight), nullcontext)
    assert as_numbers(images, weight).dtype == torch.float32
    with_bfloat16(monkeypatch, {"cpu"})
    context = convolution_precision(weight)
    assert isinstance(context, torch.autocast)
    assert (context.device, context.fast_dtype) == ("cpu", torch.bfloat16)
    numbers = as_numbers(images, weight)
    assert numbers.dtype == torch.bfloat16
    assert numbers.is_contiguous(memory_format=torch.channels_last)
    # Bytes are bfloat16 without an error.
    assert torch.equal(numbers.byte(), images)


def test_what_is_compared_and_what_is_not_float32_stays_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_bfloat16(monkeypatch, {"cpu"})
    weight, images = torch.zeros(1), IMAGES.byte()
    with exact_convolutions():
        assert isinstance(convolution_precision(weight), nullcontext)
        assert as_numbers(images, weight).dtype == torch.float32
    assert isinstance(convolution_precision(weight), torch.autocast)
    assert isinstance(convolution_precision(weight.double()), nullcontext)
    assert as_numbers(images, weight.double()).dtype == torch.float64


def test_a_processor_says_what_it_is_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made_for = precision._made_for_bfloat16.__wrapped__
    for told, expected in (
        ({}, False),
        ({"avx512_bf16": False}, False),
        ({"avx512_bf16": 1}, True),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", told.copy, raising=False)
        assert made_for("cpu") is expected
    assert made_for("cuda") and not made_for("mps")


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

    with exact_convolutions():
        exact = outcome()
    with_bfloat16(monkeypatch, {"cpu"})
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
    with torch.no_grad(), exact_convolutions():
        last = network(IMAGES.byte())
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        first = network(IMAGES.byte())
    torch.testing.assert_close(last, first, rtol=1e-4, atol=1e-5)
