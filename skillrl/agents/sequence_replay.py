"""A replay buffer of sequences, with the states that recurrent networks had where they begin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from skillrl.errors import InvalidValueError
from skillrl.recurrent import Carry


class Seen(NamedTuple):
    """What networks that remember see of sequences, the time first."""

    observations: PyTorchObs
    """``(steps + 1, batch, *shape)``, or such a tensor for each key."""
    carry: Carry
    """States before the first step, as they were when it was taken."""
    starts: Tensor
    """Where episodes begin, ``(steps + 1, batch)``, bool."""


@dataclass(frozen=True)
class Sequences:
    """Sequences of a batch, the time first."""

    seen: Seen
    actions: Tensor
    """In [−1, 1], ``(steps, batch, size)``."""
    rewards: Tensor
    """``(steps, batch)``."""
    terminations: Tensor
    """Whether an episode ended by itself, ``(steps, batch)``, 0 or 1."""
    counts: Tensor
    """0 where environments were reset in an episode, so that its end is not known,
    ``(steps, batch)``."""
    limits: Tensor
    """Steps and sequences in which a time limit ended an episode, ``(2, limits)``."""
    finals: PyTorchObs
    """What was seen then, ``(limits, *shape)``, or such a tensor for each key."""

    def beyond_limits(self, first_step: int) -> tuple[Tensor, Tensor, Seen]:
        """Return steps and sequences of the limits, from a step on, and what would have been seen.

        A copy of the sequence for each of them, in which the episode goes on with its final
        observation in the place of the next one's first.
        """
        steps, rows = self.limits
        chosen = steps >= first_step
        steps, rows = steps[chosen], rows[chosen]
        each = torch.arange(len(steps), device=steps.device)

        def going_on(observations: Tensor, finals: Tensor) -> Tensor:
            copies = observations[:, rows]
            copies[steps + 1, each] = finals[chosen]
            return copies

        observations, finals = self.seen.observations, self.finals
        copies: PyTorchObs
        if isinstance(observations, dict):
            assert isinstance(finals, dict)
            copies = {key: going_on(value, finals[key]) for key, value in observations.items()}
        else:
            assert isinstance(finals, Tensor)
            copies = going_on(observations, finals)
        starts = self.seen.starts[:, rows]
        starts[steps + 1, each] = False
        return steps, rows, Seen(copies, self.seen.carry.rows(rows), starts)


class SequenceReplayBuffer(ReplayBuffer):
    """Keeps transitions in their order, and a recurrent state every ``stride`` steps.

    Sensitivities, which are many times as large, are not kept: they are rebuilt in the burn-in.
    What episodes that a time limit ended were seen to end with is kept besides.

    Args:
        buffer_size: transitions of all environments together.
        observation_space: a Box, or a Dict of them.
        action_space: a Box.
        device: that sequences are sampled to.
        n_envs: environments side by side.
        stride: steps between two states that are kept; sequences begin there.
        length: steps of a sequence.
        states: shapes of the states, by name.

    Raises:
        InvalidValueError: if it holds no whole sequence, or would not fit into memory.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        *,
        stride: int,
        length: int,
        states: Mapping[str, tuple[int, ...]],
    ) -> None:
        blocks = buffer_size // n_envs // stride
        # Not ReplayBuffer's, which would keep every observation twice and warn of the memory.
        BaseBuffer.__init__(
            self, blocks * stride, observation_space, action_space, device, n_envs=n_envs
        )
        # That ends by a time limit are told apart, which SB3 asks of a buffer that it loads.
        self.handle_timeout_termination = True
        self.stride, self.length = stride, length
        if self.buffer_size < length + stride + 1:
            raise InvalidValueError(
                f"buffer_size={buffer_size} holds {self.buffer_size} steps of each of {n_envs} "
                f"environment(s), and a sequence has {length} and one more: make it larger."
            )
        seen = (
            observation_space.spaces
            if isinstance(observation_space, spaces.Dict)
            else {"": observation_space}
        )
        rows = (self.buffer_size, n_envs)
        shapes = {
            **{
                f"observations.{key}": (space.shape or (), space.dtype)
                for key, space in seen.items()
            },
            "actions": ((self.action_dim,), np.dtype(np.float32)),
            "rewards": ((), np.dtype(np.float32)),
            "terminations": ((), np.dtype(bool)),
            "limits": ((), np.dtype(bool)),
            "cuts": ((), np.dtype(bool)),
            "starts": ((), np.dtype(bool)),
        }
        needed = sum(
            int(np.prod((*rows, *shape))) * np.dtype(dtype).itemsize
            for shape, dtype in shapes.values()
        )
        needed += sum(blocks * n_envs * int(np.prod(shape)) * 4 for shape in states.values())
        self.nbytes = needed
        check_memory(needed, buffer_size)
        self._data = {
            name: np.zeros((*rows, *shape), dtype) for name, (shape, dtype) in shapes.items()
        }
        self._states = {
            name: np.zeros((blocks, n_envs, *shape), np.float32) for name, shape in states.items()
        }
        # By step and environment.
        self._finals: dict[int, dict[int, dict[str, np.ndarray]]] = {}

    def layout(self) -> dict[str, Any]:
        """Return what sequences are like: an agent can learn from those of another buffer alike."""
        return {
            "n_envs": self.n_envs,
            "chunk": self.stride,
            "burn_in": self.length - self.stride,
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "states": {name: kept.shape[2:] for name, kept in self._states.items()},
        }

    def add_state(self, carry: Carry, starts: np.ndarray) -> None:
        """Note the state before the next transition, and where episodes begin with it."""
        self._data["starts"][self.pos] = starts
        # Where environments were reset in the middle of an episode, its end is not known.
        last = self.pos - 1
        ended = self._data["terminations"][last] | self._data["limits"][last]
        self._data["cuts"][last] = starts & ~ended
        if self.pos % self.stride == 0:
            for name, kept in self._states.items():
                kept[self.pos // self.stride] = carry[name].cpu().numpy()

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Add a transition of every environment, to ``next_obs``, an episode's last included."""
        for key, value in _by_key(obs).items():
            self._data[f"observations.{key}"][self.pos] = value
        limits = np.array([info.get("TimeLimit.truncated", False) for info in infos], bool)
        self._data["actions"][self.pos] = action.reshape(self.n_envs, -1)
        self._data["rewards"][self.pos] = reward
        self._data["terminations"][self.pos] = done & ~limits
        self._data["limits"][self.pos] = limits
        self._data["cuts"][self.pos] = False
        self._keep_finals(next_obs, limits)
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full, self.pos = True, 0

    def _keep_finals(self, reached: Any, limits: np.ndarray) -> None:
        """Keep what environments reached where a time limit ended their episodes."""
        self._finals.pop(self.pos, None)
        for env in np.flatnonzero(limits).tolist():
            final = {key: np.copy(value[env]) for key, value in _by_key(reached).items()}
            self._finals.setdefault(self.pos, {})[env] = final

    def _final(self, step: int, env: int, key: str) -> np.ndarray:
        """What the episode that a time limit ended in this step ended with."""
        return self._finals[step][env][key]

    def first_steps(self) -> np.ndarray:
        """Where sequences may begin: a state is kept there, and all steps after it are known."""
        begins = np.arange(0, self.buffer_size, self.stride)
        # Steps since the oldest one; those of the last sequence must not reach the newest.
        age = (begins - self.pos) % self.buffer_size if self.full else begins
        known = self.buffer_size if self.full else self.pos
        return begins[age + self.length + 1 <= known]

    def sample_sequences(self, batch_size: int, env: VecNormalize | None = None) -> Sequences:
        """Draw sequences, from torch's generator.

        Args:
            batch_size: number of sequences.
            env: normalises observations and rewards, which are kept as they were.

        Raises:
            InvalidValueError: if there is none yet.
        """
        begins = self.first_steps()
        if len(begins) == 0:
            raise InvalidValueError(
                f"There is no sequence of {self.length} steps yet: learn after "
                f"learning_starts={(self.length + 1) * self.n_envs} steps or more."
            )
        chosen = begins[torch.randint(len(begins), (batch_size,)).numpy()]
        envs = torch.randint(self.n_envs, (batch_size,)).numpy()
        steps = (chosen + np.arange(self.length + 1)[:, None]) % self.buffer_size

        def rows(name: str, count: int) -> np.ndarray:
            return self._data[name][steps[:count], envs]

        def take(name: str, count: int) -> Tensor:
            return torch.as_tensor(rows(name, count), device=self.device)

        def observed(kept: dict[str, np.ndarray]) -> PyTorchObs:
            return obs_as_tensor(self._normalize_obs(kept.get("", kept), env), self.device)

        keys = [name.partition(".")[2] for name in self._data if name.startswith("observations.")]
        limits = np.nonzero(rows("limits", self.length))

        def final(key: str) -> np.ndarray:
            kept = self._data[f"observations.{key}"]
            found = np.empty((len(limits[0]), *kept.shape[2:]), kept.dtype)
            for row, (step, column) in enumerate(zip(*limits, strict=True)):
                found[row] = self._final(int(steps[step, column]), int(envs[column]), key)
            return found

        rewards = self._normalize_reward(rows("rewards", self.length), env)
        states = {
            name: torch.as_tensor(values[chosen // self.stride, envs], device=self.device)
            for name, values in self._states.items()
        }
        return Sequences(
            seen=Seen(
                observed({key: rows(f"observations.{key}", self.length + 1) for key in keys}),
                Carry(states),
                take("starts", self.length + 1),
            ),
            actions=take("actions", self.length),
            rewards=torch.as_tensor(rewards, device=self.device).float(),
            terminations=take("terminations", self.length).float(),
            counts=1 - take("cuts", self.length).float(),
            limits=torch.as_tensor(np.stack(limits), device=self.device),
            finals=observed({key: final(key) for key in keys}),
        )


def _by_key(observations: Any) -> dict[str, np.ndarray]:
    """Observations by their keys; those that have none by an empty one."""
    return observations if isinstance(observations, dict) else {"": observations}


def check_memory(needed: int, buffer_size: int) -> None:
    """Refuse a replay buffer that would not fit into memory.

    Args:
        needed: bytes of the whole buffer.
        buffer_size: transitions that it is to hold.

    Raises:
        InvalidValueError: if less memory is free.
    """
    free = available_memory()
    if free is not None and needed > free:
        raise InvalidValueError(
            f"The replay buffer needs {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are "
            f"free: make buffer_size smaller than {buffer_size:,}."
        )


def transition_bytes(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any], observations: int = 2
) -> int:
    """Return what a transition takes in Stable-Baselines3's replay buffer.

    Args:
        observation_space: of an environment; may be a Dict.
        action_space: of an environment.
        observations: that are kept of it: before and after the action, unless memory is optimised.
    """
    seen = (
        observation_space.spaces.values()
        if isinstance(observation_space, spaces.Dict)
        else [observation_space]
    )
    # Further its reward, and whether the episode ended, by itself or by a time limit.
    return observations * sum(map(_bytes, seen)) + _bytes(action_space) + 3 * 4


def _bytes(space: spaces.Space[Any]) -> int:
    """Memory that one of a space takes."""
    return int(np.prod(space.shape or ())) * np.dtype(space.dtype).itemsize


def available_memory() -> int | None:
    """Bytes that could be used now, by a container's limit, too; None where nothing says so."""
    known = [each for each in (_free(), _free_in_group()) if each is not None]
    return min(known, default=None)


def _free_in_group(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes up to the limit of the process's control group (version 2); None without one."""
    try:
        limit, used = (
            (group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current")
        )
        return int(limit) - int(used)
    except (OSError, ValueError):  # "max" is no limit
        return None


def _free() -> int | None:
    """Bytes that the system could give."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1_024
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    except (OSError, ValueError, AttributeError):
        return None
