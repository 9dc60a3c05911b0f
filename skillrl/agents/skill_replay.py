"""Replay buffers whose transitions can be paid by another reward, and saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from skillrl.agents.sequence_replay import SequenceReplayBuffer, check_memory, transition_bytes

# Observations that are scored at once.
_PIECE = 4_096
# A buffer as it is, and twice more while it is saved.
_COPIES = 3


class SkillReplay(Protocol):
    """A replay buffer whose rewards can be given anew."""

    def rescore(self, score: Callable[[np.ndarray], np.ndarray]) -> None:
        """Give every transition the reward of the observation that it led to."""

    def state(self) -> dict[str, np.ndarray]:
        """Return all that is remembered."""

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Remember what ``state`` returned; ValueError if it is another buffer's."""


class _Rescored:
    """What the buffers have in common; arrays begin with steps and environments."""

    buffer_size: int
    n_envs: int
    pos: int
    full: bool

    def _arrays(self) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _used(self) -> int:
        return self.buffer_size if self.full else self.pos

    def _score(
        self, score: Callable[[np.ndarray], np.ndarray], reached: np.ndarray, rewards: np.ndarray
    ) -> None:
        """Write the rewards of what was reached, both ``(steps, num_envs, …)``."""
        seen = reached[: self._used()].reshape(-1, *reached.shape[2:])
        if len(seen):
            pieces = [score(seen[at : at + _PIECE]) for at in range(0, len(seen), _PIECE)]
            rewards[: self._used()] = np.concatenate(pieces).reshape(-1, self.n_envs)

    def state(self) -> dict[str, np.ndarray]:
        """Return all that is remembered."""
        used = {name: array[: self._rows(array)] for name, array in self._arrays().items()}
        return {**used, "position": np.array([self.pos, self.full])}

    def _rows(self, array: np.ndarray) -> int:
        """Rows of an array that are used; one may hold a row for several steps."""
        return -(-self._used() * len(array) // self.buffer_size)

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Remember what ``state`` returned; ValueError if it is another buffer's."""
        arrays = self._arrays()
        position = state["position"]
        if state.keys() != {*arrays, "position"} or position.shape != (2,):
            raise ValueError(f"it holds {', '.join(sorted(state))}")
        self.pos, self.full = int(position[0]), bool(position[1])
        for name, array in arrays.items():
            rows = array[: self._rows(array)]
            if rows.shape != state[name].shape:
                raise ValueError(f"{name} has the shape {state[name].shape}, not {rows.shape}")
            rows[:] = state[name]


class SkillReplayBuffer(_Rescored, ReplayBuffer):
    """Stable-Baselines3's replay buffer, whose rewards can be given anew.

    Raises:
        InvalidValueError: if it would not fit into memory.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        needed = buffer_size * transition_bytes(observation_space, action_space)
        check_memory(_COPIES * needed, buffer_size)
        super().__init__(buffer_size, observation_space, action_space, *args, **kwargs)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            name: getattr(self, name)
            for name in (
                *("observations", "next_observations", "actions"),
                *("rewards", "dones", "timeouts"),
            )
        }

    def rescore(self, score: Callable[[np.ndarray], np.ndarray]) -> None:
        """Give every transition the reward of the observation that it led to."""
        self._score(score, self.next_observations, self.rewards)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw transitions, from torch's generator: one source of randomness to save."""
        rows = torch.randint(self._used(), (batch_size,)).numpy()
        envs = torch.randint(self.n_envs, (batch_size,)).numpy()
        ended = self.dones[rows, envs] * (1 - self.timeouts[rows, envs])
        return ReplayBufferSamples(
            observations=self.to_torch(self._normalize_obs(self.observations[rows, envs], env)),  # type: ignore[arg-type]
            actions=self.to_torch(self.actions[rows, envs]),
            next_observations=self.to_torch(
                self._normalize_obs(self.next_observations[rows, envs], env)  # type: ignore[arg-type]
            ),
            dones=self.to_torch(ended[:, None]),
            rewards=self.to_torch(self._normalize_reward(self.rewards[rows, envs, None], env)),
        )


class SkillSequenceReplayBuffer(_Rescored, SequenceReplayBuffer):
    """``SequenceReplayBuffer`` that also keeps what every transition led to, to score it anew."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reached = np.zeros_like(self._data["observations."])
        self.nbytes += self._reached.nbytes
        # Memory that was not written to yet still counts as free.
        check_memory(_COPIES * self.nbytes, self.buffer_size * self.n_envs)

    def _keep_finals(self, reached: Any, limits: np.ndarray) -> None:
        """Keep what was reached in every step, the last of episodes included."""
        self._reached[self.pos] = reached

    def _final(self, step: int, env: int, key: str) -> np.ndarray:
        """What an episode ended with."""
        return self._reached[step, env]

    def _arrays(self) -> dict[str, np.ndarray]:
        states = {f"states.{name}": kept for name, kept in self._states.items()}
        return {**self._data, **states, "reached": self._reached}

    def rescore(self, score: Callable[[np.ndarray], np.ndarray]) -> None:
        """Give every transition the reward of the observation that it led to."""
        self._score(score, self._reached, self._data["rewards"])

    def forget_states(self) -> None:
        """Let sequences begin with empty states: those of another network say nothing."""
        for kept in self._states.values():
            kept[:] = 0
