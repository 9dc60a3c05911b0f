"""Games in the threads of ALE's own vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ale_py
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from skillrl.envs.atari.emulator import FRAME_SKIP, SIZE, STACK
from skillrl.envs.atari.games import rom_path

Array = NDArray[Any]
_KEYS = ("lives", "episode_frame_number")
# ALE would leave an episode's last picture undrawn, were it to truncate it: that is done above.
_NEVER = 2**30


class ThreadGames:
    """``num_envs`` games in C++, as fast as there are; their states stay in there.

    Args:
        game: ALE's name.
        num_envs: number of games.
        num_threads: number of threads.
        repeat_action_probability: see :class:`~skillrl.envs.atari.AtariEnv`, as are the others.
        terminal_on_life_loss: whether a life lost ends the episode.
        noop_max: an episode begins after fewer than so many frames without an action.
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        num_threads: int,
        *,
        repeat_action_probability: float,
        terminal_on_life_loss: bool,
        noop_max: int,
    ) -> None:
        rom_path(game)  # raises what a user understands
        # ALE has two modes. In this one it never resets in the step that ends an episode, whose
        # infos would be lost; what is to be reset then is reset by a mask.
        self._envs: Any = ale_py.AtariVectorEnv(
            game,
            num_envs,
            num_threads=num_threads,
            autoreset_mode=AutoresetMode.NEXT_STEP,
            repeat_action_probability=repeat_action_probability,
            episodic_life=terminal_on_life_loss,
            noop_max=noop_max,
            frameskip=FRAME_SKIP,
            stack_num=STACK,
            img_height=SIZE,
            img_width=SIZE,
            max_num_frames_per_episode=_NEVER,
            reward_clipping=False,
            use_fire_reset=False,
        )
        self.num_actions = len(self._envs.ale.get_action_set())
        self._terminated = np.zeros(num_envs, np.bool_)

    def reset(self, mask: Array, seeds: Sequence[int | None]) -> tuple[Array, dict[str, Array]]:
        """Begin new episodes where ``mask`` is true.

        Returns:
            Observations (num_envs, 4, 84, 84), and infos, of all games.
        """
        chosen = [-1 if seed is None else seed for seed in np.array(seeds, object)[mask]]
        options = None if mask.all() else {"reset_mask": mask}
        observations, infos = self._envs.reset(seed=np.array(chosen), options=options)
        self._terminated = self._terminated & ~mask
        return observations, {key: infos[key] for key in _KEYS}

    def step(self, actions: Array, resets: Array) -> tuple[Array, Array, Array, dict[str, Array]]:
        """Step games, or begin new episodes where ``resets`` is true.

        Returns:
            Observations (num_envs, 4, 84, 84), rewards, terminations, and infos.
        """
        observations, rewards, terminations, _, infos = self._envs.step(actions)
        # Where episodes had terminated, ALE has begun new ones; where they were truncated, not.
        truncated = resets & ~self._terminated
        self._terminated = terminations & ~resets
        infos = {key: infos[key] for key in _KEYS}
        if truncated.any():
            observations, infos = self.reset(truncated, [None] * len(resets))
        return observations, np.where(resets, 0.0, rewards), self._terminated.copy(), infos

    def close(self) -> None:
        """End the threads."""
        self._envs = None
