"""The gallery of a run: one page with every skill's video, figures and charts.

The page needs no network and no server: it shows the videos that lie beside it in the run's folder,
and holds all else itself.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Mapping, Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.record import Record
from skillrl.files import write_atomically
from skillrl.report.charts import line_chart
from skillrl.report.videos import Recording

_POSTER_WIDTH = 320


def write_gallery(
    path: Path,
    library: SkillLibrary,
    recordings: Sequence[Recording],
    figures: Mapping[str, str],
) -> None:
    """Write the page, atomically.

    Args:
        path: the page, in the run's folder, where the skills' ``video.mp4`` are.
        library: the run.
        recordings: the filmed episode of each skill.
        figures: names and values of figures about the whole run.
    """
    curves = training_curves(library.path / "progress.csv")
    records = [recording.skill.record for recording in recordings]
    skills = []
    for recording, record in zip(recordings, records, strict=True):
        rewards = [reward for reward in recording.rewards if reward is not None]
        steps, means = curves.get(record.index, ([], []))
        seconds = [(index + 1) / recording.fps for index in range(len(rewards))]
        skills.append(
            {
                "record": record,
                "asked": asked_in_words(record.asked or ""),
                "what": "" if record.descriptors is None else record.descriptors.name,
                "children": [other.index for other in records if other.parent == record.index],
                "video": (recording.skill.path / "video.mp4").relative_to(path.parent).as_posix(),
                "poster": _poster(recording),
                "episode_chart": _chart(record, seconds, rewards, "s", "Reward in the episode"),
                "training_chart": _chart(record, steps, means, "steps", "Reward in training"),
                "facts": _facts(record),
            }
        )
    width, height = recordings[0].picture(0).size if recordings else (4, 3)
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        files("skillrl.report").joinpath("gallery.html").read_text(encoding="utf-8")
    )
    run = {
        "name": library.path.resolve().name,
        "env": library.recipe.env,
        "seed": library.seed,
        "method": library.recipe.method,
        "aspect": f"{width} / {height}",
    }
    figure_list = [{"name": name, "value": value} for name, value in figures.items()]
    text = page.render(run=run, figures=figure_list, skills=skills)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def asked_in_words(asked: str) -> str:
    """Say what a skill's reward asked for.

    >>> asked_in_words("+8"), asked_in_words("-0"), asked_in_words("ways")
    ('more of component 8', 'less of component 0', 'one of several ways to go on')
    """
    if asked[:1] in ("+", "-"):
        return f"{'more' if asked[0] == '+' else 'less'} of component {asked[1:]}"
    words = {
        "all": "whatever was new",
        "ways": "one of several ways to go on",
        "lively ways": "one of several lively ways to go on",
    }
    return words.get(asked, asked)


def training_curves(path: Path) -> dict[int, tuple[list[float], list[float]]]:
    """Read a run's ``progress.csv``: of each skill, its steps so far and the mean rewards."""
    curves: dict[int, tuple[list[float], list[float]]] = {}
    if not path.is_file():
        return curves
    first: dict[int, float] = {}
    with path.open(newline="", encoding="utf-8") as file:
        previous = 0.0
        for row in csv.DictReader(file):
            try:
                skill, total = int(row["skill"]), float(row["time/total_timesteps"])
                reward = float(row["rollout/mean_reward"])
            except (KeyError, TypeError, ValueError):
                continue  # a row that was cut
            first.setdefault(skill, previous)
            steps, means = curves.setdefault(skill, ([], []))
            steps.append(total - first[skill])
            means.append(reward)
            previous = total
    return curves


def _chart(
    record: Record, x: Sequence[float], y: Sequence[float], label: str, title: str
) -> Markup:
    # Built of numbers and of our own words only, so safe as it is.
    return Markup(line_chart(x, y, top=record.target, x_label=label, title=title))


def _poster(recording: Recording) -> str:
    """A picture from the middle of the film, as a data URL."""
    picture = recording.picture(len(recording) // 2)
    picture.thumbnail((_POSTER_WIDTH, _POSTER_WIDTH))
    content = BytesIO()
    picture.convert("RGB").save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _facts(record: Record) -> list[tuple[str, Any]]:
    facts = [
        ("reward", f"{record.mean_reward:.3g} of {record.target:g}"),
        ("another skill on it", f"{record.previous_mean_reward:.3g}"),
    ]
    if record.fresh_reward is not None:
        facts.append(("fresh agent on it", f"{record.fresh_reward:.3g}"))
    if record.separation is not None:
        facts += [
            ("reward tells wanted states", f"{record.separation.positives:.0%}"),
            ("and mistakes old ones", f"{record.separation.negatives:.0%}"),
        ]
    body = record.descriptors
    if body is not None:
        facts += [
            ("velocity", f"{body.forward_velocity:+.2f} m/s"),
            ("height", f"{body.height:.2f} m"),
            ("front, back flips", f"{body.front_somersaults:.1f}, {body.back_somersaults:.1f}"),
            ("upside down", f"{body.upside_down:.0%}"),
            ("no foot on the ground", f"{body.airborne:.0%}"),
            *((f"{foot} foot down", f"{share:.0%}") for foot, share in body.feet.items()),
            ("effort", f"{body.effort:.0%}"),
        ]
    if record.task_return is not None:
        facts.append(("return of the task", f"{record.task_return:,.0f}"))
    facts.append(("training", f"{record.steps:,} steps, {record.seconds:.0f} s"))
    return facts
