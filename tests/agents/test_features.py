from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from skillrl.agents.features import (
    ConvolvedImage,
    NormalizedVector,
    OneHot,
    features_for,
    is_one_hot,
)
from skillrl.rewards.precision import exact_convolutions


def normalizer(size: int = 3) -> NormalizedVector:
    return NormalizedVector(spaces.Box(-np.inf, np.inf, (size,)))


def batches(offset: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        (offset + rng.normal(size=(rows, 3)) * [0.1, 1.0, 100.0]).astype(np.float32)
        for rows in (64, 1, 500, 7, 2_000)
    ]


@pytest.mark.parametrize("offset", [0.0, -5.0, 1_000.0])
def test_statistics_equal_those_of_all_batches_in_float64(offset: float) -> None:
    statistics = normalizer()
    for batch in batches(offset):
        statistics.update(torch.as_tensor(batch))
    together = np.concatenate(batches(offset)).astype(np.float64)
    np.testing.assert_allclose(statistics.mean.numpy(), together.mean(0), rtol=1e-6, atol=1e-6)
    # A mean of a thousand is kept in float32: to a ten-thousandth, where 0.1 is the deviation.
    rtol = 1e-5 if offset == 1_000.0 else 1e-6
    np.testing.assert_allclose(statistics.var.numpy(), together.var(0), rtol=rtol)
    assert statistics.count.item() == len(together)


def test_observations_of_any_shape_are_flattened() -> None:
    statistics = NormalizedVector(spaces.Box(-1.0, 1.0, (2, 3)))
    observations = torch.arange(12.0).reshape(2, 2, 3)
    statistics.update(observations)
    # The two observations are 0 … 5 and 6 … 11.
    assert statistics.mean.tolist() == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert statistics.var.tolist() == [9.0] * 6
    assert statistics(observations).shape == (2, 6)


def test_a_decayed_count_lets_old_statistics_fade() -> None:
    statistics = normalizer(1)
    statistics.update(torch.tensor([[1.0]] * 50 + [[3.0]] * 50))
    statistics.decay(0.1)
    assert (statistics.mean.item(), statistics.var.item(), statistics.count.item()) == (2, 1, 10)
    # Ten old observations, 2 ± 1, and thirty new ones at 6: the mean is (20 + 180) / 40 = 5, the
    # mean square (10 · 5 + 30 · 36) / 40 = 28.25.
    statistics.update(torch.full((30, 1), 6.0))
    assert statistics.mean.item() == pytest.approx(5.0)
    assert statistics.var.item() == pytest.approx(28.25 - 25.0)
    assert statistics.count.item() == 40


def test_features_worked_by_hand() -> None:
    statistics = normalizer(2)
    statistics.mean.copy_(torch.tensor([1.0, -2.0]))
    statistics.var.copy_(torch.tensor([4.0, 0.25]))
    features = statistics(torch.tensor([[3.0, -2.5], [1.0, 1e6], [-1e6, -2.0]]))
    expected = torch.tensor([[1.0, -1.0], [0.0, 10.0], [-10.0, 0.0]])
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-6)


def test_a_component_that_never_moves_is_not_magnified_without_bound() -> None:
    statistics = normalizer(1)
    statistics.update(torch.full((100, 1), 0.5))
    assert statistics(torch.tensor([[0.501]])).item() == pytest.approx(1.0, rel=1e-3)


def test_looking_does_not_count() -> None:
    statistics = normalizer()
    before = {name: buffer.clone() for name, buffer in statistics.named_buffers()}
    statistics(torch.randn(5, 3))
    for name, buffer in statistics.named_buffers():
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.int32])
def test_one_hot_features_worked_by_hand(dtype: Any) -> None:
    low, high = np.array([1, -2], dtype), np.array([3, -1], dtype)
    features = OneHot(spaces.Box(low, high, dtype=dtype))
    assert features.features_dim == 5
    encoded = features(torch.tensor([[1.0, -2.0], [2.0, -1.0], [3.0, -1.0]]))
    assert encoded.tolist() == [
        [1, 0, 0, 1, 0],
        [0, 1, 0, 0, 1],
        [0, 0, 1, 0, 1],
    ]
    assert encoded.dtype == torch.float32


@pytest.mark.parametrize(
    ("space", "extractor"),
    [
        (spaces.Box(-np.inf, np.inf, (17,)), NormalizedVector),
        (spaces.Box(-1.0, 1.0, (2, 3)), NormalizedVector),
        (spaces.Box(0, 31, (2,), np.int64), OneHot),
        (spaces.Box(0, 63, (2,), np.int64), OneHot),
        (spaces.Box(0, 64, (2,), np.int64), NormalizedVector),
        (spaces.Box(0, 255, (128,), np.uint8), NormalizedVector),
        (spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64), NormalizedVector),
        (spaces.Box(0, 3, (2, 2), np.int64), NormalizedVector),
        (spaces.Box(0.0, 31.0, (2,)), NormalizedVector),
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), ConvolvedImage),
    ],
)
def test_the_extractor_suits_the_space(space: spaces.Box, extractor: type) -> None:
    assert features_for(space) is extractor
    assert is_one_hot(space) is (extractor is OneHot)


@pytest.mark.parametrize("shape", [(4, 84, 84), (3, 36, 50)])
def test_images_are_convolved_as_numbers_between_0_and_1(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    extractor = ConvolvedImage(spaces.Box(0, 255, shape, np.uint8))
    images = torch.randint(256, (5, *shape), dtype=torch.uint8)
    plain = nn.Sequential(
        extractor.first, nn.ReLU(), extractor.second, nn.ReLU(), nn.Flatten(), extractor.dense
    )
    with torch.no_grad(), exact_convolutions():
        expected = plain(images.float() / 255).relu()
        torch.testing.assert_close(extractor(images), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(extractor(images.float()), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0
