import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from records import new_record
from skillrl.commands.list_skills import list_skills
from skillrl.discovery.descriptors import Descriptors
from skillrl.discovery.library import SkillLibrary
from skillrl.errors import DamagedFileError
from skillrl.rewards import Separation

SKILLS: list[dict[str, Any]] = [
    {
        "mean_reward": 3.21,
        "previous_mean_reward": 0.4,
        "descriptors": Descriptors(-2.5, 0, 0.6, 0, 0, 0, 0.5, {"back": 0.2, "front": 0.3}, 0.5),
    },
    {
        "live": False,
        "mean_reward": 0.25,
        "previous_mean_reward": 0.2,
        "task_return": 1234.5,
        "separation": Separation(loss=7.3, positives=0.8, negatives=0.05, archive=0.2),
        "parent": 0,
    },
]


def make_run(path: Path, recipe: Any, skills: int, seed: int = 3) -> Path:
    """A run with the first ``skills`` of the skills above, and no other files."""
    SkillLibrary.create(path, dataclasses.replace(recipe, generations=5), seed)
    for index, changes in enumerate(SKILLS[:skills]):
        folder = path / "skills" / f"{index:03d}"
        folder.mkdir(parents=True)
        record = new_record(index, env=recipe.env, **changes)
        (folder / "skill.json").write_text(json.dumps(dataclasses.asdict(record)))
    return path


def test_shows_every_skill(tmp_path: Path, tiny_recipe: Any) -> None:
    table = """\
skillrl/Maze2D-v0, seed 3: 2 of 5 skills finished

skill  live  reward  of target  previous  fresh  positives  negatives  task return      steps     time  from  what it does
    0   yes    3.21        64%       0.4   0.75        90%        10%        -12.3  1,000,000  0:01:23     -  backwards 2.5 m/s
    1    no    0.25         5%       0.2   0.75        80%        20%       1234.5  1,000,000  0:01:23     0\
"""  # noqa: E501
    assert list_skills(make_run(tmp_path / "run", tiny_recipe, 2)) == table


def test_a_run_without_skills(tmp_path: Path, tiny_recipe: Any) -> None:
    run = make_run(tmp_path / "run", tiny_recipe, 0)
    assert list_skills(run) == "skillrl/Maze2D-v0, seed 3: 0 of 5 skills finished"


def test_a_folder_of_runs_has_a_line_for_each(tmp_path: Path, tiny_recipe: Any) -> None:
    make_run(tmp_path / "b", tiny_recipe, 2)
    make_run(tmp_path / "long-name", tiny_recipe, 1, seed=10)
    make_run(tmp_path / "a", tiny_recipe, 1)
    (tmp_path / "a" / "skills" / "000" / "skill.json").write_text("{")
    lines = list_skills(tmp_path).splitlines()
    assert lines[0] == "run        environment        seed  skills  live      steps     time"
    assert lines[1].startswith("a ")
    assert "skill.json cannot be read as JSON" in lines[1]
    assert lines[2:] == [
        "b          skillrl/Maze2D-v0     3  2 of 5     1  2,000,000  0:02:47",
        "long-name  skillrl/Maze2D-v0    10  1 of 5     1  1,000,000  0:01:23",
    ]


def test_a_damaged_skill_does_not_hide_the_others(tmp_path: Path, tiny_recipe: Any) -> None:
    run = make_run(tmp_path / "run", tiny_recipe, 2)
    (run / "skills" / "000" / "skill.json").write_text("{")
    lines = list_skills(run).splitlines()
    assert lines[3].split()[0] == "0"
    assert "skill.json cannot be read as JSON" in lines[3]
    assert lines[4].split()[:2] == ["1", "no"]


def test_says_what_is_missing_before_other_skills(tmp_path: Path, tiny_recipe: Any) -> None:
    library = SkillLibrary.create(tmp_path / "run", tiny_recipe, seed=0)
    (library.path / "skills" / "001").mkdir(parents=True)
    assert "lacks 000 and holds 001" in list_skills(library.path).splitlines()[-1]


def test_reads_what_a_run_wrote(tiny_run: Path) -> None:
    lines = list_skills(tiny_run).splitlines()
    assert lines[0] == "skillrl/Maze2D-v0, seed 1: 2 of 2 skills finished"
    assert [line.split()[0] for line in lines[3:]] == ["0", "1"]


def test_neither_a_run_nor_a_folder_of_runs(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="is not a run"):
        list_skills(tmp_path)
