"""What is said of memory before a run is what it takes."""

import dataclasses
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from skillrl.discovery.archive import Archive
from skillrl.discovery.memory import MIB, memory_for
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.samples import gather_negatives, gather_positives
from skillrl.discovery.settings import Recipe, ReplayRecipe, SampleRecipe
from skillrl.discovery.training import make_agent, make_envs
from skillrl.envs.maze import MazeVectorEnv

MONTEZUMA = recipe_for("montezuma")
PICTURES = spaces.Box(0, 255, (4, 84, 84), np.uint8)
ONE = 4 * 84 * 84


def test_montezumas_revenge_worked_by_hand() -> None:
    recipe = dataclasses.replace(MONTEZUMA, generations=100)
    memory = memory_for(recipe, PICTURES)
    assert memory.rollouts == (2 * 128 * 32 + MONTEZUMA.agent.batch_size) * ONE
    assert memory.archive == 3 * (50_000 + 2_500) * ONE
    # 501 observations of 32 games, those of twenty moments and of the one that is explored from,
    # and again in their states, and twenty times 49 twice.
    assert memory.samples == (501 * 32 + 2 * 21 * 32 + 2 * 980 * 32) * ONE
    assert str(memory) == (
        "memory at most: rollouts 228 MiB, archive 4,240 MiB when full, samples 2,156 MiB"
    )
    # Ten generations do not fill the archive.
    assert memory_for(MONTEZUMA, PICTURES).archive == 3 * 10 * 2_500 * ONE


def test_a_replay_buffer_counts_in_the_place_of_rollouts() -> None:
    recipe = Recipe("Pendulum-v1", algorithm="sac", replay=ReplayRecipe(buffer_size=1_000))
    memory = memory_for(recipe, spaces.Box(-1.0, 1.0, (3,)))
    assert memory.rollouts == 3 * 1_000 * 2 * 12


def test_saved_states_count_where_episodes_restart_from_them() -> None:
    envs = MazeVectorEnv(4)
    space = envs.single_observation_space
    assert isinstance(space, spaces.Box)
    envs.reset()
    state = envs.get_state()
    samples = SampleRecipe(num_envs=4, negative_steps=57)
    recipe = dataclasses.replace(recipe_for("maze"), samples=samples)
    # Of five steps: two integers, the steps, and whether the episode has ended.
    expected = 2 * 5 * 4 * (16 + 8 + 1)
    assert memory_for(recipe, space, state).starts == expected


@pytest.mark.parametrize(
    ("repeats", "explores_from", "earned"),
    [(1, "end", 0.0), (4, "end", 0.0), (4, "way", 0.0), (4, "way", 1.0)],
)
def test_samples_take_no_more_than_is_said(repeats: int, explores_from: Any, earned: float) -> None:
    samples = SampleRecipe(
        num_envs=16,
        negative_steps=60,
        positive_steps=20,
        positive_repeats=repeats,
        explores_from=explores_from,
        earned=earned,
    )
    kwargs = {"observation": "image", "max_episode_steps": 70}
    recipe = dataclasses.replace(recipe_for("maze"), env_kwargs=kwargs, samples=samples)
    envs = make_envs(recipe, 16)
    policy = make_agent(recipe, envs).policy
    space = envs.single_observation_space
    assert isinstance(space, spaces.Box)
    said = memory_for(recipe, space).samples
    envs.reset(seed=0)
    tracemalloc.start()
    followed = gather_negatives(envs, policy, samples, 0)
    gather_positives(envs, policy, samples, followed, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A step's own observations come on top of it.
    assert 0.8 * said < peak < said + MIB


def test_the_archive_takes_no_more_than_is_said(tmp_path: Path) -> None:
    samples = SampleRecipe(archived=20, archive_size=50)
    recipe = dataclasses.replace(MONTEZUMA, generations=9, samples=samples)
    space = spaces.Box(0, 255, (1, 6, 6), np.uint8)
    archive = Archive((1, 6, 6), np.dtype(np.uint8), samples.archived, samples.archive_size)
    rng, rows = np.random.default_rng(0), []
    for generation in range(9):
        archive.add(rng.integers(0, 256, (100, 1, 6, 6), np.uint8), generation, rng)
        rows.append(len(archive.observations))
        archive.save(tmp_path / "archive.safetensors")
        archive.restore(tmp_path / "archive.safetensors", generation + 1)
    assert memory_for(recipe, space).archive == 3 * 70 * 36
    assert max(rows) == 70
    # A generation has no more than its negatives.
    few = dataclasses.replace(samples, num_envs=2, negative_steps=4)
    few_recipe = dataclasses.replace(recipe, samples=few)
    assert memory_for(few_recipe, space).archive == 3 * 60 * 36
