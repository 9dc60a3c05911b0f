"""What a discovery run tells its audience; the command line draws its progress from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skillrl.discovery.library import Skill
from skillrl.discovery.memory import Memory
from skillrl.rewards import Separation


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on."""

    memory: Memory
    """What its observations will take at most."""


@dataclass(frozen=True)
class Preparing:
    """Samples of a skill are gathered, or its reward is fitted, which takes minutes from pixels."""

    generation: int
    """The skill's number, from 0."""
    what: str
    """In words."""


@dataclass(frozen=True)
class RewardFitted:
    """A new reward was fitted; training of its skill begins."""

    generation: int
    """The skill's number, from 0."""
    separation: Separation | None
    """How well the reward tells positives from negatives; ``clear`` says whether well enough. None
    of a reward that was drawn at random."""
    fresh_reward: float
    """Mean reward per step that the fresh policy meets before training."""
    attempt: int = 0
    """Rewards that were given up before it for this skill, because it did not become live."""


@dataclass(frozen=True)
class Trained:
    """The agent learnt from a rollout."""

    generation: int | None
    """The skill's number, from 0; None where all skills are learnt together."""
    steps: int
    """Environment steps of this skill, or of all together, so far."""
    mean_reward: float
    """Mean reward per step of the rollout."""


@dataclass(frozen=True)
class SkillFinished:
    """A skill was evaluated and saved."""

    skill: Skill


Event = RunStarted | Preparing | RewardFitted | Trained | SkillFinished
OnEvent = Callable[[Event], None]
