"""What skills are worth for the environment's own task, on which none was trained."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from skillrl.discovery.following import episodes
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.training import make_agent, make_envs, own_torch_threads, stagger_episodes
from skillrl.envs import NeuralRewardVectorWrapper
from skillrl.errors import InvalidValueError
from skillrl.randomness import drawn_aside


@dataclass(frozen=True)
class Match:
    """How long an agent that is trained on the task takes to earn what the best skill does."""

    skill: int
    """Number of the skill with the highest return of the environment's own reward."""
    task_return: float
    """Its return, from ordinary resets."""
    steps: int | None
    """Environment steps after which the agent's return first is as high, acting as a finished skill
    does; None if it never was."""
    curve: list[tuple[int, float]]
    """The agent's returns, by its environment steps."""


def steps_to_match(
    library: SkillLibrary,
    *,
    at_most: int = 1_000_000,
    every: int = 50_000,
    seed: int = 0,
    num_threads: int | None = None,
) -> Match:
    """Train PPO on the environment's own reward until it earns what the best skill does.

    The agent is the one that the skills were trained with. Source of the measure: Meier & Mujika
    2022 (arXiv 2202.08266).

    Args:
        library: a run with at least one skill whose return is known.
        at_most: environment steps after which training is given up.
        every: environment steps between two evaluations.
        seed: of everything random.
        num_threads: threads that step environments, or None for one on each usable CPU.

    Raises:
        InvalidValueError: if no skill's return is known.
    """
    recipe = library.recipe
    returns = {
        skill.index: skill.record.task_return
        for skill in library
        if skill.record.task_return is not None
    }
    if not returns:
        raise InvalidValueError(f"{library.path} has no skill whose return of the task is known.")
    best = max(returns, key=lambda index: returns[index])
    with own_torch_threads():
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        envs = make_envs(recipe, recipe.agent.num_envs, num_threads=num_threads)
        # The learnt reward is not looked at: the returns are those of the task.
        judged = NeuralRewardVectorWrapper(
            make_envs(recipe, recipe.evaluation_episodes, num_threads=num_threads),
            lambda observations: np.zeros(len(observations)),
        )
        curve: list[tuple[int, float]] = []
        matched = None
        with closing(envs), closing(judged):
            agent = make_agent(recipe, envs)
            agent.start_from_reset(seed)
            stagger_episodes(envs, seed)
            for _ in agent.updates(at_most):
                last = curve[-1][0] if curve else 0
                if agent.num_timesteps - last < every and agent.num_timesteps < at_most:
                    continue
                with drawn_aside(seed + 1_000):
                    _, earned = episodes(
                        *(judged, agent.policy, seed + 1_000),
                        max_steps=recipe.evaluation_steps,
                        deterministic=agent.policy.noiseless,
                    )
                curve.append((agent.num_timesteps, earned))
                if earned >= returns[best]:
                    matched = agent.num_timesteps
                    break
    return Match(best, returns[best], matched, curve)
