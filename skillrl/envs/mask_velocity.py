"""Environments whose velocities are hidden, so that an agent has to remember."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from skillrl.envs.make import make_single
from skillrl.envs.wrapping import TransparentVectorWrapper
from skillrl.errors import InvalidValueError

# Components that are velocities, of environments that do not say so themselves.
VELOCITIES: dict[str, tuple[int, ...]] = {
    "CartPole": (1, 3),
    "MountainCar": (1,),
    "MountainCarContinuous": (1,),
    "Pendulum": (2,),
    "Acrobot": (4, 5),
    "LunarLander": (2, 3, 5),
    "LunarLanderContinuous": (2, 3, 5),
    "InvertedDoublePendulum": (5, 6, 7),
    "Reacher": (6, 7),
    "Pusher": (7, 8, 9, 10, 11, 12, 13),
}


_VECTOR_ARGUMENTS = {
    *("num_envs", "num_threads", "autoreset_mode", "render_mode"),
    *("vectorization_mode", "vector_kwargs", "wrappers"),
}


def velocity_components(env_id: str, **arguments: Any) -> np.ndarray:
    """Return which components of an environment's observations are velocities.

    Args:
        env_id: of classic control, or of a MuJoCo task of Gymnasium (v5) or of this package.
        arguments: that the environment is made with.

    Raises:
        InvalidValueError: if it is not known.

    >>> velocity_components("CartPole-v1").tolist()
    [1, 3]
    >>> velocity_components("HalfCheetah-v5")[:3].tolist()
    [8, 9, 10]
    """
    full = env_id.rpartition(":")[2]
    name = full.removeprefix("skillrl/").rpartition("-v")[0] or full
    if name in VELOCITIES:
        return np.array(VELOCITIES[name])
    try:
        env = make_single(env_id, **arguments)
    except (gym.error.Error, InvalidValueError) as error:
        raise InvalidValueError(f"The velocities of {env_id!r} are not known: {error}") from None
    structure: dict[str, int] | None = getattr(env.unwrapped, "observation_structure", None)
    env.close()
    if structure is None or "qvel" not in structure:
        raise InvalidValueError(
            f"The velocities of {env_id!r} are not known: known are those of classic control and "
            "MuJoCo's v5; those of others are named with MaskVelocity(env, components=[...])."
        )
    found, begin = [], 0
    for part, size in structure.items():
        if part == "skipped_qpos":
            continue
        if part in ("qvel", "cvel", "ten_velocity"):
            found.append(begin + np.arange(size))
        begin += size
    return np.concatenate(found)


def _components(spec: Any, components: Any, space: spaces.Space[Any]) -> np.ndarray:
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise InvalidValueError(f"Velocities are components of a vector. Received {space}.")
    if components is None:
        if spec is None:
            raise InvalidValueError(
                "The environment has no id to know its velocities by: name them with "
                "components=[...]."
            )
        # Of a vector environment's arguments those that a single one has.
        arguments = {name: v for name, v in spec.kwargs.items() if name not in _VECTOR_ARGUMENTS}
        return velocity_components(spec.id, **arguments)
    found = np.asarray(components)
    if found.dtype == bool and found.shape == space.shape:
        found = np.flatnonzero(found)
    whole = found.dtype.kind in "iu" or found.size == 0
    if not whole or (found.size and not (found.min() >= 0 and found.max() < space.shape[0])):
        raise InvalidValueError(
            f"Observations have {space.shape[0]} components, numbered from 0. Received "
            f"{found.tolist()}."
        )
    return found.astype(np.int64)


class MaskVelocity(
    gym.ObservationWrapper[np.ndarray, Any, np.ndarray], gym.utils.RecordConstructorArgs
):
    """An environment whose observations have zeros in the place of velocities.

    Args:
        env: of classic control or MuJoCo (v5), or any other with ``components``.
        components: those that are hidden; None for the velocities.

    Raises:
        InvalidValueError: if the velocities are not known, or there is no such component.

    >>> env = MaskVelocity(gym.make("Pendulum-v1"))
    >>> float(env.reset(seed=0)[0][2])
    0.0
    """

    def __init__(self, env: gym.Env[Any, Any], components: Any = None) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, components=components)
        gym.ObservationWrapper.__init__(self, env)
        self._hidden = _components(env.spec, components, env.observation_space)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Return the observation without velocities."""
        observation = observation.copy()
        observation[self._hidden] = 0
        return observation


class MaskVelocityVectorWrapper(TransparentVectorWrapper):
    """The same for a vector environment, in any autoreset mode.

    Args:
        env: as for ``MaskVelocity``.
        components: as for ``MaskVelocity``.

    Raises:
        InvalidValueError: as ``MaskVelocity``.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], components: Any = None) -> None:
        super().__init__(env)
        self._hidden = _components(env.spec, components, env.single_observation_space)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the environments."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._masked(observations), infos

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environments; final observations are masked, too."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        if "final_obs" in infos:
            infos["final_obs"] = infos["final_obs"].copy()
            for index in np.flatnonzero(infos["_final_obs"]):
                infos["final_obs"][index] = self._masked(infos["final_obs"][index])
        return self._masked(observations), rewards, terminations, truncations, infos

    def _masked(self, observations: np.ndarray) -> np.ndarray:
        observations = observations.copy()
        observations[..., self._hidden] = 0
        return observations
