"""Episodes that begin from saved states, for some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from skillrl.envs.mujoco.random_state import generator_from_row, generator_row
from skillrl.envs.wrapping import TransparentVectorWrapper, seeds_of
from skillrl.errors import InvalidValueError

State = Mapping[str, np.ndarray]
_OWN = "restarts_random"


class RestartVectorWrapper(TransparentVectorWrapper):
    """A vector environment in which a share of the episodes begins from saved states.

    So that an agent begins where another policy has led. Source of resets to saved states for
    exploration: Ecoffet et al. 2019 (Go-Explore, arXiv 1901.10995). An episode that follows a
    ``reset`` begins as usual. A saved state brings its number of elapsed steps with it, so that no
    episode is longer than others, but not the generator under ``"random"``, if its states have one.
    Infos tell of the reset that it takes the place of.

    Args:
        env: a vector environment in the mode SAME_STEP with ``get_state`` and ``set_state``, whose
            state holds its ``"observations"``, and in no wrapper: what that observes is not there.
        share: of the episodes, in [0, 1]; may be changed at any time.

    Raises:
        InvalidValueError: if the environment has no states or another mode, or is in a wrapper, or
            the share is out of range; from ``set_starts``, if there are no states.

    >>> from skillrl.envs import MazeVectorEnv
    >>> envs = RestartVectorWrapper(
    ...     MazeVectorEnv(2, autoreset_mode="SameStep", max_episode_steps=3), share=1.0
    ... )
    >>> _ = envs.reset(seed=0)
    >>> envs.set_starts({**envs.get_state(), "observations": np.array([[1, 5], [1, 5]])})
    >>> for _ in range(3):
    ...     observations, *_ = envs.step(np.zeros(2, np.int64))
    >>> observations.tolist()
    [[1, 5], [1, 5]]
    """

    def __init__(self, env: VectorEnv[Any, Any, np.ndarray], share: float) -> None:
        super().__init__(env)
        if not hasattr(env, "get_state"):
            raise InvalidValueError(f"{env} cannot restart: it has no get_state and set_state.")
        if env.unwrapped is not env:
            raise InvalidValueError(
                f"{env} cannot restart: wrap {env.unwrapped} in this wrapper first, and then in "
                "the others."
            )
        if env.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
            raise InvalidValueError(
                f"{env} should reset in the same step: make it with autoreset_mode='SameStep'."
            )
        if not 0.0 <= share <= 1.0:
            raise InvalidValueError(f"share should be in [0, 1]. Received {share}.")
        self.share = share
        self._starts: State | None = None
        self._random = [np.random.default_rng() for _ in range(env.num_envs)]

    def set_starts(self, states: State) -> None:
        """Let episodes begin from ``states``, rows of what ``get_state`` returned."""
        if len(states.get("observations", ())) == 0:
            raise InvalidValueError("There are no observations in the states to restart from.")
        self._starts = {name: np.asarray(rows) for name, rows in states.items() if name != _OWN}

    def forget_starts(self) -> None:
        """Let episodes begin as usual until there are other states."""
        self._starts = None

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the environments as usual."""
        seeds = seeds_of(seed, self.num_envs)
        mask = (options or {}).get("reset_mask")
        for index, each in enumerate(seeds):
            if each is not None and (mask is None or mask[index]):
                # Not the seed itself, from which the environment draws.
                self._random[index] = np.random.default_rng([each, 2])
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environments; some of the episodes that begin do so from a saved state."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        begun = np.flatnonzero(terminations | truncations)
        if self._starts is None or self.share == 0.0 or not len(begun):
            return observations, rewards, terminations, truncations, infos
        count = len(self._starts["observations"])
        drawn = [
            (index, self._random[index].integers(count))
            for index in begun
            if self._random[index].random() < self.share
        ]
        if drawn:
            where, rows = (np.array(column) for column in zip(*drawn, strict=True))
            states = {name: values[rows] for name, values in self._starts.items()}
            present = self.env.get_state()  # type: ignore[attr-defined]
            if "random" in present:
                # Later resets go on with the environment's own random numbers.
                states["random"] = present["random"][where]
            self.env.set_state(states, where=where)  # type: ignore[attr-defined]
            observations = observations.copy()
            observations[where] = states["observations"]
        return observations, rewards, terminations, truncations, infos

    def get_state(self) -> dict[str, np.ndarray]:
        """The environment's ``get_state``, with what draws starts, but without the starts."""
        inner = self.env.get_state()  # type: ignore[attr-defined]
        return {**inner, _OWN: np.stack([generator_row(each) for each in self._random])}

    def set_state(self, state: State, where: np.ndarray | None = None) -> None:
        """The environment's ``set_state``, for a state that this wrapper's ``get_state`` gave."""
        if _OWN not in state:
            raise InvalidValueError(
                f"The state has no {_OWN!r}: take it with get_state from an environment wrapped "
                "like this one."
            )
        inner: Callable[..., None] = self.env.set_state  # type: ignore[attr-defined]
        inner({name: rows for name, rows in state.items() if name != _OWN}, where)
        chosen = np.arange(self.num_envs)[slice(None) if where is None else where]
        for index, row in zip(chosen, state[_OWN], strict=True):
            self._random[index] = generator_from_row(row)
