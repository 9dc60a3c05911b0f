"""What a discovery run tells its audience; the command line draws its progress from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skillrl.discovery.library import Skill
from skillrl.rewards import Separation


@dataclass(frozen=True)
class RewardFitted:
    """A new reward was fitted; training of its skill begins."""

    generation: int
    """The skill's number, from 0."""
    separation: Separation
    """How well the reward tells positives from negatives; ``clear`` says whether well enough."""
    fresh_reward: float
    """Mean reward per step that the fresh policy meets before training."""


@dataclass(frozen=True)
class Trained:
    """The agent finished a rollout and is about to learn from it."""

    generation: int
    """The skill's number, from 0."""
    steps: int
    """Environment steps of this skill so far."""
    mean_reward: float
    """Mean reward per step of the rollout."""


@dataclass(frozen=True)
class SkillFinished:
    """A skill was evaluated and saved."""

    skill: Skill


Event = RewardFitted | Trained | SkillFinished
OnEvent = Callable[[Event], None]
