"""``skillrl sequence``: train a recurrent network on a sequence task."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from skillrl import __version__
from skillrl.errors import DivergedError, InvalidValueError
from skillrl.files import write_json
from skillrl.recurrent.recipes import SequenceRecipe
from skillrl.recurrent.training import (
    Outcome,
    Point,
    make_network,
    make_task,
    save_network,
    train,
)
from skillrl.report.curves import plot_training


def sequence(
    recipe: SequenceRecipe, *, out: Path | None = None, resume: bool = False
) -> tuple[Path, Outcome]:
    """Train a network, with progress on standard error, and write what came out.

    Args:
        recipe: every setting.
        out: folder for ``progress.csv``, which grows while it trains, ``result.json``,
            ``curve.png`` and ``network.safetensors``, which ``skillrl.recurrent.load_network``
            reads; None for ``runs/sequence-<task>-<layer>-<rule>-seed<seed>``.
        resume: whether to go on with a training in the folder that was stopped.

    Returns:
        The folder, and what came out.

    Raises:
        DamagedFileError: if the training to go on with cannot be read.
        InvalidValueError: if a setting is out of range, the data is missing or malformed, a state
            is not finite, the folder holds another result or, without ``resume``, a training that
            was stopped; with it, if the folder holds none, or one with other settings.
    """
    out = default_folder(recipe) if out is None else out
    checkpoint, progress_file = out / "checkpoint.safetensors", out / "progress.csv"
    _check(out, checkpoint, resume)
    try:
        torch.empty(0, device=recipe.device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidValueError(f"There is no device {recipe.device!r}: {error}") from None
    task = make_task(recipe)
    network = make_network(recipe, task)
    # Before the training, which a folder that cannot be written to would end.
    out.mkdir(parents=True, exist_ok=True)
    progress_file.write_text("update,loss,accuracy\n", encoding="utf-8")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    first = next(iter(task.batches("test", 1, 0)))
    print(
        f"{recipe.task}: {recipe.updates:,} updates of {recipe.batch_size} sequences, of which the "
        f"first to be tested has {len(first.values):,} steps; {parameters:,} parameters.",
        file=sys.stderr,
        flush=True,
    )
    with _shown(recipe, progress_file) as show:
        try:
            outcome = train(network, task, recipe, show, checkpoint)
        except DivergedError:
            # It would diverge again.
            checkpoint.unlink(missing_ok=True)
            raise
        except KeyboardInterrupt:
            if checkpoint.exists():
                print("\nThe same line with --resume goes on.", file=sys.stderr)
            raise
    save_network(out / "network.safetensors", network, recipe)
    plot_training(
        out / "curve.png",
        [point.update for point in outcome.curve],
        [point.loss for point in outcome.curve],
        [point.accuracy for point in outcome.curve],
        title=f"{recipe.task}: {recipe.layer}, {recipe.rule}, seed {recipe.seed}",
        chance=task.chance,
    )
    result = {
        "recipe": dataclasses.asdict(recipe),
        "parameters": parameters,
        "chance": task.chance,
        **dataclasses.asdict(outcome),
        "skillrl": __version__,
    }
    # Last: where it is, the others are.
    write_json(out / "result.json", result)
    checkpoint.unlink()
    return out, outcome


@contextmanager
def _shown(recipe: SequenceRecipe, progress_file: Path) -> Iterator[Callable[[Point], None]]:
    """Draw a bar, or print lines where there is no terminal, and write each point into a file."""
    columns = (
        TextColumn("update {task.completed:,} of {task.total:,}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}, right {task.fields[accuracy]:.1%}"),
        TimeRemainingColumn(),
    )
    console, hidden = Console(stderr=True), not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=hidden) as progress:
        bar = progress.add_task("", total=recipe.updates, loss=float("nan"), accuracy=0.0)

        def show(point: Point) -> None:
            progress.update(bar, completed=point.update, loss=point.loss, accuracy=point.accuracy)
            if hidden:
                text = f"update {point.update:,}: loss {point.loss:.3f}, right"
                print(f"{text} {point.accuracy:.1%}", file=sys.stderr, flush=True)
            with progress_file.open("a", encoding="utf-8") as file:
                file.write(f"{point.update},{point.loss:.6g},{point.accuracy:.6g}\n")

        yield show


def _check(out: Path, checkpoint: Path, resume: bool) -> None:
    """Refuse a folder whose content a training would overwrite, or that has none to go on with."""
    if (out / "result.json").exists():
        raise InvalidValueError(f"{out} holds a result already: name another folder with --out.")
    if resume and not checkpoint.exists():
        raise InvalidValueError(f"{out} holds no training that was stopped: leave out --resume.")
    if checkpoint.exists() and not resume:
        raise InvalidValueError(
            f"{out} holds a training that was stopped: go on with --resume, or name another folder "
            "with --out."
        )


def default_folder(recipe: SequenceRecipe) -> Path:
    """Return the folder of a training that was given none.

    >>> default_folder(SequenceRecipe("copy", seed=3)).as_posix()
    'runs/sequence-copy-lru-online-seed3'
    """
    return Path("runs") / f"sequence-{recipe.task}-{recipe.layer}-{recipe.rule}-seed{recipe.seed}"
