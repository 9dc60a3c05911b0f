"""Atari's games, many at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from skillrl.envs import arguments
from skillrl.envs.atari.emulator import NOOP_MAX, check_deaths
from skillrl.envs.atari.env import check_seed, hidden_rows, observation_space
from skillrl.envs.atari.processes import ProcessGames
from skillrl.envs.atari.threads import ThreadGames
from skillrl.envs.wrapping import seeds_of
from skillrl.errors import InvalidValueError

Array = NDArray[Any]
Infos = dict[str, Any]
MAX_EPISODE_STEPS = 27_000
"""Steps after which an episode is truncated: half an hour of play."""


class AtariVectorEnv(gym.vector.VectorEnv[Array, Array, Array]):
    """Copies of one of Atari's games, stepped together.

    They run in threads, in ALE's own :class:`ale_py.AtariVectorEnv`, which keeps their states to
    itself; or, with ``saves_states`` or ``skip_deaths``, in processes that each step their share,
    and then there are ``get_state`` and ``set_state``. Both return what a
    ``gymnasium.vector.SyncVectorEnv`` of :class:`AtariEnv` returns, to the last bit.

    Args:
        game: ALE's name, such as ``"montezuma_revenge"``.
        num_envs: number of games.
        num_threads: threads or processes, or None for one on each usable CPU.
        max_episode_steps: steps, of four frames each, after which an episode is truncated; -1 for
            no limit.
        autoreset_mode: when an environment whose episode has ended is reset: in the next step
            (whose action it ignores), in the same step (the final observation is then in
            ``infos["final_obs"]``), or by the user, with
            ``reset(options={"reset_mask": finished})``, before the next step.
        saves_states: whether there are ``get_state`` and ``set_state``.
        repeat_action_probability: see :class:`AtariEnv`, as are those that follow.
        terminal_on_life_loss: whether a life lost ends the episode, and with it the game.
        skip_deaths: whether the step that loses a life leads at once to the next one; then the
            games run in processes, because ALE's own environment shows what is in between.
        noop_max: an episode begins after fewer than so many frames without an action.
        hide_status: whether the rows that show score, time and lives are black.

    Raises:
        InvalidValueError: if an argument cannot be used.

    Example:
        >>> envs = AtariVectorEnv("montezuma_revenge", num_envs=2, num_threads=1)
        >>> observations, infos = envs.reset(seed=0)
        >>> observations.shape, observations.dtype, infos["lives"].tolist()
        ((2, 4, 84, 84), dtype('uint8'), [6, 6])
        >>> envs.close()
    """

    def __init__(
        self,
        game: str,
        num_envs: int = 1,
        *,
        num_threads: int | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        saves_states: bool = False,
        repeat_action_probability: float = 0.0,
        terminal_on_life_loss: bool = True,
        skip_deaths: bool = False,
        noop_max: int = NOOP_MAX,
        hide_status: bool = True,
    ) -> None:
        self.num_envs = arguments.positive_int("num_envs", num_envs)
        self.autoreset_mode = arguments.autoreset_mode(autoreset_mode)
        self.max_episode_steps = arguments.episode_limit(max_episode_steps, MAX_EPISODE_STEPS)
        self.game = game
        self._hidden = hidden_rows(game, hide_status)
        check_deaths(game, terminal_on_life_loss, skip_deaths)
        kind: Callable[..., ProcessGames | ThreadGames] = ThreadGames
        if saves_states or skip_deaths:
            kind = partial(ProcessGames, skip_deaths=skip_deaths)
        self._games = kind(
            game,
            self.num_envs,
            min(arguments.num_threads(num_threads), self.num_envs),
            repeat_action_probability=arguments.probability(
                "repeat_action_probability", repeat_action_probability
            ),
            terminal_on_life_loss=terminal_on_life_loss,
            noop_max=arguments.positive_int("noop_max", noop_max),
        )
        self.metadata = {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space()
        self.single_action_space = gym.spaces.Discrete(self._games.num_actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._observations: Array | None = None  # until the first reset
        self._elapsed_steps = np.zeros(self.num_envs, np.int64)
        # Episodes that have ended and are not reset yet.
        self._finished = np.zeros(self.num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, Infos]:
        """Begin new episodes.

        Args:
            seed: environment ``i`` is seeded with ``seed + i``, or with ``seed[i]``, from 0 to
                2³¹ − 1; with None it goes on with its random numbers.
            options: ``{"reset_mask": mask}``, ``mask`` of shape ``(num_envs,)`` and of type bool,
                resets those environments only.

        Returns:
            Observations ``(num_envs, 4, 84, 84)``, of the environments that were not reset their
            latest ones, and infos.

        Raises:
            InvalidValueError: if the seeds or the mask do not fit.
        """
        mask = (options or {}).get("reset_mask")
        if mask is None:
            mask = np.ones(self.num_envs, np.bool_)
        elif not (
            isinstance(mask, np.ndarray)
            and mask.dtype == np.bool_
            and mask.shape == (self.num_envs,)
            and mask.any()
        ):
            raise InvalidValueError(
                f"options['reset_mask']={mask!r}: give a NumPy array of type bool and shape "
                f"({self.num_envs},) that is true somewhere."
            )
        if self._observations is None and not mask.all():
            raise ResetNeeded("The first reset() must be of all environments, without a mask.")
        seeds = seeds_of(seed, self.num_envs)
        if len(seeds) != self.num_envs:
            raise InvalidValueError(
                f"seed={seed!r}: give one for each of the {self.num_envs} environments."
            )
        for each in seeds:
            check_seed(each)
        infos = self._reset(mask, seeds)
        assert self._observations is not None
        return self._observations.copy(), _masked(infos, np.ones(self.num_envs, np.bool_))

    def _reset(self, mask: Array, seeds: Sequence[int | None]) -> Infos:
        observations, infos = self._games.reset(mask, seeds)
        self._observations = self._without_status(observations)
        self._elapsed_steps[mask] = 0
        self._finished[mask] = False
        return infos

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, Infos]:
        """Step every environment: an action lasts four frames.

        Args:
            actions: integers of shape ``(num_envs,)``.

        Returns:
            Observations ``(num_envs, 4, 84, 84)`` of type uint8; rewards, terminations and
            truncations ``(num_envs,)``; infos: lives and frames since the game began.

        Raises:
            InvalidValueError: if the actions do not fit.
            gymnasium.error.ResetNeeded: before the first reset, and with autoreset disabled if an
                environment whose episode has ended was not reset.
        """
        actions = self._checked(actions)
        resets = self._finished.copy()
        if resets.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"The episodes of environments {np.flatnonzero(resets).tolist()} have ended and "
                "autoreset is disabled: call "
                "reset(options={'reset_mask': terminations | truncations}) before step()."
            )
        observations, rewards, terminations, infos = self._games.step(actions, resets)
        self._observations = self._without_status(observations)
        self._elapsed_steps += 1
        self._elapsed_steps[resets] = 0
        truncations = self._elapsed_steps >= self.max_episode_steps
        self._finished = terminations | truncations

        everywhere = np.ones(self.num_envs, np.bool_)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._finished.any():
            ended = self._finished.copy()
            final_observations = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(ended):
                final_observations[index] = self._observations[index].copy()
            final: Infos = {
                "final_obs": final_observations,
                "_final_obs": ended,
                "final_info": _masked(infos, ended),
                "_final_info": ended.copy(),
            }
            begun = self._reset(ended, [None] * self.num_envs)
            infos = {**_masked(begun, everywhere), **final}
        else:
            infos = _masked(infos, everywhere)
        return self._observations.copy(), rewards, terminations, truncations, infos

    def _checked(self, actions: Array) -> Array:
        if self._observations is None:
            raise ResetNeeded("Call reset() before the first step().")
        actions = np.asarray(actions)
        highest = self._games.num_actions - 1
        if (
            actions.shape != (self.num_envs,)
            or actions.dtype.kind not in "iu"
            or actions.min() < 0
            or actions.max() > highest
        ):
            raise InvalidValueError(
                f"The actions must be integers in 0 … {highest} of shape ({self.num_envs},), "
                f"not {actions!r}."
            )
        return actions.astype(np.int64)

    def _without_status(self, observations: Array) -> Array:
        observations[:, :, self._hidden] = 0
        return observations

    # Properties, so that the environment has these methods exactly where it has states.
    @property
    def get_state(self) -> Callable[[], dict[str, Array]]:
        """Everything needed to go on exactly, in arrays with a row for each environment.

        Rows may be picked, and given to ``set_state`` of any environment of the same game: some
        80 kB each. Only with ``saves_states`` or ``skip_deaths``.
        """
        self._needs_states("get_state")
        return self._get_state

    @property
    def set_state(self) -> Callable[..., None]:
        """Go on from saved states: ``set_state(state, where=None)``.

        ``state`` is what ``get_state`` returned, or some rows of all its arrays; ``where`` says
        which environments to set, one for each row: a mask ``(num_envs,)`` of type bool, or
        indices; None for all. Only with ``saves_states`` or ``skip_deaths``.
        """
        self._needs_states("set_state")
        return self._set_state

    def set_elapsed_steps(self, steps: Array) -> None:
        """Let present episodes be so many steps ``(num_envs,)`` old, by their time limit."""
        self._elapsed_steps = np.array(steps, np.int64)

    def _needs_states(self, name: str) -> None:
        if not isinstance(self._games, ProcessGames):
            raise AttributeError(
                f"{self} has no {name}: ALE's own vector environment keeps its states to itself. "
                "Make it with saves_states=True, or with skip_deaths=True."
            )

    def _get_state(self) -> dict[str, Array]:
        if self._observations is None:
            raise ResetNeeded("There is no state before the first reset().")
        return self._state_with(self._observations)

    def _state_with(self, observations: Array) -> dict[str, Array]:
        assert isinstance(self._games, ProcessGames)
        return {
            **self._games.get_state(),
            "game": np.full(self.num_envs, zlib.crc32(self.game.encode())),
            "elapsed_steps": self._elapsed_steps.copy(),
            "finished": self._finished.copy(),
            "observations": observations.copy(),
        }

    def _set_state(
        self, state: Mapping[str, Array], where: Array | Sequence[int] | None = None
    ) -> None:
        assert isinstance(self._games, ProcessGames)
        observations = self._observations
        if observations is None:  # a run that is resumed
            if where is not None:
                raise ResetNeeded("Before the first reset(), set the state of all environments.")
            observations = np.zeros(self.observation_space.shape or (), np.uint8)
        present = self._state_with(observations)
        chosen = np.arange(self.num_envs)
        if where is not None:
            chosen = chosen[np.asarray(where)]
        rows = {}
        for name, array in present.items():
            shape = (len(chosen), *array.shape[1:])
            if name not in state or np.shape(state[name]) != shape:
                given = np.shape(state[name]) if name in state else "nothing"
                raise InvalidValueError(
                    f"The state's {name!r} must have shape {shape}, got {given}. Was it saved "
                    "from another game?"
                )
            rows[name] = np.asarray(state[name], array.dtype)
        if np.any(rows.pop("game") != present["game"][0]):
            raise InvalidValueError(f"The state is that of another game than {self.game!r}.")
        self._elapsed_steps[chosen] = rows.pop("elapsed_steps")
        self._finished[chosen] = rows.pop("finished")
        self._observations = observations.copy()
        self._observations[chosen] = rows.pop("observations")
        self._games.set_state(chosen, rows, self._observations)

    def render(self) -> tuple[Any, ...] | None:
        """Refused: see the error.

        Raises:
            InvalidValueError: always; it says how games are made that can be rendered.
        """
        raise InvalidValueError(
            f"{self} has no pictures: make games that have by make_vec(..., "
            "render_mode='rgb_array'), which steps them one after another."
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Release the threads, or end the processes."""
        self._games.close()

    def __repr__(self) -> str:
        name = self.game if self.spec is None else self.spec.id
        return f"{type(self).__name__}({name}, num_envs={self.num_envs})"


def _masked(infos: Infos, mask: Array) -> Infos:
    """Gymnasium's form of infos: an array and a mask for each key, zero outside of the mask."""
    batched: Infos = {}
    for name, values in infos.items():
        batched[name] = np.where(mask, values, 0)
        batched[f"_{name}"] = mask.copy()
    return batched
