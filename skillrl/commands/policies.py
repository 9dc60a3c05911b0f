"""Policies from the files that hold them: agents and skills."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from skillrl.agents.normalizer import Normalizer
from skillrl.agents.policy_network import PolicyNetwork, policy_network
from skillrl.agents.recipes import TrainRecipe
from skillrl.agents.returns import Rewards, Task
from skillrl.agents.zip_files import read_normalizer, read_zip_policy
from skillrl.commands.train import read_recipe
from skillrl.discovery.library import Skill, load_skill
from skillrl.envs.mask_velocity import velocity_components
from skillrl.errors import DamagedFileError, InvalidValueError


@dataclass(frozen=True)
class SavedPolicy:
    """A policy from a file, and what the file says of it.

    Attributes:
        path: of the agent's file, or of the skill's folder.
        network: the policy.
        task: what it was trained on; None where no file says it.
        reward: of a skill, in units of its target.
    """

    path: Path
    network: PolicyNetwork
    task: Task | None
    reward: Rewards | None = None


def load(path: Path) -> tuple[BasePolicy, Normalizer | None]:
    """Return a policy, and the normaliser of its observations that its file holds.

    Args:
        path: a skill's folder, that of a seed of `skillrl train`, or an agent that
            Stable-Baselines3 saved.

    Raises:
        InvalidValueError: if ``path`` is none of these.
        DamagedFileError: if a file of it is damaged, or of a policy that is not known.
    """
    if (path / "skill.json").is_file():
        return load_skill(path).policy, None
    path = _agent_file(path)
    return read_zip_policy(path), read_normalizer(path)


def hidden_components(path: Path) -> list[int]:
    """Return which components of observations a policy of `skillrl train` never saw.

    Args:
        path: as for ``load``.
    """
    recipe = _recipe_of(path)
    if recipe is None or not recipe.mask_velocity:
        return []
    return [int(each) for each in velocity_components(recipe.env, **recipe.env_kwargs)]


def is_told_the_past(path: Path) -> bool:
    """Return whether a policy of `skillrl train` sees the last action and reward.

    Args:
        path: as for ``load``.
    """
    recipe = _recipe_of(path)
    return recipe is not None and recipe.previous_action_reward


def read_policies(paths: Sequence[Path], normalizers: Sequence[Path] = ()) -> list[SavedPolicy]:
    """Return the policies of seeds, agents' files and skills.

    Args:
        paths: of them.
        normalizers: files of the statistics of agents whose own files hold none, one for all or
            one for each.

    Raises:
        InvalidValueError: as ``load`` does, or if there are more or fewer normalisers.
        DamagedFileError: as ``load`` does.
    """
    return _with_normalizers([*map(_read, paths)], normalizers)


def skill_policy(skill: Skill) -> SavedPolicy:
    """Return the policy of a skill."""
    record, reward = skill.record, skill.reward
    return SavedPolicy(
        skill.path,
        policy_network(skill.policy),
        Task(record.env, dict(record.env_kwargs)),
        # Targets may differ from run to run.
        lambda observations: reward.reward(observations) / reward.target,
    )


def common_task(policies: Sequence[SavedPolicy], env: str | None = None) -> Task:
    """Return the task of several policies.

    Args:
        policies: at least one.
        env: id of the environment, in the place of what the files say.

    Raises:
        InvalidValueError: if the files say different things, or nothing.
    """
    known = [each for each in policies if each.task is not None]
    for each in known[1:]:
        if each.task != known[0].task:
            raise InvalidValueError(
                f"The policies are of different environments: {known[0].path} of {known[0].task}, "
                f"{each.path} of {each.task}."
            )
    if env is not None:
        return Task(env)
    if not known:
        raise InvalidValueError(
            f"{policies[0].path} does not say which environment it is for: name it with --env."
        )
    assert known[0].task is not None
    return known[0].task


def mean_reward(policies: Sequence[SavedPolicy]) -> Rewards | None:
    """Return what skills are scored on: the mean of their rewards, each in [0, 1] a step.

    None, for the environment's own reward, where a policy has no other.
    """
    known = [each.reward for each in policies if each.reward is not None]
    if len(known) < len(policies):
        return None
    return lambda observations: np.mean([each(observations) for each in known], axis=0)


def read_normalizer_file(path: Path) -> Normalizer:
    """Return the statistics of observations in a file, ``*.npz``.

    Raises:
        DamagedFileError: if the file is missing or damaged.
        InvalidValueError: if it is no such file.
    """
    if not path.is_file():
        raise DamagedFileError(f"{path} does not exist.")
    if not is_zipfile(path):
        raise InvalidValueError(
            f"{path} is no .npz file. VecNormalize.save writes a pickle, which may run any code "
            "when it is read. One that is your own becomes an .npz file by "
            "skillrl.agents.Normalizer.of(VecNormalize.load(FILE, envs)).save(PATH)."
        )
    with path.open("rb") as file:
        return Normalizer.read(file, str(path))


def labels(paths: Sequence[Path]) -> list[str]:
    """Paths without what all of them share.

    >>> labels([Path("runs/a/seed-000/agent.zip"), Path("runs/a/seed-001/agent.zip")])
    ['seed-000', 'seed-001']
    >>> labels([Path("one.zip"), Path("more/two.zip")])
    ['one.zip', 'more/two.zip']
    """
    named = [path.parent if path.name == "agent.zip" else path for path in paths]
    full = [each.resolve() for each in named]
    if len(set(full)) < 2:
        return [each.name for each in full]
    common = os.path.commonpath(full)
    return [each.relative_to(common).as_posix() for each in full]


def _read(path: Path) -> SavedPolicy:
    if (path / "skill.json").is_file():
        return skill_policy(load_skill(path))
    path = _agent_file(path)
    recipe, task = _recipe_of(path), None
    if recipe is not None:
        told = recipe.previous_action_reward
        task = Task(recipe.env, dict(recipe.env_kwargs), recipe.mask_velocity, told)
    return SavedPolicy(path, policy_network(*load(path)), task)


def _recipe_of(path: Path) -> TrainRecipe | None:
    """The recipe of the run that an agent lies in; None of agents in none, and of skills."""
    if (path / "skill.json").is_file():
        return None
    run = _agent_file(path).resolve().parent.parent
    return read_recipe(run)[0] if (run / "train.json").is_file() else None


def _agent_file(path: Path) -> Path:
    """The file itself, or that in a seed's folder."""
    if path.is_dir():
        if not (path / "agent.zip").is_file():
            raise InvalidValueError(
                f"{path} is no skill's folder, which has a skill.json, and no seed's, which has an "
                f"agent.zip.{_hint(path)}"
            )
        path = path / "agent.zip"
    if not path.exists():
        raise DamagedFileError(f"{path} does not exist.")
    if path.suffix == ".safetensors":
        raise InvalidValueError(
            f"{path} is not an agent's .zip, but a part of a skill.{_hint(path)}"
        )
    return path


def _hint(path: Path) -> str:
    """What in the folder, or around the file, may have been meant."""
    if (path.parent / "skill.json").is_file():
        return f" Did you mean {path.parent}?"
    patterns = ("seed-*/agent.zip", "skills/*/skill.json", "best.zip", "checkpoint.zip")
    for pattern in (*patterns, "*/train.json", "*/run.json"):
        for found in sorted(path.glob(pattern)):
            meant = found if found.suffix == ".zip" and found.parent == path else found.parent
            return f" Did you mean {meant}?"
    return ""


def _with_normalizers(policies: list[SavedPolicy], files: Sequence[Path]) -> list[SavedPolicy]:
    if not files:
        return policies
    plain = [
        number
        for number, each in enumerate(policies)
        if each.network.normalizer is None and each.path.suffix == ".zip"
    ]
    if len(files) not in (1, len(plain)) or not plain:
        raise InvalidValueError(
            f"--normalizer takes one file for all agents that bring none, or one for each of "
            f"these {len(plain)}. Received {len(files)}."
        )
    found = [*policies]
    for number, file in zip(plain, [*files] * (len(plain) // len(files)), strict=True):
        network = policy_network(found[number].network.policy, read_normalizer_file(file))
        found[number] = replace(found[number], network=network)
    return found
