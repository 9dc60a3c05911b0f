"""The kind of neural reward that suits an observation space."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from skillrl.errors import InvalidValueError
from skillrl.rewards import NeuralReward


def reward_for(space: spaces.Space[Any], *, target: float = 5.0, hidden: int = 128) -> NeuralReward:
    """Return a new neural reward for the observations of ``space``.

    A vector of two small integers from 0 is a position on a grid, an unsigned byte array of rank 3
    an image, and a float vector a vector.

    Args:
        space: the environment's observation space.
        target: activation that fitting aims for.
        hidden: units of the dense hidden layer.

    Raises:
        InvalidValueError: if no kind of reward takes such observations.

    >>> reward_for(spaces.Box(-np.inf, np.inf, (17,))).kind
    'vector'
    >>> reward_for(spaces.Box(0, 31, (2,), np.int64)).kind
    'grid'
    >>> reward_for(spaces.Box(0, 255, (210, 160, 3), np.uint8)).kind
    'image'
    """
    if not isinstance(space, spaces.Box):
        raise InvalidValueError(
            f"A neural reward takes observations from a Box. Received {space}. "
            "gymnasium.wrappers.FlattenObservation turns most other spaces into one."
        )
    if len(space.shape) == 3 and space.dtype == np.uint8:
        # Colours or grey come last, stacked frames come first.
        channels_last = space.shape[2] in (1, 3, 4) and space.shape[0] > 4
        return NeuralReward(
            space.shape, "image", target=target, hidden=hidden, channels_last=channels_last
        )
    if space.shape == (2,) and np.issubdtype(space.dtype, np.integer) and (space.low == 0).all():
        rows, columns = (int(high) + 1 for high in space.high)
        # Smaller grids do not survive the convolutions, larger ones are vectors.
        if min(rows, columns) >= 14 and max(rows, columns) <= 64:
            return NeuralReward(
                space.shape, "grid", target=target, hidden=hidden, size=(rows, columns)
            )
    if len(space.shape) == 1:
        return NeuralReward(space.shape, "vector", target=target, hidden=hidden)
    raise InvalidValueError(
        "A neural reward takes vectors, or images of unsigned bytes. "
        f"Received observations of shape {space.shape} and type {space.dtype}. "
        "gymnasium.wrappers.FlattenObservation turns them into vectors."
    )
