"""Spaces that agents can learn in, and their description as JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from skillrl.errors import InvalidValueError

# Values of an observation above which a description is taken for damaged: no memory is to be
# allocated for what a stranger's file claims.
MAX_SIZE = 2**24
# Pixels that Stable-Baselines3's convolutions (NatureCNN) need on each side.
SMALLEST_IMAGE = 36


def check_spaces(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Refuse spaces that the agents cannot learn in.

    Raises:
        InvalidValueError: unless observations are a Box, with images of at least 36 by 36 pixels,
            and actions a bounded Box or Discrete.
    """
    if not isinstance(observation_space, spaces.Box):
        raise InvalidValueError(
            f"Observations should be a Box. Received {observation_space}. "
            "gymnasium.wrappers.FlattenObservation turns most other spaces into one."
        )
    if is_image_space(observation_space):
        channels_first = is_image_space_channels_first(observation_space)
        size = observation_space.shape[1:] if channels_first else observation_space.shape[:2]
        if min(size) < SMALLEST_IMAGE:
            raise InvalidValueError(
                f"Images should have at least {SMALLEST_IMAGE}x{SMALLEST_IMAGE} pixels. Received "
                f"{size[0]}x{size[1]}: gymnasium.wrappers.ResizeObservation makes them larger."
            )
    if isinstance(action_space, spaces.Discrete):
        return
    if not isinstance(action_space, spaces.Box):
        raise InvalidValueError(f"Actions should be a Box or Discrete. Received {action_space}.")
    check_bounded(action_space)


def check_observations(space: spaces.Space[Any]) -> None:
    """Refuse observations that Stable-Baselines3's feature extractors do not know.

    Raises:
        InvalidValueError: unless they are a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict
            of such, of at least one number, and numbered from 0.
    """
    parts = [*space.spaces.values()] if isinstance(space, spaces.Dict) else [space]
    known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    if not parts or not all(isinstance(part, known) for part in parts):
        raise InvalidValueError(
            "Observations should be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of "
            f"such. Received {space}. gymnasium.wrappers.FlattenObservation turns most other "
            "spaces into a Box."
        )
    for part in parts:
        if isinstance(part, spaces.Box) and part.shape == ():
            raise InvalidValueError(
                f"A Box of observations should have a shape. Received {part}: "
                "gymnasium.wrappers.ReshapeObservation gives it the shape (1,)."
            )
        if isinstance(part, spaces.MultiDiscrete) and len(part.shape) > 1:
            raise InvalidValueError(
                f"MultiDiscrete observations should be a vector. Received {part}: "
                "gymnasium.wrappers.FlattenObservation makes one of them."
            )
        if np.any(getattr(part, "start", 0)):
            raise InvalidValueError(
                f"Observations should be numbered from 0. Received {part}: "
                "gymnasium.wrappers.TransformObservation subtracts what they start from."
            )


def check_bounded(space: spaces.Space[Any]) -> None:
    """Refuse actions in a Box without bounds, or of whole numbers.

    Raises:
        InvalidValueError: then.
    """
    if not isinstance(space, spaces.Box):
        return
    if not np.issubdtype(space.dtype, np.floating):
        raise InvalidValueError(
            f"Actions should be a Box of floats. Received {space}. "
            "gymnasium.wrappers.TransformAction turns an agent's floats into integers."
        )
    if not space.is_bounded():
        raise InvalidValueError(
            f"Actions should be bounded. Received {space}. gymnasium.wrappers.RescaleAction or "
            "ClipAction give an action space bounds."
        )


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return a Box or Discrete space as JSON values; ``null`` stands for an infinite bound."""
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.Box):
        return {
            "type": "Box",
            "shape": list(space.shape),
            "dtype": str(space.dtype),
            "low": _bounds_to_json(space.low),
            "high": _bounds_to_json(space.high),
        }
    raise InvalidValueError(f"Only Box and Discrete spaces can be saved. Received {space}.")


def space_from_json(value: dict[str, Any]) -> spaces.Space[Any]:
    """Return the space that ``space_to_json`` described.

    Raises:
        InvalidValueError: if the description is of no such space.
    """
    try:
        if value["type"] == "Discrete":
            return spaces.Discrete(value["n"], start=value["start"])
        if value["type"] == "Box":
            shape, dtype = tuple(value["shape"]), np.dtype(value["dtype"])
            if dtype.kind not in "fiu" or not 0 < math.prod(shape) <= MAX_SIZE:
                raise ValueError(f"{dtype} of shape {shape}")
            low = _bounds_from_json(value["low"], -np.inf, shape, dtype)
            high = _bounds_from_json(value["high"], np.inf, shape, dtype)
            return spaces.Box(low, high, shape, dtype=dtype.type)
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise InvalidValueError(f"No valid description of a space: {error!r}.") from None
    raise InvalidValueError(f"A space should be a Box or Discrete. Received {value['type']!r}.")


def _bounds_to_json(bounds: np.ndarray) -> list[float | None] | float | None:
    # Integers stay integers: the largest are no floats.
    values = [bound.item() if np.isfinite(bound) else None for bound in bounds.flat]
    # One number where all are equal: an image's bounds would fill pages.
    return values[0] if len(set(values)) == 1 else values


def _bounds_from_json(
    value: list[float | None] | float | None,
    infinite: float,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> np.ndarray:
    values = value if isinstance(value, list) else [value]
    bounds = np.array([infinite if bound is None else bound for bound in values], dtype)
    return bounds.reshape(shape) if isinstance(value, list) else np.full(shape, bounds[0])
