"""The two-dimensional maze: a corridor folded five times, without a task.

A grid of 32 × 32 cells with a border. Four horizontal walls, each covering 80 % of the
width, leave an opening at the right, left, right and left end in turn, so the way from the
start at the top left to the bottom row takes 110 steps. Column 15 crosses every corridor and
is dangerous: whoever stands in it and does anything but step sideways is back at the start.

The maze is that of Meier & Mujika, "Open-Ended Reinforcement Learning with Neural Reward
Functions" (NeurIPS 2022, arXiv 2202.08266). Its own reward is always 0: skills are to be
discovered here, there is no task.

``MazeEnv`` is one maze, ``MazeVectorEnv`` thousands of them stepped together; both look their
moves up in one table, which ``move`` writes down as rules.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from skillrl.errors import InvalidValueError

SIZE = 32
"""Rows and columns of the maze, the border included."""

START = (1, 1)
"""Row and column of the cell in which every episode starts."""

DANGER_COLUMN = 15
"""In this column any action but a sideways move leads back to the start."""

STAY, UP, DOWN, LEFT, RIGHT = range(5)
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
"""Change of row and column by action, shape (5, 2)."""


def _walls() -> np.ndarray:
    walls = np.zeros((SIZE, SIZE), dtype=np.bool_)
    walls[[0, -1], :] = True
    walls[:, [0, -1]] = True
    covered = SIZE * 80 // 100
    for number in range(4):
        row = walls[SIZE * 20 * (number + 1) // 100]
        if number % 2 == 0:
            row[:covered] = True  # opening at the right
        else:
            row[-covered:] = True  # opening at the left
    walls.flags.writeable = False
    return walls


WALLS = _walls()
"""True where a cell is wall, shape (32, 32)."""

Observation = Literal["position", "image"]
"""What an agent observes: its row and column, or a picture of the maze."""

IMAGE_SIZE = 64
"""Rows and columns of an observed picture."""

_METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 25}


def move(positions: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Where one step leads: the rules of the maze, for any number of agents.

    Args:
        positions: Rows and columns of free cells, integers of shape (batch, 2).
        actions: 0 stay, 1 up, 2 down, 3 left, 4 right, shape (batch,).

    Returns:
        The new rows and columns, shape (batch, 2).

    Examples:
        >>> move(np.array([[1, 1], [1, 1], [1, 15], [1, 15]]), np.array([DOWN, UP, RIGHT, STAY]))
        array([[ 2,  1],
               [ 1,  1],
               [ 1, 16],
               [ 1,  1]])
    """
    targets = positions + MOVES[actions]
    blocked = WALLS[targets[:, 0], targets[:, 1]]
    after = np.where(blocked[:, None], positions, targets)
    sideways = (actions == LEFT) | (actions == RIGHT)
    after[(positions[:, 1] == DANGER_COLUMN) & ~sideways] = START
    return after


def _transition_table() -> np.ndarray:
    """The rules as a table ``[action, cell] -> cell``, a cell being ``row * SIZE + column``."""
    table = np.zeros((len(MOVES), SIZE * SIZE), dtype=np.intp)
    free = np.argwhere(~WALLS)
    for action in range(len(MOVES)):
        after = move(free, np.full(len(free), action))
        table[action, _cells(free)] = _cells(after)
    return table


def _cells(positions: np.ndarray) -> np.ndarray:
    return positions[..., 0] * SIZE + positions[..., 1]


_START_CELL = START[0] * SIZE + START[1]
_NEXT_CELL = _transition_table()
_POSITIONS = np.stack(np.divmod(np.arange(SIZE * SIZE), SIZE), axis=1)


def _observation_space(observation: Observation) -> gym.spaces.Box:
    if observation not in get_args(Observation):
        allowed = ", ".join(map(repr, get_args(Observation)))
        raise InvalidValueError(f"observation must be one of {allowed}, not {observation!r}.")
    if observation == "image":
        return gym.spaces.Box(0, 255, (1, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    # Integers, not floats: the position is a pair of indices, which a grid-shaped reward
    # network turns into a one-hot image and any generic tool reads as a vector.
    return gym.spaces.Box(0, SIZE - 1, (2,), np.int64)


def _observations(observation: Observation) -> np.ndarray:
    """What is observed in each cell, ``(cells, *shape)``."""
    return _images() if observation == "image" else _POSITIONS


class MazeEnv(gym.Env[np.ndarray, np.int64]):
    """The maze for one agent.

    Observation: row and column, ``Box(0, 31, (2,), int64)``; or the rendered maze, grey, its
    negative, shrunk to ``Box(0, 255, (1, 64, 64), uint8)``. Actions: ``Discrete(5)``, that is
    stay, up, down, left, right. The reward is always 0 and no state is terminal;
    ``gymnasium.make("skillrl/Maze2D-v0")`` truncates episodes after 250 steps.

    Args:
        render_mode: None, or "rgb_array" for pictures of 256 × 256 pixels.
        observation: "position" or "image".

    Raises:
        InvalidValueError: For an unknown render mode or observation, or an action outside 0 … 4.

    Examples:
        >>> env = MazeEnv()
        >>> observation, info = env.reset(seed=0)
        >>> observation
        array([1, 1])
        >>> env.step(RIGHT)
        (array([1, 2]), 0.0, False, False, {})
    """

    metadata = _METADATA

    def __init__(
        self, render_mode: str | None = None, observation: Observation = "position"
    ) -> None:
        self.render_mode = _checked_render_mode(render_mode)
        self.observation_space = _observation_space(observation)
        self._seen = _observations(observation)
        self.action_space = gym.spaces.Discrete(len(MOVES))
        self._cell = _START_CELL

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Go back to the start; the maze has no randomness, so a seed changes nothing in it."""
        super().reset(seed=seed)
        self._cell = _START_CELL
        return self._seen[self._cell].copy(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one action (0 stay, 1 up, 2 down, 3 left, 4 right)."""
        if not self.action_space.contains(action):
            raise InvalidValueError(f"The action must be an integer in 0 … 4, not {action!r}.")
        self._cell = int(_NEXT_CELL[action, self._cell])
        return self._seen[self._cell].copy(), 0.0, False, False, {}

    def render(self) -> np.ndarray | None:
        """A picture of the maze, uint8 of shape (256, 256, 3)."""
        if self.render_mode is None:
            _warn_no_render_mode(self)
            return None
        return _picture(self._cell)


class MazeVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """The maze for many agents at once, millions of steps per second.

    Observations are integers of shape (num_envs, 2), rows and columns, or pictures, bytes of shape
    (num_envs, 1, 64, 64); everything else is as in
    ``MazeEnv``, save that episodes are truncated here, as for every vector environment.

    Args:
        num_envs: Number of agents, each in a maze of its own.
        max_episode_steps: Steps after which an episode is truncated; -1 for never, as in
            ``gymnasium.make``.
        render_mode: None, or "rgb_array".
        autoreset_mode: What follows the end of an episode, as Gymnasium defines it: "NextStep",
            "SameStep" or "Disabled", or a member of ``gymnasium.vector.AutoresetMode``.
        observation: "position" or "image".

    Raises:
        InvalidValueError: For an argument, an action, a seed list, a reset mask or a state that
            does not fit.
        gymnasium.error.ResetNeeded: From ``step``, where automatic resets are disabled and an
            episode has ended.

    Examples:
        >>> envs = MazeVectorEnv(3)
        >>> observations, infos = envs.reset(seed=0)
        >>> envs.step(np.array([DOWN, RIGHT, STAY]))[0]
        array([[2, 1],
               [1, 2],
               [1, 1]])
    """

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int = 250,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        observation: Observation = "position",
    ) -> None:
        if num_envs < 1:
            raise InvalidValueError(f"num_envs must be at least 1, not {num_envs}.")
        if max_episode_steps < 1 and max_episode_steps != -1:
            raise InvalidValueError(
                "max_episode_steps must be at least 1, or -1 for no limit, "
                f"not {max_episode_steps}."
            )
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            allowed = ", ".join(repr(mode.value) for mode in AutoresetMode)
            raise InvalidValueError(
                f"autoreset_mode must be one of {allowed}, not {autoreset_mode!r}."
            ) from None
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.render_mode = _checked_render_mode(render_mode)
        self.metadata = {**_METADATA, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = _observation_space(observation)
        self._seen = _observations(observation)
        self.single_action_space = gym.spaces.Discrete(len(MOVES))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._cell = np.full(num_envs, _START_CELL)
        self._elapsed_steps = np.zeros(num_envs, dtype=np.int64)
        self._finished = np.zeros(num_envs, dtype=np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Send agents back to the start: all of them, or those of ``options["reset_mask"]``.

        Args:
            seed: An integer, or one per environment. The maze has no randomness: seeds are
                accepted as Gymnasium wants it and change nothing.
            options: ``{"reset_mask": mask}`` with a boolean array of shape (num_envs,) resets
                only where the mask is true.

        Returns:
            The observations of all agents, (num_envs, …), and an empty dictionary.
        """
        if isinstance(seed, Sequence):
            if len(seed) != self.num_envs:
                raise InvalidValueError(
                    f"A list of seeds must have one for each of the {self.num_envs} "
                    f"environments, not {len(seed)}."
                )
            seed = seed[0]
        super().reset(seed=seed)
        mask = slice(None) if options is None else self._reset_mask(options)
        self._restart(mask)
        self._finished[mask] = False
        return self._seen[self._cell], {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one action in every maze.

        Args:
            actions: Integers in 0 … 4 of shape (num_envs,).

        Returns:
            Observations (num_envs, …), rewards (all 0), terminations (all False), truncations, and
            an info dictionary that, in the mode "SameStep", holds the last observations of episodes
            that have just ended under "final_obs".
        """
        actions = np.asarray(actions)
        if (
            actions.shape != (self.num_envs,)
            or actions.dtype.kind not in "iu"
            or actions.min() < 0
            or actions.max() >= len(MOVES)
        ):
            raise InvalidValueError(
                f"The actions must be integers in 0 … 4 of shape ({self.num_envs},), "
                f"not {actions!r}."
            )
        if self.autoreset_mode is AutoresetMode.DISABLED and self._finished.any():
            raise ResetNeeded(
                f"Episodes have ended in environments {np.flatnonzero(self._finished).tolist()} "
                "and automatic resets are disabled: call "
                'reset(options={"reset_mask": terminations | truncations}) before the next step.'
            )

        self._cell = _NEXT_CELL[actions, self._cell]
        self._elapsed_steps += 1
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._restart(self._finished)
        if self.max_episode_steps == -1:
            truncations = np.zeros(self.num_envs, dtype=np.bool_)
        else:
            truncations = self._elapsed_steps >= self.max_episode_steps

        infos: dict[str, Any] = {}
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._finished = truncations.copy()
        elif truncations.any():
            final = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(truncations):
                final[index] = self._seen[self._cell[index]].copy()
            infos = {
                "final_obs": final,
                "_final_obs": truncations.copy(),
                "final_info": {},
                "_final_info": truncations.copy(),
            }
            self._restart(truncations)
        rewards = np.zeros(self.num_envs)
        terminations = np.zeros(self.num_envs, dtype=np.bool_)
        return self._seen[self._cell], rewards, terminations, truncations, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One picture per maze, each uint8 of shape (256, 256, 3)."""
        if self.render_mode is None:
            _warn_no_render_mode(self)
            return None
        return tuple(_picture(int(cell)) for cell in self._cell)

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything needed to continue exactly, in arrays with a row for each environment.

        The maze draws no random numbers, so there is no generator to save.

        Returns:
            "observations" (num_envs, …); "elapsed_steps" (num_envs,); "finished" (num_envs,), true
            where an episode has ended and its reset is still to come; where the observations are
            pictures, "positions" (num_envs, 2), too.
        """
        state = {
            "observations": self._seen[self._cell],
            "elapsed_steps": self._elapsed_steps.copy(),
            "finished": self._finished.copy(),
        }
        if self._seen is not _POSITIONS:
            state["positions"] = _POSITIONS[self._cell]
        return state

    def set_state(self, state: Mapping[str, np.ndarray], where: np.ndarray | None = None) -> None:
        """Continue from saved states.

        Args:
            state: What ``get_state`` returned, or some rows of all its arrays.
            where: The environments to set, one for each row of ``state``: a mask (num_envs,) of
                type bool, or indices; None for all. The others stay as they are.

        Raises:
            InvalidValueError: If an array is missing, has the wrong shape, or puts an agent into
                a wall.
        """
        environments = np.arange(self.num_envs)
        if where is not None:
            environments = environments[np.asarray(where)]
        for name, array in self.get_state().items():
            shape = (len(environments), *array.shape[1:])
            if name not in state or np.shape(state[name]) != shape:
                given = np.shape(state[name]) if name in state else "nothing"
                raise InvalidValueError(
                    f"The state's {name!r} must have shape {shape}, got {given}."
                )
        name = "observations" if self._seen is _POSITIONS else "positions"
        position = np.asarray(state[name])
        if (
            position.dtype.kind not in "iu"
            or not ((position >= 0) & (position < SIZE)).all()
            or WALLS[position[:, 0], position[:, 1]].any()
        ):
            raise InvalidValueError(
                f"The state's {name!r} must hold rows and columns of free cells."
            )
        self._cell[environments] = _cells(position)
        self._elapsed_steps[environments] = state["elapsed_steps"]
        self._finished[environments] = state["finished"]

    def _restart(self, mask: np.ndarray | slice) -> None:
        self._cell[mask] = _START_CELL
        self._elapsed_steps[mask] = 0

    def _reset_mask(self, options: dict[str, Any]) -> np.ndarray | slice:
        if "reset_mask" not in options:
            return slice(None)
        mask = options["reset_mask"]
        if (
            not isinstance(mask, np.ndarray)
            or mask.dtype != np.bool_
            or mask.shape != (self.num_envs,)
            or not mask.any()
        ):
            raise InvalidValueError(
                f"options['reset_mask'] must be a boolean array of shape ({self.num_envs},) with "
                f"at least one True, not {mask!r}."
            )
        return mask


_CELL_PIXELS = 8
_FREE_COLOUR = (246, 244, 238)
_WALL_COLOUR = (52, 58, 70)
_DANGER_COLOUR = (247, 208, 200)
_START_COLOUR = (160, 208, 160)
_AGENT_COLOUR = (32, 98, 190)
# Weights of red, green and blue in a grey picture (ITU-R BT.601).
_GREY = np.array([0.299, 0.587, 0.114])


@functools.cache
def _background() -> np.ndarray:
    cells = np.full((SIZE, SIZE, 3), _FREE_COLOUR, dtype=np.uint8)
    cells[:, DANGER_COLUMN] = _DANGER_COLOUR
    cells[START] = _START_COLOUR
    cells[WALLS] = _WALL_COLOUR
    return cells.repeat(_CELL_PIXELS, axis=0).repeat(_CELL_PIXELS, axis=1)


@functools.cache
def _disc() -> np.ndarray:
    offset = np.arange(_CELL_PIXELS) - (_CELL_PIXELS - 1) / 2
    return np.hypot(offset[:, None], offset) <= _CELL_PIXELS / 2


def _picture(cell: int) -> np.ndarray:
    """The maze with an agent in ``cell``, uint8 of shape (256, 256, 3)."""
    picture = _background().copy()
    row, column = divmod(cell, SIZE)
    top, left = row * _CELL_PIXELS, column * _CELL_PIXELS
    picture[top : top + _CELL_PIXELS, left : left + _CELL_PIXELS][_disc()] = _AGENT_COLOUR
    return picture


@functools.cache
def _images() -> np.ndarray:
    """The picture that is observed in each cell, uint8 of shape (1024, 1, 64, 64).

    As in most games, floors are dark: a network sees next to nothing where nothing is. Nobody is
    ever in a wall, of which there is no picture.
    """
    images = np.zeros((SIZE * SIZE, 1, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    side = SIZE * _CELL_PIXELS // IMAGE_SIZE
    for cell in _cells(np.argwhere(~WALLS)).tolist():
        blocks = _picture(cell).reshape(IMAGE_SIZE, side, IMAGE_SIZE, side, 3)
        images[cell, 0] = 255 - blocks.mean(axis=(1, 3)) @ _GREY
    images.flags.writeable = False
    return images


def _checked_render_mode(render_mode: str | None) -> str | None:
    if render_mode not in (None, "rgb_array"):
        raise InvalidValueError(f"render_mode must be None or 'rgb_array', not {render_mode!r}.")
    return render_mode


def _warn_no_render_mode(env: gym.Env | VectorEnv) -> None:
    gym.logger.warn(f"{env} renders nothing: construct it with render_mode='rgb_array'.")
