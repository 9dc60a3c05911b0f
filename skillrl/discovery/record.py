"""What is known of a finished skill: the content of ``skill.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skillrl.discovery.descriptors import Descriptors
from skillrl.rewards import Separation


@dataclass(frozen=True)
class Record:
    """What a skill belongs to, how it was trained, and what it earns.

    Rewards are means per environment step over the recipe's evaluation episodes, from ordinary
    resets, each policy acting as the skill that it is (``BaseSkillPolicy.noiseless``).
    """

    index: int
    """The skill's number within its run, from 0."""
    env: str
    """Id of the environment."""
    env_kwargs: dict[str, Any]
    """Keyword arguments of the environment."""
    asked: str | None
    """What its reward asked for of what exploration reached: "all", "new cells", one of the "ways"
    or "lively ways", or a direction, such as "+8" for more of the observation's component 8; None
    where no exploration led to it."""
    parent: int | None
    """Number of the skill that it started from; None for the untrained policy."""
    steps: int
    """Environment steps of training, in all attempts."""
    seconds: float
    """Duration of all that led to the skill."""
    mean_reward: float
    """What the skill earns, in [0, target]."""
    target: float
    """What a perfect skill would earn."""
    previous_mean_reward: float
    """What the skill before it, or the one that it started from, earns on the same reward,
    whichever is more; of skills learnt together, the next one."""
    live: bool | None
    """Whether the skill earns a fifth of the target and twice `previous_mean_reward`; None of
    skills learnt together, whose rewards do not ask for anything new."""
    task_return: float | None
    """Mean return of the environment's own reward, which no skill was trained on; None where it is
    not finite."""
    fresh_reward: float | None
    """What the fresh policy earned before training, with its noise; None where the reward did not
    exist yet."""
    separation: Separation | None
    """How well the fitted reward told positives from negatives; None where none was fitted to
    them."""
    descriptors: Descriptors | None
    """What the body does; None where the environment has none that is known."""
    sample_steps: int = 0
    """Environment steps of the samples that led to its reward, in all attempts."""
