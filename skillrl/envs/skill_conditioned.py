"""Observations that end with the skill that a policy is to show, for learning skills together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from skillrl.envs.mujoco.random_state import generator_from_row, generator_row
from skillrl.envs.wrapping import TransparentVectorWrapper, seeds_of
from skillrl.errors import InvalidValueError

State = dict[str, Any]


class SkillConditionedVectorWrapper(TransparentVectorWrapper):
    """A vector environment whose observations end with a one-hot skill.

    Each environment draws one of the skills when an episode begins and keeps it until the episode
    has ended, its final observation included. Source: Eysenbach et al. 2019 (DIAYN,
    arXiv 1802.06070). All autoreset modes are supported.

    Args:
        env: any vector environment whose observations are vectors in a Box.
        num_skills: number of skills.

    Raises:
        InvalidValueError: if the observations are no vectors, or there is no skill.

    >>> import gymnasium as gym
    >>> envs = SkillConditionedVectorWrapper(gym.make_vec("CartPole-v1", num_envs=3), num_skills=5)
    >>> observations, _ = envs.reset(seed=0)
    >>> observations.shape, bool((observations[:, 4:].sum(1) == 1).all())
    ((3, 9), True)
    """

    def __init__(self, env: VectorEnv[Any, Any, np.ndarray], num_skills: int) -> None:
        super().__init__(env)
        space = env.single_observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise InvalidValueError(
                f"Skills are appended to observations that are vectors. Received {space}."
            )
        if num_skills < 1:
            raise InvalidValueError(f"num_skills should be at least 1. Received {num_skills}.")
        self.num_skills = num_skills
        low, high = np.zeros(num_skills), np.ones(num_skills)
        self.single_observation_space = spaces.Box(
            np.concatenate([space.low, low]), np.concatenate([space.high, high]), dtype=np.float64
        )
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._mode = env.metadata.get("autoreset_mode")
        if not isinstance(self._mode, AutoresetMode):
            raise InvalidValueError(
                f"{env} must say in metadata['autoreset_mode'] what follows the end of an "
                f"episode, a member of gymnasium.vector.AutoresetMode, not {self._mode!r}."
            )
        self._random = [np.random.default_rng() for _ in range(env.num_envs)]
        # The skill of each environment, (num_envs,).
        self.skills = np.zeros(env.num_envs, np.int64)
        # Where the next step will only reset; all False unless the mode is "NextStep".
        self._resetting = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the environments and draw their skills."""
        mask = (options or {}).get("reset_mask")
        observations, infos = self.env.reset(seed=seed, options=options)
        where = np.ones(self.num_envs, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        seeds = seeds_of(seed, self.num_envs)
        for index, each in enumerate(seeds):
            if each is not None and where[index]:
                # Not the seed itself, from which the environment draws.
                self._random[index] = np.random.default_rng([each, 1])
        self._draw(where)
        self._resetting[where] = False
        return self._conditioned(observations), infos

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environments; new episodes are given new skills."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        done = terminations | truncations
        if self._mode is AutoresetMode.SAME_STEP:
            if "final_obs" in infos:
                infos["final_obs"] = infos["final_obs"].copy()
                for index in np.flatnonzero(done):
                    ended = infos["final_obs"][index]
                    skill = np.eye(self.num_skills)[self.skills[index]]
                    infos["final_obs"][index] = np.concatenate([ended, skill])
            self._draw(done)
        elif self._mode is AutoresetMode.NEXT_STEP:
            self._draw(self._resetting)
            self._resetting = done
        return self._conditioned(observations), rewards, terminations, truncations, infos

    def _draw(self, where: np.ndarray) -> None:
        for index in np.flatnonzero(where):
            self.skills[index] = self._random[index].integers(self.num_skills)

    def _conditioned(self, observations: np.ndarray) -> np.ndarray:
        return np.concatenate([observations, np.eye(self.num_skills)[self.skills]], axis=1)

    # Properties, so that the wrapper has these methods exactly where its environment has them.
    @property
    def get_state(self) -> Callable[[], State]:
        """The environment's ``get_state``, with the skills and what draws them."""
        inner: Callable[[], State] = self.env.get_state  # type: ignore[attr-defined]
        return lambda: {
            **inner(),
            "skills": self.skills.copy(),
            "skills_random": np.stack([generator_row(each) for each in self._random]),
            "skills_resetting": self._resetting.copy(),
        }

    @property
    def set_state(self) -> Callable[..., Any]:
        """The environment's ``set_state``, for a state that this wrapper's ``get_state`` gave."""
        inner: Callable[..., Any] = self.env.set_state  # type: ignore[attr-defined]

        def set_state(state: State, where: np.ndarray | None = None) -> Any:
            own = ("skills", "skills_random", "skills_resetting")
            missing = [name for name in own if name not in state]
            if missing:
                raise InvalidValueError(
                    f"The state has no {', '.join(missing)}: take it with get_state from an "
                    "environment wrapped like this one."
                )
            skills = np.asarray(state["skills"], np.int64)
            if not ((skills >= 0) & (skills < self.num_skills)).all():
                raise InvalidValueError(
                    f"The state holds the skills {skills.tolist()}, and there are "
                    f"{self.num_skills}, numbered from 0."
                )
            result = inner({name: state[name] for name in state if name not in own}, where)
            chosen = np.arange(self.num_envs)[slice(None) if where is None else where]
            self.skills[chosen] = skills
            self._resetting[chosen] = state["skills_resetting"]
            for index, row in zip(chosen, state["skills_random"], strict=True):
                self._random[index] = generator_from_row(row)
            return result

        return set_state
