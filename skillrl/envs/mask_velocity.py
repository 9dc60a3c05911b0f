"""Environments whose velocities are hidden, so that an agent has to remember."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

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
}


def velocity_components(env_id: str) -> np.ndarray:
    """Return which components of an environment's observations are velocities.

    Args:
        env_id: of classic control, or of a MuJoCo task of Gymnasium (v5) or of this package.

    Raises:
        InvalidValueError: if it is not known.

    >>> velocity_components("CartPole-v1").tolist()
    [1, 3]
    >>> velocity_components("HalfCheetah-v5")[:3].tolist()
    [8, 9, 10]
    """
    name = env_id.rpartition("/")[2].rpartition(":")[2]
    if name.rpartition("-v")[0] in VELOCITIES:
        return np.array(VELOCITIES[name.rpartition("-v")[0]])
    try:
        env = gym.make(name)
    except gym.error.Error as error:
        raise InvalidValueError(f"The velocities of {env_id!r} are not known: {error}") from None
    structure: dict[str, int] | None = getattr(env.unwrapped, "observation_structure", None)
    env.close()
    if structure is None or "qvel" not in structure:
        raise InvalidValueError(
            f"The velocities of {env_id!r} are not known: name them with components=[...]."
        )
    return structure["qpos"] + np.arange(structure["qvel"])


def _components(env_id: str | None, components: Any, space: spaces.Space[Any]) -> np.ndarray:
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise InvalidValueError(f"Velocities are components of a vector. Received {space}.")
    if components is None:
        if env_id is None:
            raise InvalidValueError(
                "The environment has no id to know its velocities by: name them with "
                "components=[...]."
            )
        components = velocity_components(env_id)
    found = np.asarray(components, np.int64)
    if found.size and not (found.min() >= 0 and found.max() < space.shape[0]):
        raise InvalidValueError(
            f"Observations have {space.shape[0]} components, numbered from 0. Received "
            f"{found.tolist()}."
        )
    return found


class MaskVelocity(gym.ObservationWrapper[np.ndarray, Any, np.ndarray]):
    """An environment whose observations have zeros in the place of velocities.

    Args:
        env: of classic control or MuJoCo, or any other with ``components``.
        components: those that are hidden; None for the velocities.

    Raises:
        InvalidValueError: if the velocities are not known, or there is no such component.

    >>> env = MaskVelocity(gym.make("Pendulum-v1"))
    >>> float(env.reset(seed=0)[0][2])
    0.0
    """

    def __init__(self, env: gym.Env[Any, Any], components: Any = None) -> None:
        super().__init__(env)
        env_id = None if env.spec is None else env.spec.id
        self._hidden = _components(env_id, components, env.observation_space)

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
        env_id = None if env.spec is None else env.spec.id
        self._hidden = _components(env_id, components, env.single_observation_space)

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
