"""What several tests share: one torch thread, a small finished run, a reader of videos."""

import dataclasses
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.run import discover
from skillrl.discovery.settings import Recipe

# Networks this small are faster on one thread, and pytest's workers do not fight for the cores.
torch.set_num_threads(1)

MAZE = recipe_for("skillrl/Maze2D-v0")
TINY = dataclasses.replace(
    MAZE,
    env_kwargs={"max_episode_steps": 50},
    generations=2,
    attempts=1,
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


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> Iterator[None]:
    """Take notice of Ctrl-C, which jobs in the background of a shell do not."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """Two skills of the maze, 512 steps each: a run of a few seconds."""
    return TINY


@dataclass(frozen=True)
class Video:
    """What ffmpeg reads from a file."""

    codec: str
    pixel_format: str
    fps: float
    frames: np.ndarray
    """Of shape (n, height, width, 3)."""


@pytest.fixture(scope="session")
def decode() -> Callable[[Path], Video]:
    """A function that decodes a video file."""

    def decode(path: Path) -> Video:
        # Not by imageio, whose readers leave pipes open.
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
        command = [ffmpeg, "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        result = subprocess.run(command, capture_output=True, check=True)
        stream = re.search(
            r"Video: (\w+).*?, (\w+)\(.*?, (\d+)x(\d+).*?, ([\d.]+) fps", result.stderr.decode()
        )
        assert stream is not None
        codec, pixel_format, width, height, fps = stream.groups()
        frames = np.frombuffer(result.stdout, np.uint8).reshape(-1, int(height), int(width), 3)
        return Video(codec, pixel_format, float(fps), frames)

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
