"""The whole method learns: later skills reach what the first ones never reached."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skillrl.discovery.following import follow
from skillrl.discovery.library import Skill
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.run import discover
from skillrl.discovery.settings import Recipe
from skillrl.discovery.training import make_envs

MAZE = recipe_for("skillrl/Maze2D-v0")
RECIPE = dataclasses.replace(
    MAZE,
    generations=5,
    steps_per_skill=98_304,
    evaluation_episodes=4,
    reward=dataclasses.replace(MAZE.reward, steps=200),
    agent=dataclasses.replace(
        MAZE.agent,
        num_envs=512,
        n_steps=16,
        batch_size=2_048,
        learning_rate=2e-3,
        hidden=(64, 64),
    ),
)


PIXELS = dataclasses.replace(
    MAZE,
    env_kwargs={"observation": "image", "max_episode_steps": 100},
    generations=4,
    attempts=1,
    steps_per_skill=32_768,
    evaluation_episodes=4,
    evaluation_steps=100,
    reward=dataclasses.replace(MAZE.reward, steps=150, batch_size=96, max_fits=1),
    samples=dataclasses.replace(
        MAZE.samples,
        num_envs=32,
        negative_steps=75,
        positive_steps=25,
        positive_repeats=1,
        archived=200,
    ),
    guide=dataclasses.replace(MAZE.guide, max_steps=75),
    agent=dataclasses.replace(
        MAZE.agent,
        n_steps=32,
        batch_size=128,
        learning_rate=1e-3,
        hidden_learning_rate=1.0,
        hidden=(64,),
    ),
)


def cells(skill: Skill, recipe: Recipe) -> set[tuple[int, int]]:
    """Cells that at least a quarter of 64 agents visit with this skill in an episode."""
    env: Any = make_envs(recipe, 64)
    observations, _ = env.reset(seed=0)
    act = follow(skill.policy)
    visits = np.zeros((64, 32, 32), bool)
    for _ in range(env.max_episode_steps - 1):
        observations, *_ = env.step(act(observations))
        state = env.get_state()
        positions = state.get("positions", state["observations"])
        visits[np.arange(64), positions[:, 0], positions[:, 1]] = True
    return {(int(row), int(column)) for row, column in np.argwhere(visits.mean(0) >= 0.25)}


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_later_skills_reach_cells_that_the_first_never_reached(seed: int, tmp_path: Path) -> None:
    library = discover(RECIPE, tmp_path / "run", seed=seed)
    reached = [cells(skill, RECIPE) for skill in library]
    first = reached[0] | reached[1]
    later = reached[2] | reached[3] | reached[4]
    # 26 to 37 cells with seeds 0 to 2; 3 where the learning rate is zero.
    assert len(later - first) >= 10


@pytest.mark.learning
def test_later_skills_reach_other_cells_from_pixels_too(tmp_path: Path) -> None:
    library = discover(PIXELS, tmp_path / "run", seed=0)
    assert all(skill.reward.kind == "image" for skill in library)
    live = [skill.record.live for skill in library]
    reached = [cells(skill, PIXELS) for skill in library]
    # All four and 15 cells; none and no cell where the learning rate is zero.
    assert sum(map(bool, live)) >= 3
    assert len(set.union(*reached[2:]) - reached[0] - reached[1]) >= 5
