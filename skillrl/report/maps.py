"""A map of where the skills of a game go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skillrl.discovery.places import Places
from skillrl.files import write_atomically

_COLUMNS = 4


def plot_places(
    path: Path,
    visited: Sequence[Places],
    pictures: Mapping[int, NDArray[np.uint8]],
    *,
    title: str,
    ground: int | None,
) -> None:
    """Draw every room that was visited, with the places where each skill was.

    Args:
        path: the file, ``*.png``.
        visited: of each skill.
        pictures: of each room, uint8 ``(height, width, 3)``.
        title: above all.
        ground: row of the picture that y = 0 stands for; None where it is not known, so that
            places are drawn without the pictures.
    """
    rooms = sorted(pictures)
    columns = min(_COLUMNS, len(rooms))
    rows = math.ceil(len(rooms) / columns)
    # Without pyplot, which would look for a display.
    figure = Figure(figsize=(max(5, 3.2 * columns), 0.8 + 4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    colours = matplotlib.colormaps["turbo"](np.linspace(0.15, 0.9, len(visited)))
    axes = np.atleast_1d(figure.subplots(rows, columns)).flatten()
    for axis, room in zip(axes, rooms, strict=False):
        axis.set(title=f"room {room}", xticks=[], yticks=[])
        if ground is not None:
            axis.imshow(pictures[room] // 2)
        for each, colour in zip(visited, colours, strict=True):
            points = np.array([place for place in each.steps if place[0] == room])
            if len(points):
                across, up, count = points[:, 1], points[:, 2], points[:, 3]
                down = up if ground is None else ground - up
                sizes = 4 + 12 * np.sqrt(count / count.max())
                axis.scatter(across, down, sizes, [colour], label=f"skill {each.skill}", alpha=0.8)
        axis.legend(loc="upper right", fontsize="x-small")
    for axis in axes[len(rooms) :]:
        axis.set_axis_off()
    figure.suptitle(title, fontsize="medium")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))
