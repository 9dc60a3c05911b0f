"""What a recipe describes: environments, and an agent that learns in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize
from torch import nn

from skillrl.agents.arguments import check_known, parameters_of
from skillrl.agents.base_recurrent_policy import BaseRecurrentPolicy
from skillrl.agents.recipes import OFF_POLICY, AgentName, TrainRecipe
from skillrl.agents.recurrence import check_policy
from skillrl.agents.recurrent_ppo import RecurrentPPO
from skillrl.agents.recurrent_sac import RecurrentSAC
from skillrl.agents.sequence_replay import check_memory, transition_bytes
from skillrl.agents.skill_ppo import SkillPPO
from skillrl.agents.spaces import SMALLEST_IMAGE
from skillrl.envs import (
    MaskVelocityVectorWrapper,
    PreviousActionRewardVectorWrapper,
    SB3VecEnv,
    make_vec,
)
from skillrl.errors import InvalidValueError

AGENTS: dict[AgentName, type[BaseAlgorithm]] = {
    "recurrent-ppo": RecurrentPPO,
    "recurrent-sac": RecurrentSAC,
    "ppo": PPO,
    "sac": SAC,
    "skill-ppo": SkillPPO,
}

# What the constructors take and a recipe says in another place, or a training decides.
_DECIDED = {
    *("policy", "env", "seed", "policy_kwargs", "verbose", "tensorboard_log"),
    *("stats_window_size", "_init_setup_model"),
}
_DECIDED_OF_POLICIES = {"observation_space", "action_space", "lr_schedule"}


def make_envs(recipe: TrainRecipe, num_envs: int) -> VecEnv:
    """Make environments for agents of Stable-Baselines3.

    Raises:
        InvalidValueError: if there is no such environment, or an argument cannot be used.
    """
    envs = make_vec(
        recipe.env, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **recipe.env_kwargs
    )
    if recipe.mask_velocity:
        envs = MaskVelocityVectorWrapper(envs)
    if recipe.previous_action_reward:
        envs = PreviousActionRewardVectorWrapper(envs)
    vec_env: VecEnv = VecMonitor(SB3VecEnv(envs, info_keys=()))
    if not recipe.normalize:
        return vec_env
    space = vec_env.observation_space
    gamma = recipe.agent_kwargs.get("gamma", 0.99)
    if isinstance(space, spaces.Dict):
        keys = [key for key, part in space.spaces.items() if _is_real_vector(part)]
        return VecNormalize(vec_env, norm_obs=bool(keys), norm_obs_keys=keys or None, gamma=gamma)
    return VecNormalize(vec_env, norm_obs=_is_real_vector(space), gamma=gamma)


def _is_real_vector(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)


def make_agent(recipe: TrainRecipe, env: VecEnv, seed: int) -> BaseAlgorithm:
    """Make a recipe's agent.

    Raises:
        InvalidValueError: if the spaces or an argument do not suit it.
    """
    kind = AGENTS[recipe.agent]
    if recipe.agent in OFF_POLICY and not isinstance(env.action_space, spaces.Box):
        raise InvalidValueError(
            f"{recipe.agent} is for continuous actions, a Box. {recipe.env} has "
            f"{env.action_space}: choose ppo or recurrent-ppo."
        )
    if recipe.agent == "ppo" and np.any(getattr(env.action_space, "start", 0)):
        raise InvalidValueError(
            f"ppo chooses actions that are numbered from 0. {recipe.env} has {env.action_space}: "
            "choose skill-ppo."
        )
    name = policy_for(recipe.agent, env.observation_space)
    policy = kind.policy_aliases[name]
    _check_known(recipe.agent_kwargs, kind, _DECIDED, f"the agent {recipe.agent}", "agent_kwargs")
    if issubclass(policy, BaseRecurrentPolicy):  # says which arguments are those of the cell
        check_policy(name, kind.policy_aliases, env.observation_space, recipe.policy_kwargs)
    _check_known(
        recipe.policy_kwargs, policy, _DECIDED_OF_POLICIES, f"the policy {name}", "policy_kwargs"
    )
    arguments = {"device": "cpu", **recipe.agent_kwargs}
    if isinstance(arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(arguments["train_freq"])  # JSON has no tuples
    try:
        if recipe.agent == "sac":
            _check_replay_memory(env, **recipe.agent_kwargs)
        return kind(
            name,
            env,
            seed=seed,
            policy_kwargs=_with_activation(recipe.policy_kwargs),
            **arguments,
        )
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as e:
        if isinstance(e, InvalidValueError):
            raise
        reason = " ".join(str(e).split())
        raise InvalidValueError(
            f"{recipe.agent} cannot be made for {recipe.env} with the arguments "
            f"{recipe.agent_kwargs} and the policy's {recipe.policy_kwargs}: {reason}"
        ) from e


def _check_replay_memory(
    env: VecEnv, buffer_size: int = 1_000_000, optimize_memory_usage: bool = False, **_: Any
) -> None:
    """Refuse a replay buffer of Stable-Baselines3's SAC, whose defaults these are."""
    observations = 1 if optimize_memory_usage else 2
    each = transition_bytes(env.observation_space, env.action_space, observations)
    check_memory(buffer_size * each, buffer_size)


def policy_for(agent: AgentName, space: spaces.Space[Any]) -> str:
    """Return the name of the policy that suits an observation space.

    >>> policy_for("recurrent-sac", spaces.Box(-1, 1, (3,)))
    'MlpLruPolicy'
    >>> policy_for("ppo", spaces.Box(0, 255, (64, 64, 3), np.uint8))
    'CnnPolicy'
    """
    if agent == "skill-ppo":
        return "SkillPolicy"
    if isinstance(space, spaces.Dict):
        kind = "MultiInput"
    elif is_image_space(space):
        shape = space.shape[1:] if is_image_space_channels_first(space) else space.shape[:2]  # type: ignore[index, arg-type]
        # Smaller ones are too small for the convolutions.
        kind = "Cnn" if min(shape) >= SMALLEST_IMAGE else "Mlp"
    else:
        kind = "Mlp"
    return f"{kind}{'Lru' if agent.startswith('recurrent') else ''}Policy"


def _check_known(
    arguments: Mapping[str, Any], cls: type, decided: set[str], what: str, option: str
) -> None:
    """Refuse arguments that the constructor does not know, or that are not for it to decide."""
    for name in arguments:
        if name in decided:
            raise InvalidValueError(
                f"{option} takes no {name!r}: it is set by another option, or by the training."
            )
    check_known(arguments, parameters_of(cls) - decided, what, option)


def _with_activation(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Policy arguments with the activation function itself in the place of its name."""
    found = dict(arguments)
    if "activation_fn" in found:
        kind = getattr(nn, str(found["activation_fn"]), None)
        if not (isinstance(kind, type) and kind.__module__ == "torch.nn.modules.activation"):
            raise InvalidValueError(
                "activation_fn should be the name of an activation function of torch.nn, such as "
                f"'ReLU', 'Tanh' or 'SiLU'. Received {found['activation_fn']!r}."
            )
        found["activation_fn"] = kind
    return found
