"""The plane through three networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from skillrl.errors import InvalidValueError
from skillrl.permutation.trace import state_of, with_state

# How far the square goes beyond the triangle, as a share of its longer side.
_MARGIN = 0.2
# Three networks closer to a line than this share of their distance span no plane.
_FLAT = 1e-3


@dataclass(frozen=True)
class Plane:
    """Scores on the plane through three networks, in units of distances between parameters.

    Attributes:
        corners: ``(3, 2)``, where the networks lie; the first at the origin.
        x: ``(points,)``, along the way from the first network to the second.
        y: ``(points,)``, across it, towards the third.
        scores: ``(points of y, points of x)``.
    """

    corners: list[list[float]]
    x: list[float]
    y: list[float]
    scores: list[list[float]]


@torch.no_grad()
def plane(
    networks: Sequence[nn.Module], score: Callable[[nn.Module], float], points: int = 7
) -> Plane:
    """Score networks on a grid of the plane through three of them.

    Source of the picture: Garipov et al. 2018 (arXiv 1802.10026).

    Args:
        networks: three, of one architecture and in the same coordinates.
        score: from a network to a number.
        points: of the grid, along each side.

    Raises:
        InvalidValueError: if there are not three networks, or they lie on a line.
    """
    if len(networks) != 3 or points < 2:
        raise InvalidValueError(
            "A plane goes through three networks, and a grid has at least two points a side. "
            f"Received {len(networks)} networks and {points} points."
        )
    first, second, third = (
        torch.cat([parameter.detach().flatten().double() for parameter in each.parameters()])
        for each in networks
    )
    along, towards = second - first, third - first
    length = float(along.norm())
    shift = float(towards @ along) / max(length, 1e-30)
    height = float(towards.square().sum() - shift**2)
    height = float(np.sqrt(max(height, 0.0)))
    if min(length, height) <= _FLAT * max(length, float(towards.norm())):
        raise InvalidValueError("The three networks lie on a line, as two that are the same do.")
    low, high = min(0.0, shift), max(length, shift)
    margin = _MARGIN * max(high - low, height)
    xs = np.linspace(low - margin, high + margin, points)
    ys = np.linspace(-margin, height + margin, points)
    states = [state_of(each) for each in networks]

    def at(x: float, y: float) -> nn.Module:
        v = y / height
        u = (x - v * shift) / length
        return with_state(
            networks[0],
            {
                name: value + u * (states[1][name] - value) + v * (states[2][name] - value)
                if value.is_floating_point()
                else value
                for name, value in states[0].items()
            },
        )

    return Plane(
        corners=[[0.0, 0.0], [length, 0.0], [shift, height]],
        x=xs.tolist(),
        y=ys.tolist(),
        scores=[[float(score(at(x, y))) for x in xs] for y in ys],
    )
