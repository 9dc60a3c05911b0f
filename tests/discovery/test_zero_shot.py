"""How long PPO takes to match the best skill."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from records import new_record
from runs import small
from skillrl.agents import SkillPolicy
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.zero_shot import steps_to_match
from skillrl.errors import InvalidValueError
from skillrl.rewards import NeuralReward


def library_with(returns: list[float | None], path: Path) -> SkillLibrary:
    recipe = small("HalfCheetah-v5", env_kwargs={"max_episode_steps": 40})
    agent = dataclasses.replace(recipe.agent, learning_rate=3e-3, n_epochs=4)
    library = SkillLibrary.create(path, dataclasses.replace(recipe, agent=agent), 0)
    space = Box(-np.inf, np.inf, (17,))
    policy = SkillPolicy(space, Box(-1.0, 1.0, (6,)), lambda _: 0.0, hidden=(4,))
    for index, each in enumerate(returns):
        record = new_record(index, env="HalfCheetah-v5", task_return=each)
        library.add(policy, NeuralReward((17,), hidden=2), record)
    return library


def test_the_best_skill_is_matched_as_soon_as_the_agent_earns_as_much(tmp_path: Path) -> None:
    match = steps_to_match(
        library_with([-50.0, None, 4.0, -1.0], tmp_path / "run"), at_most=40_000, every=1_280
    )
    assert (match.skill, match.task_return) == (2, 4.0)
    assert match.steps is not None
    steps, returns = zip(*match.curve, strict=True)
    assert steps == tuple(range(1_280, match.steps + 1, 1_280))
    assert returns[-1] >= 4.0 > max(returns[:-1])


def test_what_cannot_be_matched_is_given_up(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    match = steps_to_match(library_with([1e6], tmp_path / "run"), at_most=1_000, every=600)
    assert match.steps is None
    assert [steps for steps, _ in match.curve] == [640, 1_024]
    assert torch.get_num_threads() == threads


def test_returns_that_are_not_known_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="no skill whose return"):
        steps_to_match(library_with([None], tmp_path / "run"))
