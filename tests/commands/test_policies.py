import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

from skillrl.agents.recipes import TrainRecipe
from skillrl.agents.returns import Task
from skillrl.commands.align import Settings, align
from skillrl.commands.policies import read_policies
from skillrl.commands.train import train

RECIPE = TrainRecipe(
    *("Echo-v0", "recurrent-ppo"),
    timesteps=256,
    n_envs=4,
    eval_every=10_000,
    eval_episodes=2,
    previous_action_reward=True,
    normalize=True,
    agent_kwargs={
        "n_steps": 16,
        "batch_size": 32,
        "chunk": 8,
        "n_epochs": 4,
        "learning_rate": 0.05,
    },
    policy_kwargs={"state_size": 4, "encoder": [8], "net_arch": [8]},
)


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    gym.register("Echo-v0", "echo:Echo", disable_env_checker=True)
    yield
    del gym.registry["Echo-v0"]


def test_agents_that_are_told_the_last_action_and_reward_are_compared_with_them(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    outcomes = train(RECIPE, run=run, seeds=2, progress=False)
    seeds = [run / "seed-000", run / "seed-001"]
    task = Task("Echo-v0", previous_action_reward=True)
    assert [each.task for each in read_policies(seeds)] == [task, task]
    assert str(task) == "Echo-v0 with the last action and reward"

    align([run], out=tmp_path / "out", settings=Settings(episodes=3, points=3), progress=False)
    found = json.loads((tmp_path / "out/modes.json").read_text())
    assert found["task"] == dataclasses.asdict(task)
    # Both have learnt that an action is what it earns: five at the most, none by chance.
    assert all(score > 2 for score in found["scores"])
    assert [outcome.last.mean > 2 for outcome in outcomes] == [True, True]
