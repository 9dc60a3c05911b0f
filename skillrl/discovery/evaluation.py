"""What a finished skill earns and does, from ordinary resets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from skillrl.agents import BaseSkillPolicy
from skillrl.discovery.descriptors import describe
from skillrl.discovery.following import episodes
from skillrl.discovery.record import Record
from skillrl.discovery.settings import Recipe
from skillrl.discovery.training import make_envs
from skillrl.randomness import drawn_aside
from skillrl.rewards import NeuralReward, Separation

# A skill is live if it earns this share of the target and this multiple of what others earn.
LIVE_SHARE, LIVE_RATIO = 0.2, 2.0


class Evaluation:
    """Evaluates policies on a reward, and draws no random numbers that training would have drawn.

    Args:
        recipe: of the run.
        reward: a network that may go on changing.
        num_threads: threads that step environments, or None for one on each usable CPU.
    """

    def __init__(self, recipe: Recipe, reward: NeuralReward, num_threads: int | None) -> None:
        self.recipe = recipe
        self.reward = reward
        self.env = make_envs(recipe, recipe.evaluation_episodes, reward, num_threads)

    def rewards(
        self, policy: BaseSkillPolicy, seed: int, *, noise: bool = False
    ) -> tuple[float, float]:
        """Return the mean reward per step, and the mean return of the environment's own reward.

        Args:
            policy: acts as the skill that it is; see ``BaseSkillPolicy.noiseless``.
            seed: of the resets.
            noise: whether it acts with all its noise, as in training.
        """
        with drawn_aside(seed, policy.device):
            return episodes(
                *(self.env, policy, seed),
                max_steps=self.recipe.evaluation_steps,
                deterministic=policy.noiseless and not noise,
            )

    def record(
        self,
        index: int,
        policy: BaseSkillPolicy,
        others: Sequence[BaseSkillPolicy],
        seed: int,
        *,
        asked: str | None = None,
        parent: int | None = None,
        steps: int,
        seconds: float,
        fresh_reward: float | None = None,
        separation: Separation | None = None,
        sample_steps: int = 0,
    ) -> Record:
        """Evaluate a skill beside others, and return all that is known of it.

        Args:
            index: the skill's number.
            policy: the skill's.
            others: policies that should earn less on the skill's reward.
            seed: of the resets.
            asked: see ``Record``.
            parent: see ``Record``.
            steps: of training.
            seconds: of all that led to the skill.
            fresh_reward: before training.
            separation: of the fit.
            sample_steps: see ``Record``.
        """
        recipe, target = self.recipe, self.reward.target
        mean_reward, task_return = self.rewards(policy, seed)
        others_reward = max(self.rewards(other, seed)[0] for other in others)
        live = mean_reward >= LIVE_SHARE * target and mean_reward >= LIVE_RATIO * others_reward
        return Record(
            index=index,
            env=recipe.env,
            env_kwargs=recipe.env_kwargs,
            asked=asked,
            parent=parent,
            steps=steps,
            seconds=round(seconds, 1),
            mean_reward=mean_reward,
            target=target,
            previous_mean_reward=others_reward,
            live=None if recipe.learnt_together else live,
            task_return=task_return if math.isfinite(task_return) else None,
            fresh_reward=fresh_reward,
            separation=separation,
            descriptors=describe(
                *(policy, recipe.env, recipe.env_kwargs),
                episodes=recipe.evaluation_episodes,
                steps=recipe.evaluation_steps,
                seed=seed,
            ),
            sample_steps=sample_steps,
        )

    def close(self) -> None:
        """Close the environments."""
        self.env.close()
