"""What all methods train with: environments, agent, and the loop over rollouts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from skillrl.agents import (
    RecurrentSkillPPO,
    RecurrentSkillSAC,
    SkillAgent,
    SkillPPO,
    SkillSAC,
)
from skillrl.agents.spaces import check_spaces
from skillrl.discovery.following import episode_limit
from skillrl.discovery.frontier import frontier_for
from skillrl.discovery.settings import Recipe
from skillrl.envs import (
    NeuralRewardVectorWrapper,
    RestartVectorWrapper,
    SB3VecEnv,
    make_vec,
    reward_for,
)
from skillrl.errors import InvalidValueError, RunStopped
from skillrl.rewards import NeuralReward

# Seconds between two checkpoints inside a skill.
CHECKPOINT_INTERVAL = 20.0


def train(
    agent: SkillAgent,
    until: int,
    save_checkpoint: Callable[[float], None],
    should_stop: Callable[[], bool],
) -> Iterator[float]:
    """Train until a number of time steps, with checkpoints, and a pause after each update.

    Args:
        agent: goes on from its present number of time steps.
        until: the number of time steps from which on no further rollout is begun.
        save_checkpoint: called now and then, and before training is stopped, with the seconds that
            training has taken so far.
        should_stop: asked before each rollout.

    Yields:
        The seconds that training has taken so far.

    Raises:
        RunStopped: if ``should_stop`` said so.
    """
    started = saved = time.monotonic()
    updates = agent.updates(until)
    while agent.num_timesteps < until:
        now = time.monotonic()
        stop = should_stop()
        if stop or now - saved > CHECKPOINT_INTERVAL:
            save_checkpoint(now - started)
            saved = now
        if stop:
            raise RunStopped("Stopped. The run can be resumed.")
        next(updates)
        yield time.monotonic() - started


@contextmanager
def own_torch_threads() -> Iterator[None]:
    """Leave torch the number of threads that it had before."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def device_for(recipe: Recipe, name: str) -> torch.device:
    """Return the device called ``name``.

    Raises:
        InvalidValueError: if there is none, or the recipe's method or agent is for the CPU alone.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidValueError(f"There is no device {name!r}: {error}") from None
    if device.type != "cpu" and (recipe.learnt_together or recipe.algorithm != "ppo"):
        raise InvalidValueError(
            f"{recipe.method} with {recipe.algorithm} runs on the CPU alone; another device is for "
            f"neural rewards with ppo. Received the device {name!r}."
        )
    return device


def check_environment(recipe: Recipe) -> None:
    """Refuse a recipe whose environment does not exist, fails, or cannot be learnt in."""
    env = make_envs(recipe, recipe.agent.num_envs, saves_states=recipe.restarts.share > 0)
    try:
        check_spaces(env.single_observation_space, env.single_action_space)
        space = env.single_observation_space
        frontier_for(recipe, reward_for(space))
        if recipe.learnt_together:
            real_vectors(space)
        if recipe.restarts.share > 0:
            RestartVectorWrapper(env, recipe.restarts.share)
        make_agent(recipe, env)
        try:
            env.reset(seed=0)
            env.action_space.seed(0)
            env.step(env.action_space.sample())
        except Exception as error:
            raise InvalidValueError(
                f"{recipe.env} with the arguments {recipe.env_kwargs} fails in its first step: "
                f"{type(error).__name__}: {error}"
            ) from error
    finally:
        env.close()


def real_vectors(space: spaces.Space[Any]) -> spaces.Box:
    """Return the space of observations, or refuse it if they are no vectors of real numbers."""
    if (
        isinstance(space, spaces.Box)
        and len(space.shape) == 1
        and np.issubdtype(space.dtype, np.floating)
    ):
        return space
    raise InvalidValueError(
        f"DIAYN and METRA are for observations that are vectors of real numbers. Received {space}. "
        "Choose another method."
    )


def make_envs(
    recipe: Recipe,
    num_envs: int,
    reward: NeuralReward | None = None,
    num_threads: int | None = None,
    saves_states: bool = False,
) -> VectorEnv[Any, Any, Any]:
    """Make ``num_envs`` of the recipe's environments, with a learned reward where one is given.

    ``saves_states`` asks for states that can be saved, where the environment leaves the choice.
    """
    env = make_vec(
        recipe.env,
        num_envs,
        num_threads=num_threads,
        autoreset_mode=AutoresetMode.SAME_STEP,
        saves_states=saves_states,
        **recipe.env_kwargs,
    )
    return env if reward is None else NeuralRewardVectorWrapper(env, reward)


def stagger_episodes(env: VectorEnv[Any, Any, Any], seed: int) -> None:
    """Cut the first episodes at random, so that from then on a rollout shows every part of one.

    In step with each other, all environments would show the same part of an episode, and the agent
    would unlearn the others: on HalfCheetah it forgot in 1,000 steps how to begin.
    """
    limit = episode_limit(env)
    if limit is None:
        return
    elapsed = np.random.default_rng(seed).integers(limit, size=env.num_envs)
    if hasattr(env, "set_elapsed_steps"):
        env.set_elapsed_steps(elapsed)
    elif hasattr(env, "get_state"):
        env.set_state({**env.get_state(), "elapsed_steps": elapsed})  # type: ignore[attr-defined]
    elif isinstance(env.unwrapped, SyncVectorEnv):
        # Each environment's TimeLimit, which has no other way to begin late.
        env.unwrapped.set_attr("_elapsed_steps", elapsed.tolist())


def make_agent(
    recipe: Recipe, env: VectorEnv[Any, Any, Any], device: torch.device | str = "cpu"
) -> SkillAgent:
    """Make the recipe's agent for an environment with a learned reward, on a device."""
    settings, memory, replay = recipe.agent, recipe.memory, recipe.replay
    vec_env = SB3VecEnv(env, info_keys=())
    policy: dict[str, Any] = {"hidden": settings.hidden, "activation": settings.activation}
    common: dict[str, Any] = {
        "learning_rate": settings.learning_rate,
        "gamma": settings.gamma,
        "reward_scale": settings.reward_scale,
        "policy_kwargs": policy,
        "device": device,
    }
    if recipe.algorithm in ("recurrent-ppo", "recurrent-sac"):
        policy |= {name: getattr(memory, name) for name in ("cell", "state_size", "encoder")}
        common["chunk"] = memory.chunk
    if recipe.algorithm in ("ppo", "recurrent-ppo"):
        common |= {
            "n_steps": settings.n_steps,
            "batch_size": settings.batch_size,
            "n_epochs": settings.n_epochs,
            "gae_lambda": settings.gae_lambda,
            "clip_range": settings.clip_range,
            "ent_coef": settings.ent_coef,
            "vf_coef": settings.vf_coef,
            "max_grad_norm": settings.max_grad_norm,
        }
        if recipe.algorithm == "recurrent-ppo":
            return RecurrentSkillPPO("SkillPolicy", vec_env, **common)
        policy["hidden_learning_rate"] = settings.hidden_learning_rate
        rewarded = settings.ent_coef_rewarded
        return SkillPPO("SkillPolicy", vec_env, ent_coef_rewarded=rewarded, **common)
    common |= {
        "buffer_size": replay.buffer_size,
        "learning_starts": replay.learning_starts,
        "tau": replay.tau,
        "train_freq": (settings.n_steps, "step"),
        "gradient_steps": replay.gradient_steps,
    }
    if recipe.algorithm == "sac":
        return SkillSAC("SkillPolicy", vec_env, batch_size=settings.batch_size, **common)
    sequences = max(1, settings.batch_size // memory.chunk)
    return RecurrentSkillSAC(
        "SkillPolicy", vec_env, batch_size=sequences, burn_in=memory.burn_in, **common
    )
