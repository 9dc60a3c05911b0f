"""A map of where the skills of a game go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

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
    origin: tuple[int, int] | None,
) -> None:
    """Draw every room that a skill visited, with the places where it was: a panel for each.

    Args:
        path: the file, ``*.png``.
        visited: of each skill.
        pictures: of each room, uint8 ``(height, width, 3)``.
        title: above all.
        origin: column and row of the picture that x = y = 0 stands for; None where it is not known,
            so that places are drawn without the pictures.
    """
    panels = [(each, room, count) for each in visited for room, count in each.rooms.items()]
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    # Without pyplot, which would look for a display.
    figure = Figure(figsize=(max(5, 3.2 * columns), 0.8 + 4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows, columns)).flatten()
    for axis, (each, room, count) in zip(axes, panels, strict=False):
        heading = f"{each.player}, room {room} ({count} of {each.episodes})"
        axis.set_title(heading, fontsize="small")
        points = np.array([place for place in each.steps if place[0] == room])
        across, down, steps = points[:, 1], points[:, 2], points[:, 3]
        if origin is None:
            axis.set(xlabel="x of the console's memory", ylabel="y")
        else:
            axis.imshow(pictures[room] // 2)
            axis.set(xticks=[], yticks=[])
            across, down = origin[0] + across, origin[1] - down
        axis.scatter(across, down, 4 + 12 * np.sqrt(steps / steps.max()), "orange", alpha=0.8)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(title, fontsize="medium")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))
