"""What several tests share: one torch thread, a small finished run, a reader of videos."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from skillrl.discovery.loop import discover
from skillrl.discovery.recipes import Recipe, recipe_for

# Networks this small are faster on one thread, and pytest's workers do not fight for the cores.
torch.set_num_threads(1)

MAZE = recipe_for("skillrl/Maze2D-v0")
TINY = dataclasses.replace(
    MAZE,
    env_kwargs={"max_episode_steps": 50},
    generations=2,
    steps_per_skill=512,
    evaluation_episodes=2,
    reward=dataclasses.replace(MAZE.reward, steps=20, batch_size=48, hidden=16),
    samples=dataclasses.replace(
        MAZE.samples, num_envs=4, negative_steps=20, positive_steps=5, archived=50
    ),
    agent=dataclasses.replace(
        MAZE.agent, num_envs=8, n_steps=16, batch_size=64, n_epochs=1, hidden=(16,)
    ),
)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """Two skills of the maze, 512 steps each: a run of a few seconds."""
    return TINY


Decode = Callable[[Path], tuple[dict[str, Any], np.ndarray]]


@pytest.fixture(scope="session")
def decode() -> Decode:
    """A function from a video to what ffmpeg says of it and its frames (n, height, width, 3)."""

    def decode(path: Path) -> tuple[dict[str, Any], np.ndarray]:
        # Not by imageio, whose reader leaves its pipes open.
        reader = imageio_ffmpeg.read_frames(path)
        about = next(reader)
        width, height = about["size"]
        frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
        return about, np.stack(frames)

    return decode


@pytest.fixture(scope="session")
def _tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    discover(TINY, run, seed=1)
    return run


@pytest.fixture
def tiny_run(_tiny_run: Path, tmp_path: Path) -> Path:
    """A run with the two skills of ``tiny_recipe``, in a folder that the test may change."""
    return Path(shutil.copytree(_tiny_run, tmp_path / "tiny"))
