"""Observations that a reward is fitted to: what a skill does, and what lies just beyond it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from skillrl.agents import SkillPolicy
from skillrl.discovery.recipes import SampleRecipe

# Observations of a batch of environments to the actions that they are given.
Act = Callable[[np.ndarray], np.ndarray]


def follow(policy: SkillPolicy, *, deterministic: bool = False) -> Act:
    """Act as the policy does."""
    return lambda observations: policy.predict(observations, deterministic=deterministic)[0]


def explore(policy: SkillPolicy, recipe: SampleRecipe, space: spaces.Space[Any]) -> Act:
    """Act with much more noise than the policy: its own noise scaled up, or at random."""
    if recipe.exploration == "uniform":
        # Seeded from torch's generator, the one source of randomness of a run.
        space.seed(int(torch.randint(2**31, ())))
        return lambda observations: np.stack([space.sample() for _ in observations])

    def act(observations: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            tensor, _ = policy.obs_to_tensor(observations)
            return policy.environment_actions(
                policy.explore(tensor.float(), recipe.exploration_std)
            )

    return act


def gather_negatives(
    env: VectorEnv[Any, Any, Any], policy: SkillPolicy, recipe: SampleRecipe, seed: int
) -> np.ndarray:
    """Return observations ``(n, *shape)`` visited by ``policy``, from ordinary resets.

    Args:
        env: ``recipe.num_envs`` environments with SAME_STEP autoreset.
        policy: the finished skill's.
        recipe: ``negative_steps`` steps are taken in every environment.
        seed: of the environments.
    """
    observations, _ = env.reset(seed=seed)
    act = follow(policy)
    visited = [observations]
    for _ in range(recipe.negative_steps):
        observations, _, _, _, infos = env.step(act(observations))
        visited.append(_final_observations(observations, infos))
    return np.concatenate(visited)


def gather_positives(
    env: VectorEnv[Any, Any, Any], policy: SkillPolicy, recipe: SampleRecipe, seed: int
) -> np.ndarray:
    """Return observations ``(n, *shape)`` reached by exploring from where ``policy`` leads.

    The policy acts for ``negative_steps``, exploration follows for ``positive_steps``, until the
    episode ends. Arguments are those of ``gather_negatives``.
    """
    reached = []
    for repeat in range(recipe.positive_repeats):
        observations, _ = env.reset(seed=seed + repeat * env.num_envs)
        act = follow(policy)
        for _ in range(recipe.negative_steps):
            observations, *_ = env.step(act(observations))
        act = explore(policy, recipe, env.single_action_space)
        alive = np.ones(env.num_envs, bool)
        for _ in range(recipe.positive_steps):
            observations, _, terminations, truncations, _ = env.step(act(observations))
            alive &= ~(terminations | truncations)
            reached.append(observations[alive])
    return np.concatenate(reached)


def episodes(
    env: VectorEnv[Any, Any, Any], policy: SkillPolicy, seed: int, *, deterministic: bool
) -> tuple[float, float]:
    """Run one episode in each environment from ordinary resets.

    Args:
        env: environments with SAME_STEP autoreset and a learned reward.
        policy: acts in them.
        seed: of the environments.
        deterministic: whether the policy acts without noise.

    Returns:
        The mean learned reward per step, and the mean return of the environment's own task.
    """
    observations, _ = env.reset(seed=seed)
    act = follow(policy, deterministic=deterministic)
    running = np.ones(env.num_envs, bool)
    rewards, task_returns, steps = np.zeros(env.num_envs), np.zeros(env.num_envs), 0
    while running.any():
        observations, reward, terminations, truncations, infos = env.step(act(observations))
        rewards += np.where(running, reward, 0.0)
        task_returns += np.where(running, infos["task_reward"], 0.0)
        steps += int(running.sum())
        running &= ~(terminations | truncations)
    return float(rewards.sum() / steps), float(task_returns.mean())


def _final_observations(observations: np.ndarray, infos: dict[str, Any]) -> np.ndarray:
    """Replace what a reset showed by what the episode ended with."""
    if "final_obs" not in infos:
        return observations
    ended = infos["_final_obs"]
    observations = observations.copy()
    observations[ended] = np.stack(list(infos["final_obs"][ended]))
    return observations
