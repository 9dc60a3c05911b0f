"""Curves of trainings, and along paths between networks, as image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    # A scale of powers only where there are some: its labels in between cannot be read.
    scale = "log" if 0 < 10 * min(losses) < max(losses) else "linear"
    left.set(xlabel="update", ylabel="training loss", yscale=scale)
    right.plot(updates, accuracies, color="tab:green")
    right.axhline(chance, color="grey", linestyle="--", label="a guess")
    right.set(xlabel="update", ylabel="share of right answers", ylim=(0, 1.02))
    right.legend(loc="best", frameon=False)
    figure.suptitle(title)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120))


def plot_paths(
    path: Path,
    alphas: Sequence[float],
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    *,
    title: str,
) -> None:
    """Draw scores along paths between two networks, side by side.

    Args:
        path: the file, ``*.png``.
        alphas: places on the path, from 0 to 1.
        panels: by the label of its y-axis each panel's curves, by name: means and standard errors,
            as many as places.
        title: above the panels.
    """
    figure = Figure(figsize=(4 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, (label, curves) in zip(axes, panels.items(), strict=True):
        for name, (means, errors) in curves.items():
            panel.errorbar(alphas, means, errors, label=name, capsize=2, linewidth=1)
        panel.set(xlabel="α, share of the second network", ylabel=label)
    names = axes[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=len(names[0]), frameon=False)
    figure.suptitle(title)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120))
