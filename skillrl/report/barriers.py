"""Barriers between policies, the paths that cross them, and a plane, as image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from skillrl.files import write_atomically
from skillrl.permutation import Modes
from skillrl.permutation.connectivity import Matrix, tree
from skillrl.permutation.plane import Plane

# Characters of a name that have room.
_LONGEST = 16
# Cells with numbers in them are readable up to so many networks.
_WRITTEN = 12


def plot_barriers(
    path: Path, before: Matrix, after: Matrix, threshold: float, labels: Sequence[str]
) -> None:
    """Draw the barriers before and after alignment, in the order of a dendrogram beside them.

    Args:
        path: the file, ``*.png``.
        before: barriers between the networks as they were, ``(N, N)``, symmetric.
        after: barriers between the aligned networks, ``(N, N)``, symmetric.
        threshold: barriers up to this connect two networks.
        labels: names of the networks.
    """
    labels, count = _short(labels), len(labels)
    size = min(max(2.0 + 0.45 * count, 3.5), 9.0)
    figure = _figure(2.6 * size, size)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.45))
    drawn = dendrogram(tree(np.minimum(before, after)), no_plot=True)
    order = drawn["leaves"]
    names = [labels[number] for number in order]
    top = max(np.max(before), np.max(after), threshold, 1e-6)
    for axes, title, matrix in (
        (left, "before alignment", before),
        (middle, "after alignment", after),
    ):
        values = np.array(matrix)[np.ix_(order, order)]
        image = axes.imshow(values, vmin=0, vmax=top, cmap="magma_r")
        axes.set(title=title, xticks=range(count), yticks=range(count))
        axes.set_xticklabels(names, rotation=90)
        axes.set_yticklabels(names if axes is left else [])
        if count <= _WRITTEN:
            for row, column in np.ndindex(values.shape):
                dark = values[row, column] > top / 2
                text = f"{values[row, column]:.2f}" if row != column else "–"
                colour = "white" if dark else "black"
                axes.text(column, row, text, ha="center", va="center", color=colour, size=8)
    figure.colorbar(image, ax=[left, middle], label="barrier", shrink=0.8)
    for heights, leaves in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        # The leaves are at 5, 15, … as SciPy counts; here they stand beside the rows.
        connected = max(heights) <= threshold
        rows = (np.array(leaves) - 5) / 10
        right.plot(heights, rows, color="tab:orange" if connected else "grey")
    right.axvline(threshold, color="grey", linestyle="--", linewidth=1)
    right.set(title="connected at", xlabel="barrier", yticks=[], ylim=(count - 0.5, -0.5))
    right.set_xlim(-0.02 * top, 1.05 * top)
    right.spines[["left", "right", "top"]].set_visible(False)
    _write(figure, path)


def plot_returns(path: Path, modes: Modes, labels: Sequence[str], random: float) -> None:
    """Draw what is earned on the paths between all pairs, before and after alignment.

    Args:
        path: the file, ``*.png``.
        modes: of the networks.
        labels: their names.
        random: return of a random policy, drawn as a dotted line.
    """
    labels = _short(labels)
    figure = _figure(9, 3.6)
    axes: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    few = len(modes.paths["after"]) <= 6
    for each, key in zip(axes, ("before", "after"), strict=True):
        for pair, scores in modes.paths[key].items():
            first, second = (labels[int(number)] for number in pair.split("-"))
            style = {"label": f"{first} → {second}"} if few else {"alpha": 0.4}
            each.plot(modes.alphas, scores, marker=".", **style)
        each.axhline(random, color="grey", linestyle=":")
        each.annotate("random", (1, random), ha="right", va="bottom", color="grey", size=8)
        each.set(title=f"{key} alignment")
    figure.supxlabel("share of the second policy", size="medium")
    axes[0].set(ylabel="mean return")
    if few:
        axes[1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    _write(figure, path)


def plot_plane(path: Path, plane: Plane, labels: Sequence[str]) -> None:
    """Draw what is earned on the plane through three aligned policies.

    Args:
        path: the file, ``*.png``.
        plane: of them.
        labels: their names.
    """
    figure = _figure(5.6, 4.4)
    axes = figure.subplots()
    image = axes.contourf(plane.x, plane.y, plane.scores, levels=12, cmap="viridis")
    corners = np.array(plane.corners)
    axes.plot(*corners[[0, 1, 2, 0]].T, color="white", linewidth=1, marker="o")
    middle = corners.mean(0)
    for (x, y), label in zip(corners, _short(labels), strict=True):
        below = y < middle[1]
        axes.annotate(
            label,
            (x, y),
            xytext=(0, -6 if below else 6),
            textcoords="offset points",
            # Inwards, where there is room.
            ha="left" if x < middle[0] else "right",
            va="top" if below else "bottom",
            color="white",
        )
    axes.set(aspect="equal", xlabel="distance of parameters", title="after alignment")
    figure.colorbar(image, ax=axes, label="mean return", shrink=0.8)
    _write(figure, path)


def _short(labels: Sequence[str]) -> list[str]:
    """Names that have room in a figure; what differs most often stands at the end."""
    short = [name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}" for name in labels]
    return short if len({*short}) == len({*labels}) else [f"{n}" for n in range(len(labels))]


def _figure(width: float, height: float) -> Figure:
    # Without pyplot, which would look for a display.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Figure, path: Path) -> None:
    write_atomically(
        path, lambda temporary: figure.savefig(temporary, dpi=120, bbox_inches="tight")
    )
