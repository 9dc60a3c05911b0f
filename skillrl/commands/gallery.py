"""``skillrl gallery``: one page with every skill of a run."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track

from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.metrics import variety
from skillrl.errors import InvalidValueError
from skillrl.report.gallery import write_gallery
from skillrl.report.videos import film, record, write_mp4


def gallery(run: Path, *, seed: int = 0) -> Path:
    """Film every skill of a run and write one page that shows them all.

    Args:
        run: the run's folder; the videos go into the skills' folders.
        seed: of the resets.

    Returns:
        The page, ``gallery.html`` in the run's folder.

    Raises:
        InvalidValueError: if the run has no skill yet, or its environment cannot be drawn.
        DamagedFileError: if ``run`` is no run, or a file of it is damaged.
    """
    library = SkillLibrary(run)
    skills = list(library)
    if not skills:
        raise InvalidValueError(f"{run} has no finished skill yet.")
    recordings = []
    console = Console(stderr=True)
    hidden = not sys.stderr.isatty()
    for skill in track(skills, "Filming", console=console, transient=True, disable=hidden):
        recording = record(skill, seed=seed)
        write_mp4(skill.path / "video.mp4", film(recording), recording.fps)
        recordings.append(recording)
    page = run / "gallery.html"
    write_gallery(page, library, recordings, figures(library))
    return page


def figures(library: SkillLibrary) -> dict[str, str]:
    """Figures about a whole run, by their names."""
    records = [skill.record for skill in library]
    judged = [each.live for each in records if each.live is not None]
    found = {"skills": f"{len(records)}"}
    if judged:
        found = {"live skills": f"{sum(judged)} of {len(judged)}"}
    found |= {
        "environment steps": f"{sum(each.steps for each in records):,}",
        "minutes": f"{sum(each.seconds for each in records) / 60:.1f}",
    }
    known = variety(library)
    for name, nats in known.information.items():
        found[f"nats that {name} tells of the skill"] = f"{nats:.2f} of {known.bound:.2f}"
    if known.distinct is not None:
        found["how well two skills can be told apart"] = f"{known.distinct:.0%}"
    if known.coverage is not None:
        found["square metres visited"] = f"{known.coverage:,}"
    if known.task_return is not None:
        found["return of the task, by the best skill"] = f"{known.task_return:,.0f}"
    return found
