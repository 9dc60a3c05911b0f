"""Environments: wrappers with learned rewards, batched physics, Atari, mazes, adapters."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skillrl.envs.atari import AtariEnv, AtariVectorEnv
    from skillrl.envs.make import make_vec
    from skillrl.envs.mask_velocity import MaskVelocity, MaskVelocityVectorWrapper
    from skillrl.envs.maze import MazeEnv, MazeVectorEnv
    from skillrl.envs.mujoco import MujocoVectorEnv
    from skillrl.envs.neural_reward import NeuralRewardVectorWrapper, NeuralRewardWrapper
    from skillrl.envs.previous_action_reward import (
        PreviousActionReward,
        PreviousActionRewardVectorWrapper,
    )
    from skillrl.envs.restarts import RestartVectorWrapper
    from skillrl.envs.sb3 import SB3VecEnv
    from skillrl.envs.skill_actions import SkillActionWrapper
    from skillrl.envs.skill_conditioned import SkillConditionedVectorWrapper
    from skillrl.envs.spaces import reward_for

# Imported when first used: MuJoCo, torch and Stable-Baselines3 take seconds to load.
_MODULES = {
    "AtariEnv": "atari",
    "AtariVectorEnv": "atari",
    "MaskVelocity": "mask_velocity",
    "MaskVelocityVectorWrapper": "mask_velocity",
    "MazeEnv": "maze",
    "MazeVectorEnv": "maze",
    "MujocoVectorEnv": "mujoco",
    "NeuralRewardVectorWrapper": "neural_reward",
    "NeuralRewardWrapper": "neural_reward",
    "PreviousActionReward": "previous_action_reward",
    "PreviousActionRewardVectorWrapper": "previous_action_reward",
    "RestartVectorWrapper": "restarts",
    "SB3VecEnv": "sb3",
    "SkillActionWrapper": "skill_actions",
    "SkillConditionedVectorWrapper": "skill_conditioned",
    "make_vec": "make",
    "reward_for": "spaces",
}

__all__ = [
    "AtariEnv",
    "AtariVectorEnv",
    "MaskVelocity",
    "MaskVelocityVectorWrapper",
    "MazeEnv",
    "MazeVectorEnv",
    "MujocoVectorEnv",
    "NeuralRewardVectorWrapper",
    "NeuralRewardWrapper",
    "PreviousActionReward",
    "PreviousActionRewardVectorWrapper",
    "RestartVectorWrapper",
    "SB3VecEnv",
    "SkillActionWrapper",
    "SkillConditionedVectorWrapper",
    "make_vec",
    "reward_for",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
