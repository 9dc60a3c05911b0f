"""Acting as a policy does, step by step, and what an episode of it earns."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv
from stable_baselines3.common.policies import BasePolicy

from skillrl.errors import InvalidValueError

Envs = VectorEnv[Any, Any, Any]


class Act(Protocol):
    """Acts in a batch of environments, step by step."""

    def __call__(self, observations: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        """Return what the environments are given, for observations and where episodes begin."""


# What a policy remembers, arrays ``(batch, …)``; None where it does not, or not yet.
Memory = tuple[np.ndarray, ...] | None


class Follower:
    """Acts as a policy does, which remembers from step to step if it can."""

    def __init__(self, policy: BasePolicy, deterministic: bool, memory: Memory) -> None:
        self.memory = memory
        self._policy = policy
        self._deterministic = deterministic

    def __call__(self, observations: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        """Return actions; see ``Act``."""
        _check_finite(observations)
        actions, self.memory = self._policy.predict(
            observations, self.memory, starts, self._deterministic
        )
        return actions


def follow(policy: BasePolicy, *, deterministic: bool = False, memory: Memory = None) -> Follower:
    """Act as the policy does, with what it remembers so far."""
    return Follower(policy, deterministic, memory)


def episode_limit(env: Envs) -> int | None:
    """Steps after which episodes are truncated; None where that is unknown or never."""
    limit, base = getattr(env, "max_episode_steps", None), env.unwrapped
    # Gymnasium's vector environment has the registered limit, also where it was made with another.
    spec = base.envs[0].spec if isinstance(base, SyncVectorEnv) else env.spec
    if limit is None and spec is not None:
        limit = spec.max_episode_steps
    return int(limit) if limit is not None and 0 < limit < np.inf else None


def episodes(
    env: Envs, policy: BasePolicy, seed: int, *, max_steps: int, deterministic: bool
) -> tuple[float, float]:
    """Run one episode in each environment from ordinary resets.

    Args:
        env: environments with SAME_STEP autoreset and a learned reward.
        policy: acts in them.
        seed: of the environments.
        max_steps: of an episode; what follows does not count.
        deterministic: whether the policy acts without noise.

    Returns:
        The mean learned reward per step, and the mean return of the environment's own task.
    """
    observations, _ = env.reset(seed=seed)
    act = follow(policy, deterministic=deterministic)
    running, starts = np.ones(env.num_envs, bool), np.ones(env.num_envs, bool)
    rewards, task_returns, steps = np.zeros(env.num_envs), np.zeros(env.num_envs), 0
    for _ in range(max_steps):
        observations, reward, terminations, truncations, infos = env.step(act(observations, starts))
        rewards += np.where(running, reward, 0.0)
        task_returns += np.where(running, infos["task_reward"], 0.0)
        steps += int(running.sum())
        starts = terminations | truncations
        running &= ~starts
        if not running.any():
            break
    return float(rewards.sum() / steps), float(task_returns.mean())


def _check_finite(observations: np.ndarray) -> None:
    if observations.dtype.kind == "f" and not np.isfinite(observations).all():
        index = int(np.argwhere(~np.isfinite(observations))[0, 0])
        raise InvalidValueError(
            f"The environment gave an observation that is not finite: {observations[index]}. Let "
            "its episodes terminate before it returns such an observation."
        )
