"""What observations look like from afar: cells, as numbers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

# Squares that an image is shrunk to each way, their shades, and squares of a window each way.
SIDE, SHADES, WINDOW = 12, 16, 2
# Images that are turned into floats at once.
_PIECE = 1_024
# Steps for which a window that is not as usual must stay as it is to have changed for good.
LASTING = 20
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


def usual_cells(cells: np.ndarray) -> np.ndarray:
    """Return the most frequent cell of each window: what is there where nothing is.

    Args:
        cells: of images, ``(n, windows)``, n at least 1.

    >>> usual_cells(np.array([[1, 5], [2, 5], [2, 6]]))
    array([2, 5])
    """
    found = [np.unique(window, return_counts=True) for window in cells.T]
    return np.array([contents[counts.argmax()] for contents, counts in found])


def told_apart_by_changes(
    cells: np.ndarray, trajectories: np.ndarray, usual: np.ndarray
) -> np.ndarray:
    """Tell cells apart by what has changed for good: where a key was taken, all places are new.

    A window has changed for good while it stays as it is for ``LASTING`` steps of a trajectory and
    is not as usual: by what an agent took or opened, or because it is in another room, where the
    first such window tells in which one. What moves does not stay as it is, and there the cells of
    one thing are not told apart by the places of another.

    Args:
        cells: of images, ``(n, windows)``.
        trajectories: numbers of those that the images belong to, ``(n,)``; the images of each are
            in their order.
        usual: see ``usual_cells``.

    Returns:
        Other numbers for the cells of images in which something has changed, ``(n, windows)``.

    >>> seen = np.array([[1, 5]] * 3 + [[2, 5]] * 20 + [[1, 6]] * 3)
    >>> apart = told_apart_by_changes(seen, np.zeros(26, int), usual=np.array([1, 5]))
    >>> [row.tolist() for row in np.unique(apart != seen, axis=0)]
    [[False, False], [True, True]]
    >>> int((apart != seen).all(1).sum())
    20
    """
    order = np.argsort(trajectories, kind="stable")
    ordered, owner = cells[order], trajectories[order]
    begins = np.ones(ordered.shape, bool)
    begins[1:] = (ordered[1:] != ordered[:-1]) | (owner[1:] != owner[:-1])[:, None]
    # Numbers of the stretches in which a window stays as it is, one after the other.
    stretches = begins.T.ravel().cumsum() - 1
    lasts = np.bincount(stretches)[stretches].reshape(begins.T.shape).T >= LASTING
    changed = np.empty_like(lasts)
    changed[order] = lasts & (ordered != usual)
    first = np.take_along_axis(cells, changed.argmax(1)[:, None], axis=1)
    change = np.where(changed.any(1, keepdims=True), first + 1, 0)
    return cells | change << _CELL_BITS


def _windows(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """A number for each window of each image, in which each of its squares has four bits."""
    brightness = images.float().mean(-1 if channels_last else 1)
    squares = F.adaptive_avg_pool2d(brightness, SIDE)
    shades = (squares * ((SHADES - 1) / 255)).round().long()
    windows = shades.unfold(1, WINDOW, 1).unfold(2, WINDOW, 1).flatten(3).flatten(1, 2)
    digits = SHADES ** torch.arange(WINDOW * WINDOW + 1)
    return (windows * digits[:-1]).sum(-1) + torch.arange(windows.shape[1]) * digits[-1]
