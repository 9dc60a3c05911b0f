"""Records of skills for tests that do not train any."""

from typing import Any

from skillrl.discovery.record import Record
from skillrl.rewards import Separation


def new_record(index: int = 0, **changes: Any) -> Record:
    """The record of a skill of CartPole, with ``changes``."""
    known: dict[str, Any] = {
        "env": "CartPole-v1",
        "env_kwargs": {},
        "steps": 1_000_000,
        "seconds": 83.4,
        "mean_reward": 2.5,
        "target": 5.0,
        "previous_mean_reward": 0.5,
        "live": True,
        "task_return": -12.34,
        "fresh_reward": 0.75,
        "asked": "all",
        "parent": None,
        "descriptors": None,
        "separation": Separation(loss=7.3, positives=0.9, negatives=0.1, archive=None),
    }
    return Record(index, **{**known, **changes})
