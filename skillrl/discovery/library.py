"""The skill library: a run's folder on disk, readable by people and free of code.

::

    runs/<name>/run.json            recipe, versions, seed, machine
                skills/000/skill.json · policy.safetensors · reward.safetensors · video.mp4
                archive.safetensors  frontier.safetensors (where observations have cells)
                checkpoint/  progress.csv  (TensorBoard events)
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import gymnasium as gym
from filelock import FileLock, Timeout

from skillrl.agents import BaseSkillPolicy, load_policy
from skillrl.discovery.record import Record
from skillrl.discovery.schema import from_json
from skillrl.discovery.settings import Recipe, recipe_from_json
from skillrl.envs import NeuralRewardWrapper
from skillrl.envs.make import make_single
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import read_json, write_json
from skillrl.rewards import NeuralReward

# A setting that is added to the recipe leaves it as it is: a run that lacks the setting can be
# read, and is not resumed.
FORMAT = 1
PACKAGES = ("skillrl", "gymnasium", "mujoco", "ale-py", "stable-baselines3", "torch", "numpy")


@dataclass(frozen=True)
class Skill:
    """A skill on disk: its policy, the reward that it was trained on, and what is known of it.

    Files are read when they are first asked for.
    """

    path: Path
    """The skill's folder."""
    record: Record = dataclasses.field(repr=False)
    """What ``skill.json`` says: environment, steps, rewards, whether the skill is live."""

    @property
    def index(self) -> int:
        """The skill's number within its run, from 0."""
        return self.record.index

    @cached_property
    def policy(self) -> BaseSkillPolicy:
        """The trained policy with its observation normaliser; ``predict`` is SB3's."""
        return load_policy(self.path / "policy.safetensors")

    @cached_property
    def reward(self) -> NeuralReward:
        """The reward that the skill was trained on."""
        return NeuralReward.load(self.path / "reward.safetensors")

    def make_env(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """Make the skill's environment with the skill's reward as its reward.

        Args:
            kwargs: passed on to ``gymnasium.make``, for example ``render_mode="rgb_array"``.
        """
        env = make_single(self.record.env, **{**self.record.env_kwargs, **kwargs})
        return NeuralRewardWrapper(env, self.path / "reward.safetensors")


class SkillLibrary:
    """The skills of a run, in the order in which they were learnt.

    Args:
        path: the run's folder.

    Raises:
        DamagedFileError: if the folder holds no run, or a file of it is damaged.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        if not (self.path / "run.json").is_file():
            raise DamagedFileError(
                f"{self.path} is not a run: it has no run.json. "
                "A run is the folder that `skillrl discover` wrote."
            )
        self.run = read_json(self.path / "run.json")
        if self.run.get("format") != FORMAT:
            raise DamagedFileError(
                f"{self.path / 'run.json'} has format {self.run.get('format')!r}, and this "
                f"skillrl reads format {FORMAT}: use the skillrl that wrote it."
            )
        try:
            self.recipe = recipe_from_json(self.run["recipe"])
            self.seed = int(self.run["seed"])
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{self.path / 'run.json'} is damaged: {error}") from None

    @classmethod
    def create(cls, path: str | PathLike[str], recipe: Recipe, seed: int) -> SkillLibrary:
        """Begin a run in a new folder.

        Raises:
            InvalidValueError: if the folder exists and is not empty.
        """
        path = Path(path)
        if (path / "run.json").exists():
            raise InvalidValueError(
                f"{path} exists. Name another folder, or resume the run in it (--resume, or "
                "resume=True in Python)."
            )
        if path.exists() and not (path.is_dir() and all(p.name[0] == "." for p in path.iterdir())):
            raise InvalidValueError(f"{path} exists and holds no run. Name another folder.")
        write_json(
            path / "run.json",
            {
                "format": FORMAT,
                "recipe": dataclasses.asdict(recipe),
                "seed": seed,
                **provenance(),
            },
        )
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing into the run.

        Raises:
            InvalidValueError: if another process is writing into it.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise InvalidValueError(
                f"Another process is discovering skills in {self.path}. Wait until it has "
                "finished, stop it, or name another folder."
            ) from None
        try:
            for left in self.path.rglob(".*.partial*"):  # by a process that was killed
                left.unlink() if left.is_file() else shutil.rmtree(left)
            yield
        finally:
            lock.release()

    @property
    def untrained(self) -> Path:
        """The policy that generation 0 starts from."""
        return self.path / "untrained.safetensors"

    @property
    def gap(self) -> str | None:
        """What is wrong, and what to do, where a skill between others is missing."""
        count = len(self)
        folders = (folder.name for folder in self.path.glob("skills/[0-9]*"))
        beyond = min((name for name in folders if name > f"{count:03d}"), default=None)
        if beyond is None:
            return None
        return (
            f"{self.path / 'skills'} lacks {count:03d} and holds {beyond}. Each skill was learnt "
            "from the one before it: bring back the missing folder, or remove those beyond it to "
            "learn them again."
        )

    def check_resumable(self, recipe: Recipe, seed: int) -> None:
        """Refuse to go on with another recipe (up to its number of generations) or seed.

        Raises:
            InvalidValueError: naming what differs.
            DamagedFileError: if a skill between others is missing.
        """
        if self.gap is not None:
            raise DamagedFileError(self.gap)
        wanted = dataclasses.replace(recipe, generations=self.recipe.generations)
        # What the file itself says: a setting that it lacks had no default when the run was begun.
        old = _settings(self.run["recipe"])
        # As JSON has them: a recipe made in Python may hold lists where its file's holds tuples.
        new = _settings(json.loads(json.dumps(dataclasses.asdict(wanted))))
        differing = [
            f"{name} {old.get(name, 'not set')} there and {new.get(name, 'not set')} here"
            for name in {**old, **new}
            if name not in old or name not in new or old[name] != new[name]
        ]
        if self.seed != seed:
            differing.append(f"seed {self.seed} there and {seed} here")
        if differing:
            raise InvalidValueError(
                f"The run in {self.path} cannot be resumed with other settings: "
                f"{'; '.join(differing)}. Name another folder for a new run."
            )

    def __len__(self) -> int:
        return sum(1 for _ in self.folders())

    def __getitem__(self, index: int) -> Skill:
        count = len(self)
        if not -count <= index < count:
            raise InvalidValueError(
                f"{self.path} has {count} skill(s), numbered from 0. Received {index}."
            )
        return load_skill(self.path / "skills" / f"{index % count:03d}")

    def __iter__(self) -> Iterator[Skill]:
        return (load_skill(folder) for folder in self.folders())

    def folders(self) -> Iterator[Path]:
        """The finished skills' folders: 000, 001, … up to the first gap."""
        index = 0
        while (folder := self.path / "skills" / f"{index:03d}").is_dir():
            yield folder
            index += 1

    def add(self, policy: BaseSkillPolicy, reward: NeuralReward, record: Record) -> Skill:
        """Save a finished skill. Its folder appears complete or not at all."""
        folder = self.path / "skills" / f"{record.index:03d}"
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            policy.save(partial / "policy.safetensors")
            reward.save(partial / "reward.safetensors")
            write_json(partial / "skill.json", dataclasses.asdict(record))
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return load_skill(folder)


def provenance() -> dict[str, Any]:
    """Return the versions and the machine that a run is made with."""
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
    }


def load_skill(path: str | PathLike[str]) -> Skill:
    """Return the skill saved in the folder ``path``, for example ``runs/demo/skills/003``.

    Loading runs no code of the files.

    Raises:
        DamagedFileError: if the folder holds no skill, or its ``skill.json`` is damaged.
    """
    path = Path(path)
    if not (path / "skill.json").is_file():
        raise DamagedFileError(
            f"{path} is not a skill: it has no skill.json. "
            "A skill is a folder such as runs/<name>/skills/000."
        )
    try:
        record = from_json(Record, read_json(path / "skill.json"), "skill", defaults=True)
    except InvalidValueError as error:
        raise DamagedFileError(f"{path / 'skill.json'} is damaged: {error}") from None
    return Skill(path, record)


def _settings(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one mapping with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            flat.update(_settings(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
