"""METRA: its reward, its representation, and that a stopped run ends as if it never stopped."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from runs import Killed, assert_same_skills, kill_at, small
from skillrl.discovery import training
from skillrl.discovery.events import Trained
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.metra import Metra
from skillrl.discovery.run import discover
from skillrl.errors import InvalidValueError

HOPPER = small("Hopper-v5", env_kwargs={"max_episode_steps": 45}, method="metra")


@pytest.fixture
def method(tmp_path: Path) -> Iterator[Metra]:
    torch.manual_seed(0)
    library = SkillLibrary.create(tmp_path / "run", HOPPER, 0)
    with closing(Metra(library, HOPPER, lambda event: None, lambda: False)) as made:
        yield made


def conditioned(observations: np.ndarray, skills: np.ndarray) -> np.ndarray:
    return np.concatenate([observations, np.eye(2)[skills]], -1)


def test_a_reward_is_how_far_a_step_goes_in_the_skills_direction(method: Metra) -> None:
    rng = np.random.default_rng(0)
    num_envs = method.agent.n_envs
    skills = rng.integers(2, size=num_envs)
    begins, ends = rng.normal(size=(2, num_envs, 11))
    method.agent._last_obs = conditioned(begins, skills)
    rewards = method.rewards(conditioned(ends, skills))
    with torch.no_grad():
        phi = method.representation
        standardised = [((torch.as_tensor(o) - phi.mean) / phi.std).float() for o in (ends, begins)]
        steps = phi.outputs(standardised[0]) - phi.outputs(standardised[1])
    # With two skills the directions are (1, -1) and (-1, 1).
    expected = (steps[:, 0] - steps[:, 1]).numpy() * np.where(skills == 0, 1, -1)
    np.testing.assert_allclose(rewards, expected, atol=1e-6)


def test_the_representation_learns_to_go_far_by_steps_of_at_most_one(method: Metra) -> None:
    buffer = method.agent.rollout_buffer
    rng = np.random.default_rng(0)
    steps, num_envs = buffer.observations.shape[:2]
    skills = np.arange(num_envs) % 2
    # One skill walks up, the other down, along the first component; the rest is noise.
    walk = np.cumsum(np.where(skills == 0, 0.1, -0.1) * np.ones((steps, num_envs)), axis=0)
    buffer.observations[..., :11] = 0.01 * rng.normal(size=(steps, num_envs, 11))
    buffer.observations[..., 0] += walk
    buffer.observations[..., 11:] = np.eye(2)[skills]
    buffer.episode_starts[:] = 0
    for _ in range(600):
        method.learn()
    method.agent._last_obs = buffer.observations[2]
    rewards = method.rewards(buffer.observations[3])
    with torch.no_grad():
        moved = method._represented(buffer.observations[3]) - method._represented(
            buffer.observations[2]
        )
    lengths = moved.norm(dim=1)
    assert lengths.min() > 0.7 and lengths.max() < 1.2
    # The directions are of length √2, and a step of length 1 can go all the way along its own.
    assert rewards.min() > 0.9


def test_a_killed_run_resumes_and_ends_with_the_same_skills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discover(HOPPER, tmp_path / "whole", seed=3)
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    run = tmp_path / "run"
    with pytest.raises(Killed):
        discover(HOPPER, run, seed=3, on_event=kill_at(Trained, 3))
    discover(HOPPER, run, seed=3, resume=True)
    assert_same_skills(run, tmp_path / "whole")


def test_images_are_refused_and_a_single_skill(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="METRA are for observations that are vectors"):
        discover(small("ALE/Breakout-v5", method="metra"), tmp_path / "run")
    with pytest.raises(InvalidValueError, match="metra tells skills apart"):
        dataclasses.replace(HOPPER, generations=1)
