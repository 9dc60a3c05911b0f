"""What observations look like from afar: cells, of which exploration finds some that are new."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

# Squares that an image is shrunk to each way, and shades.
SIDE, SHADES = 12, 16
# Images that are turned into floats at once.
_PIECE = 1_024


def unseen(
    observations: np.ndarray, seen: Iterable[np.ndarray], channels_last: bool = False
) -> np.ndarray:
    """Find what falls into cells into which nothing fell that was seen before.

    A network tells any two postures apart, and so a reward that asks for all that exploration
    reached is content with another posture in the same place. Cells are too coarse for postures.
    Source: the cells of Go-Explore (Ecoffet et al. 2021, arXiv 2004.12919).

    Args:
        observations: images ``(n, channels, height, width)`` of bytes, or positions on a grid
            ``(n, 2)``, which are their own cells.
        seen: groups of the like.
        channels_last: whether the images' channels come last.

    Returns:
        Which observations do, ``(n,)``.
    """
    known = _known(seen, channels_last)
    return np.array([cell not in known for cell in _cells(observations, channels_last)], bool)


def one_of_each(
    observations: np.ndarray,
    seen: Iterable[np.ndarray],
    rng: np.random.Generator,
    channels_last: bool = False,
) -> np.ndarray:
    """Find one observation of each cell into which nothing fell that was seen before.

    Args:
        observations: see ``unseen``.
        seen: groups of the like.
        rng: source of the choice among those of a cell.
        channels_last: whether the images' channels come last.

    Returns:
        Their rows.
    """
    known = _known(seen, channels_last)
    cells = _cells(observations, channels_last)
    chosen = {cells[row]: row for row in rng.permutation(len(cells))}
    return np.array([row for cell, row in chosen.items() if cell not in known], int)


def _known(seen: Iterable[np.ndarray], channels_last: bool) -> set[bytes]:
    return {cell for group in seen for cell in _cells(group, channels_last)}


def _cells(observations: np.ndarray, channels_last: bool) -> list[bytes]:
    if observations.ndim != 4:
        return [row.tobytes() for row in observations]
    return [
        row.tobytes()
        for piece in torch.as_tensor(observations).split(_PIECE)
        for row in _shrunk(piece, channels_last)
    ]


def _shrunk(images: torch.Tensor, channels_last: bool) -> np.ndarray:
    """Images of ``SIDE`` by ``SIDE`` squares, of all channels together, in ``SHADES`` shades."""
    brightness = images.float().mean(-1 if channels_last else 1)
    squares = F.adaptive_avg_pool2d(brightness, SIDE)
    return (squares * ((SHADES - 1) / 255)).round().to(torch.uint8).numpy()
