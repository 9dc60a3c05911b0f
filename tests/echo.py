"""An environment whose returns are known beforehand, with and without pictures."""

from typing import Any

import gymnasium as gym
import numpy as np


class Echo(gym.Env[np.ndarray, np.ndarray]):
    """Five steps of which each earns the action; observations are far from standard."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode: str | None = None, paint: bool = True) -> None:
        self.render_mode = render_mode
        self.paint = paint

    def _observe(self) -> np.ndarray:
        return np.array([100 + self.count, self.np_random.normal()], np.float32)

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self._observe(), float(action[0]), self.count == 5, False, {}

    def render(self) -> np.ndarray:
        if not self.paint:
            raise RuntimeError("no paint")
        return np.full((64, 64, 3), 40 * self.count, np.uint8)
