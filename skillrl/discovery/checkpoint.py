"""Checkpoints inside a skill: everything needed to go on as if never stopped, without pickles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from skillrl.agents import OnPolicySkillAgent
from skillrl.discovery.schema import from_json
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import load_moments, load_state, moments, read_tensors, write_tensors

T = TypeVar("T")


def save_checkpoint(
    path: Path,
    agent: OnPolicySkillAgent,
    env: VectorEnv[Any, Any, Any],
    reward: nn.Module,
    progress: Any,
    reward_optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Write agent, environments, reward and random state between two rollouts, atomically.

    Args:
        path: the safetensors file to write.
        agent: with its optimiser and the observations that it acts on next.
        env: environments with ``get_state``.
        reward: the reward that is trained on, or a module that holds it.
        progress: a dataclass of JSON values, among them ``steps``, the run's time steps so far.
        reward_optimizer: the reward's, where it is trained beside the agent.
    """
    tensors: dict[str, torch.Tensor | np.ndarray] = {"random.torch": torch.get_rng_state()}
    _flatten("reward", reward.state_dict(), tensors)
    _flatten("policy", agent.policy.state_dict(), tensors)
    _flatten("optimizer", moments(agent.policy.optimizer), tensors)
    if reward_optimizer is not None:
        _flatten("reward_optimizer", moments(reward_optimizer), tensors)
    plain = _flatten("env", env.get_state(), tensors)  # type: ignore[attr-defined]
    _flatten("agent", agent.rollout_state(), tensors)
    description = {
        "format": "checkpoint",
        "progress": dataclasses.asdict(progress),
        "n_updates": agent._n_updates,
        "env": plain,
    }
    write_tensors(path, tensors, description)


def read_progress(path: Path, kind: type[T]) -> T:
    """Return the ``progress`` that a checkpoint was saved with, a dataclass of ``kind``.

    Raises:
        DamagedFileError: if the file is damaged, or its progress is another.
    """
    try:
        return from_json(kind, _read(path)[1].get("progress"), "progress")
    except InvalidValueError as error:
        raise DamagedFileError(f"{path} is damaged: {error}") from None


def load_checkpoint(
    path: Path,
    agent: OnPolicySkillAgent,
    env: VectorEnv[Any, Any, Any],
    reward: nn.Module,
    reward_optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Put agent, environments, reward and random state back as ``save_checkpoint`` found them.

    Raises:
        DamagedFileError: if the file is damaged or belongs to another recipe.
    """
    tensors, description = _read(path)
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    try:
        load_state(reward, groups["reward"], path)
        agent.policy.load_state_dict(groups["policy"])
        load_moments(agent.policy.optimizer, groups.get("optimizer", {}))
        if reward_optimizer is not None:
            load_moments(reward_optimizer, groups.get("reward_optimizer", {}))
        state = {name: tensor.numpy() for name, tensor in groups["env"].items()}
        env.set_state({**state, **description["env"]})  # type: ignore[attr-defined]
        rollout_state = {name: t.numpy() for name, t in groups["agent"].items()}
        agent.set_rollout_state(rollout_state)
        agent.num_timesteps = description["progress"]["steps"]
        agent._n_updates = int(description["n_updates"])
        torch.set_rng_state(groups["random"]["torch"])
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{path} does not fit the run's recipe or is damaged: {error}. "
            "Delete it to train the present skill from its start."
        ) from None


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors, description = read_tensors(path)
    if description.get("format") != "checkpoint":
        raise DamagedFileError(f"{path} holds no checkpoint but {description.get('format')!r}.")
    return tensors, description


def _flatten(
    prefix: str, values: Mapping[Any, Any], tensors: dict[str, torch.Tensor | np.ndarray]
) -> dict[str, Any]:
    """Add the arrays of nested ``values`` to ``tensors``; return what is no array."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            if _flatten(f"{prefix}.{name}", value, tensors):
                raise InvalidValueError(f"The state {prefix}.{name} holds more than arrays.")
        elif isinstance(value, (torch.Tensor, np.ndarray)):
            tensors[f"{prefix}.{name}"] = value
        else:
            plain[str(name)] = value
    return plain
