"""The gallery of a run: one page with every skill's video, figures and charts.

The page needs no network and no server: it shows the videos that lie beside it in the run's folder,
and holds all else itself.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.record import Record
from skillrl.envs.make import make_single
from skillrl.envs.mujoco.components import component_names
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
    curves, names = training_curves(library.path / "progress.csv"), _component_names(library)
    records = [recording.skill.record for recording in recordings]
    skills = []
    for recording, record in zip(recordings, records, strict=True):
        rewards = [reward for reward in recording.rewards if reward is not None]
        seconds = [(index + 1) / recording.fps for index in range(len(rewards))]
        skills.append(
            {
                "record": record,
                "asked": asked_in_words(record.asked or "", names),
                "what": "" if record.descriptors is None else record.descriptors.name,
                "children": [other.index for other in records if other.parent == record.index],
                "video": (recording.skill.path / "video.mp4").relative_to(path.parent).as_posix(),
                "poster": _poster(recording),
                "episode_chart": _chart(
                    seconds, rewards, record.target, "s", "Reward in the episode"
                ),
                "training_chart": _training_chart(curves, record.index, record.target),
                "behaviour": _behaviour(record),
                "learning": _learning(record),
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
        "training_chart": _training_chart(curves, None, library.recipe.target),
    }
    figure_list = [{"name": name, "value": value} for name, value in figures.items()]
    text = page.render(run=run, figures=figure_list, skills=skills)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def asked_in_words(asked: str, names: Sequence[str] = ()) -> str:
    """Say what a skill's reward asked for.

    Args:
        asked: as in ``Record``.
        names: of the observation's components, if they are known.

    >>> asked_in_words("ways"), asked_in_words("+8")
    ('one of several ways to go on', 'more of component 8 of the observation')
    >>> asked_in_words("-1", ["angle of knee", "velocity of root"])
    'a lower velocity of root'
    """
    if asked[:1] in ("+", "-"):
        number = int(asked[1:])
        if number < len(names):
            return f"a {'higher' if asked[0] == '+' else 'lower'} {names[number]}"
        way = "more" if asked[0] == "+" else "less"
        return f"{way} of component {number} of the observation"
    words = {
        "all": "whatever was new",
        "new cells": "what was not seen there before",
        "ways": "one of several ways to go on",
        "lively ways": "one of several lively ways to go on",
    }
    return words.get(asked, asked)


def _component_names(library: SkillLibrary) -> list[str]:
    env = make_single(library.recipe.env, **library.recipe.env_kwargs)
    names = component_names(env)
    env.close()
    return names


# By the number of a skill, or None of all that are learnt together: steps so far and mean rewards.
Curves = dict[int | None, tuple[list[float], list[float]]]


def training_curves(path: Path) -> Curves:
    """Read the training curves from a run's ``progress.csv``."""
    curves: Curves = {}
    if not path.is_file():
        return curves
    first: dict[int | None, float] = {}
    with path.open(newline="", encoding="utf-8") as file:
        previous = 0.0
        for row in csv.DictReader(file):
            try:
                skill = int(row["skill"]) if row["skill"] else None
                total, reward = (
                    float(row["time/total_timesteps"]),
                    float(row["rollout/mean_reward"]),
                )
            except (KeyError, TypeError, ValueError):
                continue  # a row that was cut
            first.setdefault(skill, previous)
            steps, means = curves.setdefault(skill, ([], []))
            steps.append(total - first[skill])
            means.append(reward)
            previous = total
    return curves


def _training_chart(curves: Curves, skill: int | None, target: float) -> Markup | None:
    """The chart of a skill's training, or of all skills' together; None where there is none."""
    if skill not in curves:
        return None
    steps, means = curves[skill]
    # What skills that are learnt together earn in training need not be what they are judged by.
    top = target if skill is not None else max(means)
    return _chart(
        steps, means, float(f"{top:.2g}") if top > 0 else 1.0, "steps", "Reward in training"
    )


def _chart(x: Sequence[float], y: Sequence[float], top: float, label: str, title: str) -> Markup:
    # Built of numbers and of our own words only, so safe as it is.
    return Markup(line_chart(x, y, top=top, x_label=label, title=title))


def _poster(recording: Recording) -> str:
    """A picture from the middle of the film, as a data URL."""
    picture = recording.picture(len(recording) // 2)
    picture.thumbnail((_POSTER_WIDTH, _POSTER_WIDTH))
    content = BytesIO()
    picture.convert("RGB").save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _behaviour(record: Record) -> list[tuple[str, str]]:
    """What the skill's body does, by names."""
    facts: list[tuple[str, str]] = []
    body = record.descriptors
    if body is not None:
        facts = [
            ("velocity", f"{_signed(body.forward_velocity)} m/s"),
            ("height", f"{body.height:.2f} m"),
            ("front, back flips", f"{body.front_somersaults:.1f}, {body.back_somersaults:.1f}"),
            ("upside down", f"{body.upside_down:.0%}"),
            ("in the air", f"{body.airborne:.0%}"),
            *((f"{foot} foot down", f"{share:.0%}") for foot, share in body.feet.items()),
            ("effort", f"{body.effort:.0%}"),
        ]
        if abs(body.lateral_velocity) >= 0.005:
            facts.insert(1, ("to the left", f"{_signed(body.lateral_velocity)} m/s"))
        if body.falls:
            facts.append(("falls, after", f"{body.falls:.0%}, {body.seconds or 0.0:.1f} s"))
    if record.task_return is not None:
        facts.append(("return of the task", f"{round(record.task_return):,}"))
    return facts


def _signed(value: float) -> str:
    """A number with its sign, which zero has not."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text


def _learning(record: Record) -> list[tuple[str, str]]:
    """How the skill was learnt, by names."""
    facts = [
        ("reward", f"{record.mean_reward:.3g} of {record.target:.3g}"),
        ("another skill on it", f"{record.previous_mean_reward:.3g}"),
    ]
    if record.fresh_reward is not None:
        facts.append(("before training", f"{record.fresh_reward:.3g}"))
    if (separation := record.separation) is not None:
        facts += [
            ("paid, of states asked for", f"{separation.positives:.0%}"),
            ("paid, of earlier skills' states", f"{separation.old:.0%}"),
        ]
    facts += [
        ("steps", f"{record.steps:,}"),
        ("time", f"{timedelta(seconds=round(record.seconds))}"),
    ]
    return facts
