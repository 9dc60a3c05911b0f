"""An environment so simple that all its numbers are known beforehand."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit


class Line(gym.Env[np.ndarray, np.ndarray]):
    """A walker on a line, who observes where it is and for how many steps it has walked.

    It starts at the last digit of its seed, an action in [-1, 1] is a step, and the episode
    terminates at ``end``. The task pays 1 a step.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, end: float = np.inf) -> None:
        self.end = end
        self.start = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.start = float(seed % 10)
        self.place, self.steps = self.start, 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.place += float(action[0])
        self.steps += 1
        return self._observation(), 1.0, self.place >= self.end, False, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.place, self.steps], np.float32)


class Lines(SyncVectorEnv):
    """Several walkers with SAME_STEP autoreset."""

    def __init__(self, num_envs: int, *, end: float = np.inf, limit: int = 1_000) -> None:
        super().__init__(
            [lambda: TimeLimit(Line(end), limit)] * num_envs,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )


@pytest.fixture
def lines() -> type[Lines]:
    """A vector environment of walkers on a line: ``lines(num_envs, end=…, limit=…)``."""
    return Lines
