"""Small tasks that only an agent with memory can solve."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from skillrl.envs.arguments import positive_int, whole_number
from skillrl.errors import InvalidValueError

NORTH, EAST, SOUTH, WEST = range(4)


class TMazeEnv(gym.Env[np.ndarray, np.int64]):
    """``skillrl/TMaze-v0``: turn at the end of a corridor as a sign at its beginning said.

    Bakker 2002 (Reinforcement learning with long short-term memory). Observations are three bits:
    011 or 110 where the corridor begins, the sign for north or south; 101 in the corridor; 010 at
    the junction. Actions are 0 north, 1 east, 2 south, 3 west. In the corridor only east moves, one
    cell; anything else bumps into a wall. At the junction north and south end the episode.

    Rewards: 4 for the turn that the sign said; −0.1 for the other turn and for every bump. Episodes
    are cut after ``10 * (length + 1)`` steps.

    Args:
        length: cells from the sign to the junction, at least 1.

    Raises:
        InvalidValueError: if ``length`` is no whole number, or too small.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's

    def __init__(self, length: int = 10) -> None:
        self.length = positive_int("length", length)
        self.observation_space = spaces.Box(0, 1, (3,), np.float32)
        self.action_space = spaces.Discrete(4)
        self.position, self.goal, self._left = 0, NORTH, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin at the sign, which is drawn anew."""
        super().reset(seed=seed)
        self.position = 0
        self._left = 10 * (self.length + 1)
        self.goal = NORTH if self.np_random.random() < 0.5 else SOUTH
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Go on, bump, or turn."""
        if not self.action_space.contains(action):
            raise InvalidValueError(f"Actions are 0, 1, 2 and 3. Received {action!r}.")
        at_junction = self.position == self.length
        self._left -= 1
        cut = self._left == 0
        if at_junction and action in (NORTH, SOUTH):
            right = bool(action == self.goal)
            return self._observation(), 4.0 if right else -0.1, True, False, {"is_success": right}
        if action == EAST and not at_junction:
            self.position += 1
            return self._observation(), 0.0, False, cut, {}
        return self._observation(), -0.1, False, cut, {}

    def _observation(self) -> np.ndarray:
        if self.position == 0:
            bits = (0, 1, 1) if self.goal == NORTH else (1, 1, 0)
        else:
            bits = (0, 1, 0) if self.position == self.length else (1, 0, 1)
        return np.array(bits, np.float32)


class RepeatPreviousEnv(gym.Env[np.ndarray, np.int64]):
    """``skillrl/RepeatPrevious-v0``: name the symbol that was shown some steps ago.

    After Morad et al. 2023 (POPGym, arXiv 2303.01859). Observations are one-hot symbols, one a
    step. The reward of an answer is ``1 / n`` if it is right and ``−1 / n`` if it is wrong, with n
    answers an episode, so that an episode's return is at most 1; the first ``delay`` actions do not
    count. POPGym's Easy, Medium and Hard ask for what was shown 3, 31 and 63 steps ago in episodes
    of one, two and three decks of 52 cards, which are dealt: there symbols are not independent.

    Args:
        delay: steps between a symbol and the answer, at least 1.
        symbols: number of symbols, at least 2.
        steps: of an episode, more than ``delay``.

    Raises:
        InvalidValueError: if an argument is out of range.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's

    def __init__(self, delay: int = 4, symbols: int = 4, steps: int = 52) -> None:
        self.delay = positive_int("delay", delay)
        self.symbols = whole_number("symbols", symbols, at_least=2)
        # More than the delay, or there is nothing to answer.
        self.steps = whole_number("steps", steps, at_least=self.delay + 1)
        self.observation_space = spaces.Box(0, 1, (symbols,), np.float32)
        self.action_space = spaces.Discrete(symbols)
        self._shown: deque[int] = deque(maxlen=delay + 1)
        self._taken = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Show the first symbol."""
        super().reset(seed=seed)
        self._shown.clear()
        self._taken = 0
        return self._show(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Judge the answer, and show the next symbol."""
        if not self.action_space.contains(action):
            raise InvalidValueError(
                f"Actions are symbols from 0 to {self.symbols - 1}. Received {action!r}."
            )
        reward = 0.0
        if self._taken >= self.delay:
            right = action == self._shown[0]
            reward = (1 if right else -1) / (self.steps - self.delay)
        self._taken += 1
        return self._show(), reward, self._taken == self.steps, False, {}

    def _show(self) -> np.ndarray:
        symbol = int(self.np_random.integers(self.symbols))
        self._shown.append(symbol)
        return np.eye(self.symbols, dtype=np.float32)[symbol]
