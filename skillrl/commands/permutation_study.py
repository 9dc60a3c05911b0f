"""``skillrl permutation-study``: image classifiers of different seeds, and what lies between."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import torch

from skillrl.errors import InvalidValueError
from skillrl.files import check_folder, write_json
from skillrl.images import read_images
from skillrl.permutation.recipes import StudyRecipe
from skillrl.permutation.study import ALPHAS, Examples, Outcome, PairOutcome, study
from skillrl.report.curves import plot_paths

# Figures of a score, and what they are called beside an axis.
_FIGURES = {
    "accuracy": "share of right answers",
    "loss": "loss, −log-likelihood",
    "tuned_loss": "loss, one temperature tuned",
}


def permutation_study(recipe: StudyRecipe, *, out: Path | None = None) -> tuple[Path, Outcome]:
    """Train pairs of networks, a line on standard error for each, and write what came out.

    Args:
        recipe: every setting.
        out: folder for ``result.json`` and ``curves.png``; None for
            ``runs/permutation-study-<network>-<width>x<depth>-seed<seed>``.

    Returns:
        The folder, and what came out.

    Raises:
        InvalidValueError: if the data is missing or malformed, there is no such device, or the
            folder holds another result, or is a file.
        DivergedError: if a training's numbers are no longer finite.
    """
    out = default_folder(recipe) if out is None else out
    check_folder(out)
    if (out / "result.json").exists():
        raise InvalidValueError(f"{out} holds a result already: name another folder with --out.")
    try:
        torch.empty(0, device=recipe.device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidValueError(f"There is no device {recipe.device!r}: {error}") from None

    def show(number: int, pair: PairOutcome) -> None:
        plain, aligned = (pair.curves[name].accuracy for name in ("plain", "aligned"))
        print(
            f"pair {number + 1} of {recipe.pairs}: right {plain[0]:.1%} and {plain[-1]:.1%}, "
            f"between them {plain[5]:.1%}, aligned {aligned[5]:.1%}",
            file=sys.stderr,
            flush=True,
        )

    outcome = study(recipe, read_examples(recipe), show)
    plot_paths(
        out / "curves.png",
        ALPHAS,
        {
            heading: {name: outcome.mean(name, figure) for name in outcome.pairs[0].curves}
            for figure, heading in _FIGURES.items()
        },
        title=f"{recipe.network}, {recipe.width} × {recipe.depth}: {recipe.pairs} pair(s) of seeds",
    )
    # Last: where it is, the figure is.
    write_json(out / "result.json", description(recipe, outcome))
    return out, outcome


def read_examples(recipe: StudyRecipe) -> Examples:
    """Return the images of the recipe.

    Raises:
        InvalidValueError: if the folder is missing or malformed.
    """
    folder = recipe.data or os.environ.get("SKILLRL_DATA")
    if not folder:
        raise InvalidValueError(
            "Images are read from a folder: name it with --data, or set SKILLRL_DATA."
        )
    train, test = (read_images(folder, split, recipe.limit) for split in ("train", "test"))
    return Examples((train.pixels, train.labels), (test.pixels, test.labels), recipe.device)


def description(recipe: StudyRecipe, outcome: Outcome) -> dict[str, Any]:
    """Return what came out as JSON: every pair, means and standard errors over the pairs."""
    pairs = [dataclasses.asdict(pair) for pair in outcome.pairs]
    for pair in pairs:
        del pair["permutations"]
    means = {
        name: {
            figure: dict(zip(("mean", "error"), outcome.mean(name, figure), strict=True))
            for figure in _FIGURES
        }
        for name in outcome.pairs[0].curves
    }
    return {
        "recipe": dataclasses.asdict(recipe),
        "alphas": ALPHAS,
        "curves": means,
        "initial": {
            name: dict(zip(("mean", "error"), values, strict=True))
            for name, values in outcome.averaged_initialisations().items()
        },
        "pairs": pairs,
        "controls": outcome.controls,
    }


def default_folder(recipe: StudyRecipe) -> Path:
    """Return the folder of a study that was given none.

    >>> default_folder(StudyRecipe("dense", seed=3)).as_posix()
    'runs/permutation-study-dense-1000x1-seed3'
    """
    size = f"{recipe.width}x{recipe.depth}"
    return Path("runs") / f"permutation-study-{recipe.network}-{size}-seed{recipe.seed}"
