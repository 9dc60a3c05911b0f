"""From a Gymnasium vector environment to Stable-Baselines3's ``VecEnv``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from skillrl.errors import InvalidValueError


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment for agents of Stable-Baselines3.

    Observations keep the dtype of the environment's space; rewards become float32, as
    Stable-Baselines3's own vector environments return them. A step's ``infos[i]`` holds what the
    environment said about sub-environment ``i`` in the step taken (of a finished episode, in its
    last step), ``"TimeLimit.truncated"``, and at the end of an episode
    ``"terminal_observation"``. What a reset said is in ``reset_infos[i]``.

    The dictionaries cost time with many environments. A training loop that needs none of them
    passes ``info_keys=()`` and reads the arrays of the last step:

    Attributes:
        env: The wrapped environment.
        terminations: Booleans of shape (num_envs,).
        truncations: Booleans of shape (num_envs,).
        final_observations: The last observation of each episode that has just ended, by the
            index of its environment.
        infos: The wrapped environment's infos, one array per key.

    Args:
        env: A vector environment whose autoreset mode is "SameStep" or "Disabled"; with the
            latter, the adapter resets what has ended.
        info_keys: The keys of the environment's infos to copy into the dictionaries; None for
            all.

    Raises:
        InvalidValueError: If the autoreset mode is "NextStep", because Stable-Baselines3 would
            learn from the steps that only reset; from ``set_options``, if the options differ
            between environments; from ``set_attr`` and ``env_method``, if the environment has no
            sub-environments.

    Examples:
        >>> envs = gym.make_vec(
        ...     "CartPole-v1", num_envs=2, vectorization_mode="sync",
        ...     vector_kwargs={"autoreset_mode": "SameStep"},
        ... )
        >>> vec_env = SB3VecEnv(envs)
        >>> vec_env.reset().shape
        (2, 4)
        >>> observations, rewards, dones, infos = vec_env.step(np.array([0, 1]))
        >>> infos
        [{'TimeLimit.truncated': False}, {'TimeLimit.truncated': False}]
    """

    def __init__(
        self, env: VectorEnv[Any, Any, np.ndarray], info_keys: Sequence[str] | None = None
    ) -> None:
        if not isinstance(env, VectorEnv):
            raise InvalidValueError(
                f"{env} is no vector environment. Make one with skillrl.envs.make_vec, or give "
                "Stable-Baselines3 the single environment as it is."
            )
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
            raise InvalidValueError(
                f"{env} has the autoreset mode {mode}, whose steps that only reset would be "
                "learnt from. Make it with autoreset_mode='SameStep' (or 'Disabled'): in "
                "gymnasium.make_vec as vector_kwargs={'autoreset_mode': 'SameStep'}, or, for "
                "environments with a vector entry point, directly as autoreset_mode='SameStep'."
            )
        self.env = env
        self._disabled = mode is AutoresetMode.DISABLED
        self._info_keys = info_keys
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.terminations = np.zeros(env.num_envs, dtype=np.bool_)
        self.truncations = np.zeros(env.num_envs, dtype=np.bool_)
        self.final_observations: dict[int, Any] = {}
        self.infos: dict[str, Any] = {}

    def reset(self) -> VecEnvObs:
        """Reset all environments, with the seed and the options set before, if any."""
        # Seeds are always consecutive (see ``VecEnv.seed``), as a vector environment's are when
        # it is given one integer.
        observations, infos = self.env.reset(seed=self._seeds[0], options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = self._rows(infos)
        return observations

    def set_options(self, options: list[dict] | dict | None = None) -> None:
        """Options for the next reset, the same for all environments."""
        if isinstance(options, list) and any(other != options[0] for other in options):
            raise InvalidValueError(
                "A vector environment takes the same options for all its environments, not "
                f"{options}."
            )
        super().set_options(options)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the step that ``step_wait`` makes."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Make the step; of an ended episode, the next one's first observation is returned."""
        observations, rewards, terminations, truncations, infos = self.env.step(self._actions)
        dones = terminations | truncations
        rows = self._rows(infos)
        self.terminations, self.truncations, self.infos = terminations, truncations, infos
        self.final_observations = {}
        if dones.any():
            ended = np.flatnonzero(dones).tolist()
            if self._disabled:
                self.final_observations = {i: _row(observations, i) for i in ended}
                observations, reset_infos = self.env.reset(options={"reset_mask": dones.copy()})
                reset_rows = self._rows(reset_infos)
            else:
                self.final_observations = {i: infos["final_obs"][i] for i in ended}
                # The infos are those of the reset; the last step's are in "final_info".
                reset_rows = [dict(row) for row in rows]
                final_rows = self._rows(infos.get("final_info", {}))
            for i in ended:
                self.reset_infos[i] = reset_rows[i]
                if not self._disabled:
                    rows[i].update(final_rows[i])
                rows[i]["terminal_observation"] = self.final_observations[i]
        for row, limited in zip(rows, (truncations & ~terminations).tolist(), strict=True):
            row["TimeLimit.truncated"] = limited
        return observations, rewards.astype(np.float32), dones, rows

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One picture per environment, if the render mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"The render mode is {self.render_mode}: construct the environment with "
                "render_mode='rgb_array' to obtain images.",
                stacklevel=2,
            )
            return [None] * self.num_envs
        frames: Any = self.env.render()
        return list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of sub-environments, or of the vector environment if it has none."""
        chosen = self._get_indices(indices)
        envs = self._sub_environments()
        if envs is not None:
            return [envs[i].get_wrapper_attr(attr_name) for i in chosen]
        if attr_name in ("observation_space", "action_space"):
            attr_name = f"single_{attr_name}"
        return [getattr(self.env, attr_name) for _ in chosen]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of sub-environments."""
        for env in self._chosen_environments(f"set {attr_name!r} of", indices):
            env.set_wrapper_attr(attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of sub-environments."""
        return [
            env.get_wrapper_attr(method_name)(*method_args, **method_kwargs)
            for env in self._chosen_environments(f"call {method_name!r} of", indices)
        ]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Whether environments are inside a wrapper, of one environment or of all."""
        layer: Any = self.env
        around_all = isinstance(layer, wrapper_class)
        while isinstance(layer, VectorWrapper):
            layer = layer.env
            around_all = around_all or isinstance(layer, wrapper_class)
        envs = self._sub_environments()
        return [
            around_all or (envs is not None and is_wrapped(envs[i], wrapper_class))
            for i in self._get_indices(indices)
        ]

    def _sub_environments(self) -> Sequence[gym.Env] | None:
        return getattr(self.env.unwrapped, "envs", None)

    def _chosen_environments(self, purpose: str, indices: VecEnvIndices) -> Iterable[gym.Env]:
        envs = self._sub_environments()
        if envs is None:
            raise InvalidValueError(
                f"There are no sub-environments to {purpose}: {self.env} steps all of them "
                "together. Use the vector environment itself, the adapter's attribute 'env'."
            )
        return [envs[i] for i in self._get_indices(indices)]

    def _rows(self, infos: dict[str, Any]) -> list[dict[str, Any]]:
        if self._info_keys is not None:
            names = {name for key in self._info_keys for name in (key, f"_{key}")}
            infos = {name: value for name, value in infos.items() if name in names}
        return _split(infos, self.num_envs)


def _split(infos: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Gymnasium's infos, an array and a mask per key, as one dictionary per environment."""
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for key, values in infos.items():
        if key.startswith("_") or key in ("final_obs", "final_info"):
            continue
        if isinstance(values, dict):
            values = _split(values, num_envs)
        mask = infos.get(f"_{key}")
        if mask is None or mask.all():
            for row, value in zip(rows, values, strict=True):
                row[key] = value
        else:
            for i in np.flatnonzero(mask):
                rows[i][key] = values[i]
    return rows


def _row(observations: Any, index: int) -> Any:
    if isinstance(observations, dict):
        return {key: _row(value, index) for key, value in observations.items()}
    return observations[index].copy()
