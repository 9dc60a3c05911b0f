"""Small runs for tests: recipes that take seconds, what kills a run, and what it left behind."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from skillrl.discovery.events import Event
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.settings import Recipe
from skillrl.files import read_tensors


def small(env: str, **changes: Any) -> Recipe:
    """A recipe that runs in seconds: two skills of three rollouts."""
    recipe = recipe_for(env)
    agent = dataclasses.replace(
        recipe.agent, num_envs=8, n_steps=16, batch_size=64, n_epochs=2, hidden=(16, 16)
    )
    samples = dataclasses.replace(
        recipe.samples, num_envs=6, negative_steps=20, positive_steps=5, positive_repeats=2
    )
    reward = dataclasses.replace(recipe.reward, steps=20, batch_size=30, hidden=16)
    return dataclasses.replace(
        recipe,
        generations=2,
        steps_per_skill=3 * 8 * 16,
        evaluation_episodes=2,
        patience=0.0,
        attempts=1,
        agent=agent,
        samples=samples,
        reward=reward,
        guide=dataclasses.replace(recipe.guide, max_steps=10),
        **changes,
    )


def skills(run: Path) -> dict[str, torch.Tensor]:
    """All tensors of all skills, and of the archive."""
    tensors = {}
    for path in sorted(run.rglob("*.safetensors")):
        for name, tensor in read_tensors(path)[0].items():
            tensors[f"{path.relative_to(run)}:{name}"] = tensor
    return tensors


def assert_same_skills(one: Path, other: Path) -> None:
    ours, theirs = skills(one), skills(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


class Killed(Exception):
    """Stands for whatever ends a process at once."""


def kill_at(kind: type[Event], occurrence: int) -> Callable[[Event], None]:
    counter = itertools.count(1)

    def on_event(event: Event) -> None:
        if isinstance(event, kind) and next(counter) == occurrence:
            raise Killed

    return on_event
