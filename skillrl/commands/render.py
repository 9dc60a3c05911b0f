"""``skillrl render``: films of a run's skills, or a window that shows them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL.Image import Image
from rich.console import Console
from rich.progress import Progress, SpinnerColumn

from skillrl.discovery.library import Skill, SkillLibrary, load_skill
from skillrl.errors import InvalidValueError
from skillrl.files import write_atomically
from skillrl.report.videos import GIF_WIDTH, film, grid, record, write_gif, write_mp4
from skillrl.report.window import play


def render(
    run: Path,
    *,
    out: Path = Path("videos"),
    skills: tuple[int, ...] | None = None,
    gif: bool = False,
    live: bool = False,
    steps: int | None = None,
    seed: int = 0,
) -> list[Path]:
    """Film skills from an ordinary reset: one video a skill, and a labelled grid of all.

    The videos are ``<out>/<name of the run>/skill-000.mp4`` and so on; the grid is ``all.mp4``
    beside them, or ``selection.mp4`` where only some skills were asked for. Each skill's own
    folder gets a copy of its video, unless it is read-only.

    Args:
        run: a run's folder, or that of one skill.
        out: folder that the videos are written to.
        skills: numbers of the skills; None for all.
        gif: write animated GIFs as well.
        live: show the skills in a window instead, one after another, until it is closed.
        steps: the most environment steps of each skill; None for one episode, of which videos
            show the first 15 seconds if it has more than 500 steps.
        seed: of the resets.

    Returns:
        The files in ``out``, in the order in which they were written.

    Raises:
        InvalidValueError: if there is no such skill, or its environment cannot be drawn.
        DamagedFileError: if ``run`` is neither a run nor a skill, or a file of it is damaged.
    """
    if steps is not None and steps < 1:
        raise InvalidValueError(f"steps should be at least 1. Received {steps}.")
    name, chosen, grid_name = _choose(run, skills)
    for skill in chosen:
        # Before any of the drawing, so that a damaged file is told of at once.
        _ = skill.policy, skill.reward
    with Progress(
        SpinnerColumn(),
        *Progress.get_default_columns(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        if live:
            for skill in progress.track(chosen, description="Playing"):
                if not play(skill, steps=steps, seed=seed):
                    break
            return []
        paths, recordings = [], []
        for skill in progress.track(chosen, description="Filming"):
            recording = record(skill, steps=steps, seed=seed)
            video = out / name / f"skill-{skill.index:03d}.mp4"
            paths += _write(video, partial(film, recording), recording.fps, gif)
            if os.access(skill.path, os.W_OK):
                _copy(video, skill.path / "video.mp4")
            recordings.append(recording)
        if len(recordings) > 1:
            progress.add_task("Putting them side by side", total=None)
            video = out / name / f"{grid_name}.mp4"
            paths += _write(video, partial(grid, recordings), recordings[0].fps, gif)
    return paths


def _write(
    video: Path, frames: Callable[..., Iterator[Image]], fps: float, gif: bool
) -> list[Path]:
    write_mp4(video, frames(), fps)
    if not gif:
        return [video]
    animation = video.with_suffix(".gif")
    write_gif(animation, frames(width=GIF_WIDTH), fps)
    return [video, animation]


def _choose(run: Path, numbers: tuple[int, ...] | None) -> tuple[str, list[Skill], str]:
    """Return the run's name, the skills to show, and the name of the grid of them."""
    folder = run.resolve()
    if (folder / "skill.json").is_file():
        if numbers is not None:
            raise InvalidValueError(
                f"{run} is one skill. Give the run's folder to choose skills by their numbers."
            )
        of_a_run = folder.parent.name == "skills"
        return (folder.parents[1] if of_a_run else folder).name, [load_skill(folder)], ""
    library = SkillLibrary(run)
    if len(library) == 0:
        raise InvalidValueError(
            f"{run} has no finished skill yet. Its first one appears when it has been trained; "
            "a run that was stopped goes on with `skillrl discover … --resume`."
        )
    if numbers is None:
        return folder.name, list(library), "all"
    return folder.name, [library[number] for number in dict.fromkeys(numbers)], "selection"


def _copy(video: Path, path: Path) -> None:
    write_atomically(path, lambda temporary: shutil.copyfile(video, temporary))
