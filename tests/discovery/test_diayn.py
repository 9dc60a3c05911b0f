"""DIAYN: its reward, that its skills differ, and that a stopped run ends as if it never stopped."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from runs import Killed, assert_same_skills, kill_at, small
from skillrl.discovery import training
from skillrl.discovery.diayn import Diayn
from skillrl.discovery.events import Event, SkillFinished, Trained
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.run import discover
from skillrl.discovery.settings import Recipe
from skillrl.errors import InvalidValueError, RunStopped

HOPPER = small("Hopper-v5", env_kwargs={"max_episode_steps": 45}, method="diayn")
CART_POLE = small("CartPole-v1", method="diayn")


@pytest.fixture(scope="module", params=[HOPPER, CART_POLE], ids=lambda recipe: recipe.env)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, Path]:
    run = tmp_path_factory.mktemp("whole") / "run"
    discover(request.param, run, seed=3)
    return request.param, run


@pytest.fixture
def method(tmp_path: Path) -> Iterator[Diayn]:
    library = SkillLibrary.create(tmp_path / "run", HOPPER, 0)
    with closing(Diayn(library, HOPPER, lambda event: None, lambda: False)) as made:
        yield made


def test_a_reward_is_how_much_better_than_a_guess_the_skill_is_told(method: Diayn) -> None:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(6, 11))
    labels = np.array([0, 1, 1, 0, 0, 1])
    with torch.no_grad():
        inputs = method.discriminator.standardised(torch.as_tensor(observations))
        outputs = method.discriminator.outputs(inputs).numpy()
    shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    expected = np.log(shares[np.arange(6), labels]) + math.log(2)
    rewards = method.rewards(np.concatenate([observations, np.eye(2)[labels]], 1))
    np.testing.assert_allclose(rewards, expected, atol=1e-6)
    assert (rewards < 0).any()  # worse than a guess: not clipped


def test_the_discriminator_learns_to_tell_skills(method: Diayn) -> None:
    rollout = method.agent.rollout_buffer.observations
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=rollout.shape[:2])
    # The height tells the skill.
    rollout[..., :11] = rng.normal(size=(*rollout.shape[:2], 11))
    rollout[..., 0] += 4.0 * labels
    rollout[..., 11:] = np.eye(2)[labels]
    flat = rollout.reshape(-1, 13)
    before = method.rewards(flat).mean()
    for _ in range(250):
        method.learn()
    assert before < 0.2 < 0.55 < method.rewards(flat).mean() < math.log(2)


def test_skills_share_the_training_and_are_each_judged_on_their_own_reward(
    whole: tuple[Recipe, Path],
) -> None:
    recipe, run = whole
    library = SkillLibrary(run)
    rewards = [skill.reward for skill in library]
    assert [reward.label for reward in rewards] == [0, 1]
    observation = np.zeros((1, *rewards[0].shape))
    with torch.no_grad():
        total = sum(math.exp(float(r(torch.as_tensor(observation)))) / 2 for r in rewards)
    assert total == pytest.approx(1.0, abs=1e-6)  # the two are a discriminator's shares
    for skill in library:
        record = skill.record
        assert record.parent is None
        assert record.separation is None
        assert record.target == pytest.approx(math.log(2))
        assert record.steps == recipe.steps_per_skill
        skill.policy.predict(observation[0])


@pytest.mark.parametrize(("kind", "occurrence"), [(Trained, 1), (Trained, 4), (SkillFinished, 1)])
def test_a_killed_run_resumes_and_ends_with_the_same_skills(
    kind: type[Event],
    occurrence: int,
    whole: tuple[Recipe, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    recipe, done = whole
    run = tmp_path / "run"
    with pytest.raises(Killed):
        discover(recipe, run, seed=3, on_event=kill_at(kind, occurrence))
    discover(recipe, run, seed=3, resume=True)
    assert_same_skills(run, done)


def test_a_run_that_was_asked_to_stop_goes_on_where_it_was(tmp_path: Path) -> None:
    run, counter = tmp_path / "run", itertools.count(1)
    with pytest.raises(RunStopped, match="can be resumed"):
        discover(HOPPER, run, seed=3, should_stop=lambda: next(counter) == 3)
    seen: list[Event] = []
    discover(HOPPER, run, seed=3, resume=True, on_event=seen.append)
    assert [event.steps for event in seen if isinstance(event, Trained)] == [384, 512, 640, 768]
    discover(HOPPER, tmp_path / "whole", seed=3)
    assert_same_skills(run, tmp_path / "whole")


def test_skills_learnt_together_are_not_added_to(whole: tuple[Recipe, Path]) -> None:
    recipe, run = whole
    with pytest.raises(InvalidValueError, match="are learnt together"):
        discover(dataclasses.replace(recipe, generations=3), run, seed=3, resume=True)


@pytest.mark.parametrize("env", ["ALE/Breakout-v5", "skillrl/Maze2D-v0"])
def test_images_and_grids_are_refused(env: str, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidValueError, match="DIAYN and METRA are for observations that are vectors"
    ):
        discover(small(env, method="diayn"), tmp_path / "run")


@pytest.mark.parametrize("seed", [0, 1])
def test_skills_learn_to_be_told_apart(seed: int, tmp_path: Path) -> None:
    recipe = small("HalfCheetah-v5", method="diayn")
    agent = dataclasses.replace(
        recipe.agent,
        num_envs=16,
        n_steps=64,
        batch_size=256,
        n_epochs=4,
        learning_rate=1e-3,
        hidden=(64, 64),
    )
    recipe = dataclasses.replace(recipe, agent=agent, steps_per_skill=20_000)
    library = discover(recipe, tmp_path / "run", seed=seed)
    for skill in library:
        assert skill.record.live is None  # nothing asks for what is new
        assert skill.record.mean_reward > 0.8 * math.log(2)
