"""What observations look like from afar: cells, as numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
import torch.nn.functional as F

# Squares that an image is shrunk to each way, and shades.
SIDE, SHADES = 12, 16
# Images that are turned into floats at once.
_PIECE = 1_024


def cells_of(observations: np.ndarray, channels_last: bool = False) -> np.ndarray:
    """Return the cells that observations fall into.

    A network tells any two postures apart, and so a reward that asks for all that exploration
    reached is content with another posture in the same place. Cells are too coarse for postures.
    Source: the cells of Go-Explore (Ecoffet et al. 2021, arXiv 2004.12919).

    Args:
        observations: images ``(n, channels, height, width)`` of bytes, or positions on a grid
            ``(n, 2)``, which are their own cells.
        channels_last: whether the images' channels come last.

    Returns:
        Numbers, ``(n,)``, equal where cells are.

    >>> black, grey = np.zeros((1, 4, 84, 84), np.uint8), np.full((1, 4, 84, 84), 100, np.uint8)
    >>> first, second, third = cells_of(np.concatenate([black, grey, black]))
    >>> first == third, first == second
    (np.True_, np.False_)
    """
    pieces = [observations]
    if observations.ndim == 4:
        split = torch.as_tensor(observations).split(_PIECE)
        pieces = [_shrunk(piece, channels_last) for piece in split]
    numbers = [_number(row) for piece in pieces for row in piece]
    return np.array(numbers, np.int64)


def _number(cell: np.ndarray) -> int:
    """A number of 64 bits, of which two cells of a run are hardly ever given the same."""
    digest = hashlib.blake2b(cell.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _shrunk(images: torch.Tensor, channels_last: bool) -> np.ndarray:
    """Images of ``SIDE`` by ``SIDE`` squares, of all channels together, in ``SHADES`` shades."""
    brightness = images.float().mean(-1 if channels_last else 1)
    squares = F.adaptive_avg_pool2d(brightness, SIDE)
    return (squares * ((SHADES - 1) / 255)).round().to(torch.uint8).numpy()
