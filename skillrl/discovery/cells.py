"""What observations look like from afar: cells, as numbers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

# Squares that an image is shrunk to each way, their shades, and squares of a window each way.
SIDE, SHADES, WINDOW = 12, 16, 2
# Images that are turned into floats at once.
_PIECE = 1_024
# Cells are smaller numbers than two to this power.
_CELL_BITS = 32


def cells_of(observations: np.ndarray, channels_last: bool = False) -> np.ndarray:
    """Return the cells that observations fall into.

    A position on a grid is a cell. An image falls into one for each of its windows of 2 by 2
    squares, which tells the window and the shades of its squares. A network tells any two postures
    apart, and so a reward that asks for all that exploration reached is content with another
    posture in the same place; cells are too coarse for postures. Those of Go-Explore (Ecoffet et
    al. 2021, arXiv 2004.12919) are all squares together: there, of two things that move, each place
    of the one is new with each place of the other.

    Args:
        observations: images ``(n, channels, height, width)`` of bytes, or positions on a grid
            ``(n, 2)``, of whole numbers below 2³¹.
        channels_last: whether the images' channels come last.

    Returns:
        Numbers, ``(n, windows)`` of images and ``(n, 1)`` of positions.

    >>> black = np.zeros((1, 4, 84, 84), np.uint8)
    >>> corner = black.copy()
    >>> corner[..., :7, :7] = 255
    >>> np.flatnonzero(cells_of(black) != cells_of(corner))
    array([0])
    """
    if observations.ndim != 4:
        positions = observations.astype(np.int64)
        return (positions[:, 0] << 31 | positions[:, 1])[:, None]
    split = torch.as_tensor(observations).split(_PIECE)
    return np.concatenate([_windows(piece, channels_last).numpy() for piece in split])


def told_apart(cells: np.ndarray, changes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Tell cells apart by what has changed: where a key was taken, all places are new.

    Args:
        cells: of images, ``(n, windows)``.
        changes: cells that are there since something has changed, ``(m,)``.
        numbers: of what they show, from 1 on, ``(m,)``: one thing is seen in several windows.

    Returns:
        The cells, ``(n, windows)``, with other numbers in images that have one of the changes; of
        more than one, the highest number tells which.

    >>> told_apart(np.array([[1, 5], [2, 5]]), np.array([2]), np.array([1]))[:, 1] == 5
    array([ True, False])
    """
    change = np.zeros((len(cells), 1), np.int64)
    for number in np.unique(numbers):
        change[np.isin(cells, changes[numbers == number]).any(1)] = number
    return cells | change << _CELL_BITS


def change_of(cells: np.ndarray) -> np.ndarray:
    """The number of the change by which each cell was told apart, 0 for none."""
    return cells >> _CELL_BITS


def _windows(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """A number for each window of each image, in which each of its squares has four bits."""
    brightness = images.float().mean(-1 if channels_last else 1)
    squares = F.adaptive_avg_pool2d(brightness, SIDE)
    shades = (squares * ((SHADES - 1) / 255)).round().long()
    windows = shades.unfold(1, WINDOW, 1).unfold(2, WINDOW, 1).flatten(3).flatten(1, 2)
    digits = SHADES ** torch.arange(WINDOW * WINDOW + 1)
    return (windows * digits[:-1]).sum(-1) + torch.arange(windows.shape[1]) * digits[-1]
