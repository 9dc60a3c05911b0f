"""How far the training of a skill is, and when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from skillrl.discovery.evaluation import LIVE_SHARE
from skillrl.discovery.settings import Recipe
from skillrl.rewards import Separation

# Training has converged if its reward grew by less than this share of the target.
CONVERGED = 0.02
# A reward is untouched if after this share of a skill's steps no rollout has earned more than this
# share of the target.
UNTOUCHED_AFTER, UNTOUCHED = 0.2, 0.02


@dataclass
class Progress:
    """What a checkpoint tells of a skill in training, besides the agent itself."""

    generation: int
    """The skill's number."""
    first_step: int
    """Time steps of the run when training on the present reward began."""
    attempt: int = 0
    """Rewards that were given up for this skill."""
    skipped_steps: int = 0
    """Environment steps that were trained on them."""
    sample_steps: int = 0
    """Environment steps of the samples, theirs included."""
    steps: int = 0
    """Time steps of the run at the checkpoint."""
    seconds: float = 0.0
    """Duration of all that was done for this skill."""
    parent: int | None = None
    """Number of the skill that this one starts from; -1 for the untrained policy, None where it is
    yet to be chosen."""
    asked: str = ""
    """What the reward asks for."""
    parent_lasts: int | None = None
    """Steps that the longest tenth of the parent's episodes reach; None where it was not seen."""
    given_up: tuple[str, ...] = ()
    """What rewards that were given up for this skill asked for."""
    fresh_reward: float = 0.0
    """What the agent earned before training."""
    separation: Separation | None = None
    """Of the fitted reward."""
    rewards: tuple[float, ...] = ()
    """Mean reward of each rollout."""
    ending_from: int | None = None
    """Steps of training after which it had converged."""
    extensions: int = 0
    """How often training went on because too little was earned."""


def converged(recipe: Recipe, progress: Progress, steps: int) -> bool:
    """Whether the skill is live by its training reward and has stopped to improve.

    Args:
        recipe: of the run.
        progress: of the skill.
        steps: of training on the present reward.
    """
    rollout = recipe.agent.num_envs * recipe.agent.n_steps
    window = math.ceil(recipe.patience * recipe.steps_per_skill / rollout)
    # Only what was earned without help counts.
    own = steps - _alone_from(recipe, progress)
    rewards = progress.rewards[-2 * window :]
    if recipe.patience == 0 or own < 2 * window * rollout or len(rewards) < 2 * window:
        return False
    before, now = np.mean(rewards[:window]), np.mean(rewards[window:])
    target = recipe.reward.target
    return bool(now >= LIVE_SHARE * target and now - before < CONVERGED * target)


def helped_until(recipe: Recipe, progress: Progress, share: float) -> int:
    """Return the steps until which episodes begin where the parent leads.

    Args:
        recipe: of the run.
        progress: of the skill.
        share: of the training, and of each extension, which is for who did not come far without.
    """
    if progress.extensions == 0:
        return math.ceil(share * recipe.steps_per_skill)
    before = recipe.steps_per_skill + (progress.extensions - 1) * recipe.extension
    return before + math.ceil(share * recipe.extension)


def _alone_from(recipe: Recipe, progress: Progress) -> int:
    """Return the steps from which on all episodes begin without the help of guide or restarts."""
    guide, restarts = recipe.guide, recipe.restarts
    shares = [guide.until] * (guide.max_steps > 0) + [restarts.until] * (restarts.share > 0)
    return max((helped_until(recipe, progress, share) for share in shares), default=0)


def ending(recipe: Recipe, progress: Progress) -> tuple[int, int]:
    """Return the steps after which the agent's noise begins to shrink, and its training ends."""
    steps = recipe.steps_per_skill + progress.extensions * recipe.extension
    rest = recipe.steps_per_skill - int(recipe.agent.anneal_from * recipe.steps_per_skill)
    latest = steps - rest
    begin = latest if progress.ending_from is None else min(progress.ending_from, latest)
    return begin, begin + rest


def too_little(recipe: Recipe, progress: Progress) -> bool:
    """Whether training that would end now is to go on, because too little, yet some, is earned."""
    rollout, rollouts = recipe.agent.num_envs * recipe.agent.n_steps, len(progress.rewards)
    alone = rollouts - _alone_from(recipe, progress) / rollout
    # The last tenth, but only of the last half of what was trained without help: in the first half
    # go on the episodes that were begun with it.
    last = progress.rewards[-max(1, math.ceil(min(rollouts / 10, alone / 2))) :]
    return (
        progress.extensions < recipe.extensions
        and progress.ending_from is None
        and max(progress.rewards) >= UNTOUCHED * recipe.reward.target
        and float(np.mean(last)) < recipe.extend_below * recipe.reward.target
    )


def may_try_again(recipe: Recipe, progress: Progress) -> bool:
    """Whether the present reward can still be given up for another one."""
    return progress.attempt < recipe.attempts - 1


def untouched(recipe: Recipe, progress: Progress, steps: int) -> bool:
    """Whether the reward is still not met, and another one can be tried."""
    if steps < UNTOUCHED_AFTER * recipe.steps_per_skill or not may_try_again(recipe, progress):
        return False
    return max(progress.rewards) < UNTOUCHED * recipe.reward.target
