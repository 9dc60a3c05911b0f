"""The fastest vector environment for any id."""

import difflib
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, VectorEnv

from skillrl.envs.registration import MUJOCO_IDS, register_envs
from skillrl.errors import InvalidValueError


def make_vec(
    id: str,
    num_envs: int = 1,
    *,
    num_threads: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    **kwargs: Any,
) -> VectorEnv[Any, Any, Any]:
    """Make a vector environment, in the fastest implementation there is for ``id``.

    MuJoCo tasks (``"HalfCheetah-v5"`` as well as ``"skillrl/HalfCheetah-v5"``) come on batched
    physics, equal to Gymnasium's to the last bit; other environments as their registered
    ``vector_entry_point``, or in a :class:`gymnasium.vector.SyncVectorEnv`.

    Args:
        id: an id registered with Gymnasium; ``"package:Name-v0"`` imports ``package`` first.
        num_envs: number of environments.
        num_threads: threads that step, or None for one on each usable CPU; read by the batched
            MuJoCo tasks only.
        autoreset_mode: when environments whose episode has ended are reset.
        **kwargs: arguments of the environment, ``max_episode_steps`` and ``render_mode`` among
            them.

    Raises:
        InvalidValueError: if no such id is registered, or an argument cannot be used.

    Example:
        >>> envs = make_vec("HalfCheetah-v5", num_envs=2)
        >>> envs
        MujocoVectorEnv(skillrl/HalfCheetah-v5, num_envs=2)
        >>> make_vec("CartPole-v1", num_envs=2)
        SyncVectorEnv(CartPole-v1, num_envs=2)
    """
    register_envs()
    if id in MUJOCO_IDS:
        id = f"skillrl/{id}"
    spec = find_spec(id)
    if spec.id.removeprefix("skillrl/") in MUJOCO_IDS:
        kwargs["num_threads"] = num_threads
    if spec.vector_entry_point is not None:
        return gym.make_vec(spec, num_envs, autoreset_mode=autoreset_mode, **kwargs)
    return gym.make_vec(
        spec,
        num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": autoreset_mode},
        **kwargs,
    )


def find_spec(id: str) -> gym.envs.registration.EnvSpec:
    return gym.spec(id)
