"""One of Atari's games as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from skillrl.envs import arguments
from skillrl.envs.atari.emulator import FRAME_SKIP, NOOP_MAX, SIZE, STACK, Emulator
from skillrl.envs.atari.games import known
from skillrl.errors import InvalidValueError

FRAMES_PER_SECOND = 60
MAX_SEED = 2**31 - 1


class AtariEnv(gym.Env[NDArray[np.uint8], np.int64]):
    """One of Atari's games, with the observations of :class:`AtariVectorEnv`.

    Observation: the last four pictures, grey, uint8 of shape (4, 84, 84), the latest last; before
    the first, black ones. Actions: those that do something in the game. The reward is what the
    score grows by.

    Args:
        game: ALE's name, such as ``"montezuma_revenge"``.
        repeat_action_probability: how likely a frame repeats the action of the frame before
            ("sticky actions").
        terminal_on_life_loss: whether a life lost ends the episode, and with it the game.
        skip_deaths: whether, where a life lost does not end the episode, the step that loses it
            leads at once to where the next life begins, which all four pictures then show: without
            the frames in between, in which nothing can be done. For games of which their number is
            known (:data:`skillrl.envs.atari.games.KNOWN`): Montezuma's Revenge.
        noop_max: an episode begins after fewer than so many frames without an action, a random
            number; 1 for none.
        hide_status: whether the rows that show score, time and lives are black, where they are
            known (:data:`skillrl.envs.atari.games.KNOWN`).
        render_mode: None, or "rgb_array" for the console's picture in colour.

    Raises:
        InvalidValueError: for an unknown game or render mode, a seed or an action out of range, or
            deaths that are to be skipped where they end the episode.

    >>> env = AtariEnv("montezuma_revenge")
    >>> observation, info = env.reset(seed=0)
    >>> observation.shape, info["lives"], env.probe()["room"]
    ((4, 84, 84), 6, 1)
    """

    metadata = {  # noqa: RUF012 (as Gymnasium has it)
        "render_modes": ["rgb_array"],
        "render_fps": FRAMES_PER_SECOND // FRAME_SKIP,
    }

    def __init__(
        self,
        game: str,
        *,
        repeat_action_probability: float = 0.0,
        terminal_on_life_loss: bool = True,
        skip_deaths: bool = False,
        noop_max: int = NOOP_MAX,
        hide_status: bool = True,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise InvalidValueError(f"render_mode={render_mode!r}: choose 'rgb_array' or None.")
        self.render_mode = render_mode
        self.game = game
        self._memory = known(game).memory
        self._hidden = hidden_rows(game, hide_status)
        self._emulator = Emulator(
            game,
            repeat_action_probability=arguments.probability(
                "repeat_action_probability", repeat_action_probability
            ),
            terminal_on_life_loss=terminal_on_life_loss,
            skip_deaths=skip_deaths,
            noop_max=arguments.positive_int("noop_max", noop_max),
        )
        self.observation_space = observation_space()
        self.action_space: gym.spaces.Discrete = gym.spaces.Discrete(len(self._emulator.actions))
        self._observation: NDArray[np.uint8] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin a new game.

        Args:
            seed: from 0 to 2³¹ − 1.
            options: ``{"noops": n}`` lets it begin after ``n`` frames without an action, instead
                of a random number.
        """
        check_seed(seed)
        super().reset(seed=seed)
        self._emulator.reset(seed, (options or {}).get("noops"))
        self._observation = np.zeros((STACK, SIZE, SIZE), np.uint8)
        self._show()
        return self._observation.copy(), self._emulator.info()

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Let an action last four frames, or until the episode ends."""
        if self._observation is None:
            raise ResetNeeded("Call reset() before the first step().")
        if not self.action_space.contains(action):
            raise InvalidValueError(
                f"The action must be an integer in 0 … {self.action_space.n - 1}, not {action}."
            )
        reward, terminated = self._emulator.step(int(action))
        self._observation[:-1] = self._observation[1:]
        self._show()
        if self._emulator.death_skipped:
            self._observation[:] = self._observation[-1]
        return self._observation.copy(), reward, terminated, False, self._emulator.info()

    def _show(self) -> None:
        assert self._observation is not None
        self._observation[-1] = self._emulator.picture()
        self._observation[-1, self._hidden] = 0

    def render(self) -> NDArray[np.uint8] | None:
        """The console's picture in colour, of shape (height, width, 3)."""
        if self.render_mode is None:
            gym.logger.warn("This environment was made without render_mode='rgb_array'.")
            return None
        return self._emulator.screen()

    def probe(self) -> dict[str, int]:
        """What the game's memory holds, for measuring only: agents never see it.

        Returns:
            What is known of the game (:data:`skillrl.envs.atari.games.KNOWN`), of Montezuma's
            Revenge room, position, level, lives and inventory; of most games nothing.
        """
        memory = self._emulator.memory()
        return {name: int(memory[address]) for name, address in self._memory.items()}


def observation_space() -> gym.Space[Any]:
    """Four grey pictures of 84 × 84 pixels."""
    return gym.spaces.Box(0, 255, (STACK, SIZE, SIZE), np.uint8)


def hidden_rows(game: str, hide_status: bool) -> slice:
    """The rows of a picture of 84 × 84 pixels that hold any of a game's status.

    >>> hidden_rows("montezuma_revenge", True)
    slice(2, 8, None)
    """
    status = known(game).status
    if status is None or not hide_status:
        return slice(0, 0)
    first, last = status
    scale = 210 / SIZE  # rows of the screen in a row of the picture
    return slice(int(first / scale), int(np.ceil((last + 1) / scale)))


def check_seed(seed: int | None) -> None:
    """Refuse a seed that ALE cannot take.

    Raises:
        InvalidValueError: if it is no whole number from 0 to 2³¹ − 1.
    """
    if seed is not None and not (isinstance(seed, int | np.integer) and 0 <= seed <= MAX_SEED):
        raise InvalidValueError(f"seed={seed!r}: ALE takes whole numbers from 0 to {MAX_SEED}.")
