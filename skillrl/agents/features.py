"""What a policy sees of an observation: normalised vectors, one-hot grids, convolved images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.nn.functional import conv2d

from skillrl.rewards.precision import as_numbers, convolution_precision

# Integer observations with at most this many values a component are encoded one-hot.
ONE_HOT_VALUES = 64
# Normalised observations are clipped to ±CLIP standard deviations.
CLIP = 10.0


class NormalizedVector(BaseFeaturesExtractor):
    """Flattens observations and normalises them by running statistics of their own.

    The statistics are buffers of the policy, so that they are saved, copied and aligned with the
    network that they feed. They change only when ``update`` is called.
    """

    mean: torch.Tensor
    var: torch.Tensor
    count: torch.Tensor

    def __init__(self, observation_space: spaces.Box) -> None:
        size = int(np.prod(observation_space.shape))
        super().__init__(observation_space, size)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the normalised features ``(batch, size)``."""
        centred = observations.flatten(1) - self.mean
        return (centred * (self.var + 1e-6).rsqrt()).clamp(-CLIP, CLIP)

    def update(self, observations: torch.Tensor) -> None:
        """Count ``observations``, ``(batch, *shape)``, in (Chan et al.'s parallel variance)."""
        batch = observations.flatten(1).to(self.mean.device, torch.float64)
        size = len(batch)
        total = self.count + size
        delta = batch.mean(0) - self.mean
        squares = self.var.double() * self.count + batch.var(0, unbiased=False) * size
        squares += delta.square() * (self.count * size / total)
        self.mean.copy_(self.mean + delta * (size / total))
        self.var.copy_(squares / total)
        self.count.copy_(total)

    def decay(self, factor: float) -> None:
        """Let old statistics fade: multiply the count of observations by ``factor``."""
        self.count *= factor


class OneHot(BaseFeaturesExtractor):
    """Encodes every component of an integer vector one-hot."""

    offsets: torch.Tensor

    def __init__(self, observation_space: spaces.Box) -> None:
        low = observation_space.low.astype(np.int64)
        sizes = observation_space.high.astype(np.int64) - low + 1
        super().__init__(observation_space, int(sizes.sum()))
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.register_buffer("offsets", torch.as_tensor(offsets - low))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the features ``(batch, sum of the components' values)``."""
        # Not by len, which would make a constant of the batch's size where this is traced.
        features = observations.new_zeros(observations.shape[0], self.features_dim)
        return features.scatter_(1, observations.long() + self.offsets, 1.0)


class ConvolvedImage(BaseFeaturesExtractor):
    """Two convolutions and a dense layer, as in Mnih et al. 2013 (arXiv 1312.5602).

    It takes bytes, and turns them into numbers in [0, 1] in one pass: divided by 255 are the first
    convolution's weights, which are fewer. A third of the arithmetic of Stable-Baselines3's
    ``NatureCNN``; channels come last in memory, which is faster, and where the device is made for
    it they are computed in bfloat16, see ``skillrl.rewards.precision``.
    """

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 256)
        channels, *size = observation_space.shape
        self.first = nn.Conv2d(channels, 16, kernel_size=8, stride=4)
        self.second = nn.Conv2d(16, 32, kernel_size=4, stride=2)
        rows, columns = (((side - 8) // 4 + 1 - 4) // 2 + 1 for side in size)
        self.dense = nn.Linear(32 * rows * columns, self.features_dim)
        for layer in (self.first, self.second, self.dense):
            # As in Stable-Baselines3: torch's own weights would let three layers shrink what
            # differs between two images to a fifteenth.
            nn.init.orthogonal_(layer.weight, gain=np.sqrt(2))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the features ``(batch, 256)`` of images ``(batch, channels, rows, columns)``."""
        weight = self.first.weight
        images = as_numbers(observations, weight)
        with convolution_precision(weight):
            hidden = conv2d(images, weight / 255.0, self.first.bias, self.first.stride).relu()
            hidden = self.second(hidden).relu()
            features = self.dense(hidden.flatten(1)).relu()
        return features.to(weight.dtype)


def features_for(space: spaces.Space[Any]) -> type[BaseFeaturesExtractor]:
    """Return the feature extractor that suits an observation space."""
    if is_image_space(space):
        return ConvolvedImage
    if is_one_hot(space):
        return OneHot
    return NormalizedVector


def is_one_hot(space: spaces.Space[Any]) -> bool:
    """Whether ``space`` holds vectors of integers with few values each, such as grid positions."""
    return (
        isinstance(space, spaces.Box)
        and len(space.shape) == 1
        and np.issubdtype(space.dtype, np.integer)
        and bool((space.high.astype(float) - space.low.astype(float) < ONE_HOT_VALUES).all())
    )
