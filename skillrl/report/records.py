"""What ``skill.json`` says of a finished skill, checked field by field."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from skillrl.discovery.library import Skill
from skillrl.errors import DamagedFileError

# JSON may hold 2.0 as 2; and a bool, which Python counts among the integers, is no number.
_TYPES: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float)}
_KINDS = {bool: "true or false", int: "a whole number", float: "a finite number"}


@dataclass(frozen=True)
class Record:
    """How a skill was trained and what it does."""

    live: bool
    """Whether it earns a fifth of the target, and twice what the previous policy earns."""
    mean_reward: float
    """Mean reward per step."""
    target: float
    """Reward per step of a perfect skill."""
    previous_mean_reward: float
    """What the skill before it earns on the same reward."""
    task_return: float
    """Mean return of the environment's own reward, which no skill was trained on."""
    steps: int
    """Environment steps of training."""
    seconds: float
    """Duration of training."""


def read_record(skill: Skill) -> Record:
    """Return what is known of ``skill``.

    Raises:
        DamagedFileError: if a field of ``skill.json`` is missing or not of its type.
    """
    values: dict[str, Any] = {}
    types = get_type_hints(Record)
    for name in (field.name for field in fields(Record)):
        value: Any = skill.record.get(name)
        kind = types[name]
        if type(value) not in _TYPES[kind] or not math.isfinite(value):
            raise DamagedFileError(
                f"{skill.path / 'skill.json'} is damaged: {name!r} should be "
                f"{_KINDS[kind]}, not {value!r}."
            )
        values[name] = value
    return Record(**values)
