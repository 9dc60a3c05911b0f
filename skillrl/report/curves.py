"""Training curves as image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from skillrl.files import write_atomically


def plot_training(
    path: Path,
    updates: Sequence[int],
    losses: Sequence[float],
    accuracies: Sequence[float],
    *,
    title: str,
    chance: float,
) -> None:
    """Draw loss and accuracy over the updates of a training.

    Args:
        path: the file, ``*.png``.
        updates: gradient steps, increasing.
        losses: as many.
        accuracies: as many, in [0, 1].
        title: above the plot.
        chance: accuracy of a guess, drawn as a dashed line.
    """
    # Without pyplot, which would look for a display.
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(updates, losses, color="tab:blue")
    left.set(xlabel="update", ylabel="training loss", yscale="log")
    right.plot(updates, accuracies, color="tab:green")
    right.axhline(chance, color="grey", linestyle="--", label="a guess")
    right.set(xlabel="update", ylabel="share of right answers", ylim=(0, 1.02))
    right.legend(loc="lower right", frameon=False)
    figure.suptitle(title)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120))
