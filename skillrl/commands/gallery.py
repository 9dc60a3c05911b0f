"""``skillrl gallery``: one page with every skill of a run."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track

from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.metrics import body_information
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
    live, steps = sum(each.live for each in records), sum(each.steps for each in records)
    found = {
        "live skills": f"{live} of {len(records)}",
        "environment steps": f"{steps:,}",
        "minutes": f"{sum(each.seconds for each in records) / 60:.1f}",
    }
    bound = math.log(len(records))
    for name, nats in body_information(library).items():
        found[f"nats that {name} tells of the skill"] = f"{nats:.2f} of {bound:.2f}"
    return found
