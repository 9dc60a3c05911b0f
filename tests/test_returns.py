"""Trainings that are compared by their returns."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import memory_tasks
import returns
from returns import Task, Training
from skillrl.agents import RecurrentPPO
from skillrl.envs.testing import check_vector_env

SETTINGS = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "gamma": 0.9}
SHORT = Training(
    Task("CartPole-v1"),
    "skillrl RecurrentPPO",
    {**SETTINGS, "chunk": 16, "policy_kwargs": {"state_size": 4, "encoder": [4]}},
    steps=64,
    num_envs=2,
    episodes=2,
)


@pytest.mark.parametrize(
    ("game", "size", "actions"),
    # A suit; two colours twice, a card and a question; one of two phases and a suit.
    [("RepeatPrevious", 4, 4), ("CountRecall", 4, 27), ("Autoencode", 6, 4)],
)
def test_recurrent_ppo_plays_the_games_of_popgym(game: str, size: int, actions: int) -> None:
    pytest.importorskip("popgym", reason="popgym is in the extras dev and benchmarks")
    task = memory_tasks.popgym(game)
    check_vector_env(task.make_vec)
    envs = task.make(2)
    assert envs.observation_space.shape == (size,)
    assert envs.action_space == spaces.Discrete(actions)
    agent = RecurrentPPO("MlpLruPolicy", envs, n_steps=64, batch_size=64, n_epochs=1, device="cpu")
    agent.learn(256)
    # Games of 51 to 103 steps, whose return is at least −1.
    assert agent.num_timesteps == 256 and agent.ep_info_buffer
    assert all(-1.001 <= episode["r"] <= 1.001 for episode in agent.ep_info_buffer)


def test_a_training_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ("a pole, seed 0", SHORT, tmp_path)
    outcome = returns._run(job)
    assert len(outcome["returns"]) >= 2
    assert outcome["return"] == pytest.approx(sum(outcome["returns"]) / len(outcome["returns"]))
    monkeypatch.setattr(returns, "train", lambda training: pytest.fail("trained again"))
    assert returns._run(job) == outcome
    with pytest.raises(pytest.fail.Exception):
        returns._run(("a pole, seed 1", dataclasses.replace(SHORT, seed=1), tmp_path))


@pytest.mark.parametrize(("decayed", "last"), [(False, 0.01), (True, 0.005)])
def test_learning_rates_fall_where_they_should(
    decayed: bool, last: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[RecurrentPPO] = []

    def agent(envs: Any, **settings: Any) -> RecurrentPPO:
        made.append(RecurrentPPO("MlpLruPolicy", envs, **settings))
        return made[-1]

    monkeypatch.setitem(returns.AGENTS, SHORT.agent, agent)
    settings = {**SHORT.settings, "learning_rate": 0.01}
    returns.train(dataclasses.replace(SHORT, settings=settings, decayed=decayed))
    rates = [made[0].lr_schedule(remaining) for remaining in (1.0, 0.5)]
    assert rates == pytest.approx([0.01, last])


def test_a_curve_has_the_mean_return_of_each_part() -> None:
    kept = returns._Returns()
    kept.episodes = [(1, 1.0), (5, 3.0), (6, 10.0), (100, 7.0), (103, 9.0)]
    assert kept.curve(100) == [[5, 2.0], [10, 10.0], [100, 8.0]]


def test_the_better_rate_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = {}

    def outcomes(trainings: dict, folder: Path, workers: int) -> dict:
        seen.update(trainings)
        rates = {name: each.settings["learning_rate"] for name, each in trainings.items()}
        # The lower rate is better in the end, the higher one in the beginning.
        ends = {1e-4: [1.0] * 15 + [5.0] * 5, 1e-2: [9.0] * 15 + [4.0] * 5}
        return {name: {"curve": list(enumerate(ends[rate]))} for name, rate in rates.items()}

    monkeypatch.setattr(returns, "run_all", outcomes)
    chosen, trials = returns.searched({"pole": SHORT}, tmp_path, 2, rates=(1e-4, 1e-2), share=0.5)
    assert chosen["pole"].settings["learning_rate"] == 1e-4
    assert chosen["pole"].steps == 64 and len(trials) == 2
    assert {(each.seed, each.steps) for each in seen.values()} == {(1_000, 32)}
    assert "learning_rate" not in SHORT.settings


def test_contenders_are_compared_by_the_seeds_that_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def outcomes(trainings: dict, folder: Path, workers: int) -> dict:
        # Each returns its seed.
        found = {"curve": [], "seconds": {"training": 60.0}}
        return {name: {**found, "return": float(each.seed)} for name, each in trainings.items()}

    monkeypatch.setattr(returns, "run_all", outcomes)
    found = returns.compared({"pole": SHORT}, tmp_path, 2, range(100, 103))["pole"]
    assert (found["seeds"], found["returns"], found["mean"]) == (
        *([100, 101, 102], [100.0, 101.0, 102.0], 101.0),
    )


def test_all_agents_have_the_same_settings_on_a_task() -> None:
    for problem in memory_tasks.PROBLEMS.values():
        agents = memory_tasks.contenders(problem)
        # How long units remember is said to each in its own way.
        own = {"chunk", "refresh", "policy_kwargs", "horizon"}
        common = [
            {name: v for name, v in each.settings.items() if name not in own}
            for each in agents.values()
        ]
        assert all(each == common[0] for each in common)
        assert len({(t.steps, t.num_envs, t.episodes) for t in agents.values()}) == 1
        adam = [each.settings["policy_kwargs"]["optimizer_kwargs"] for each in agents.values()]
        assert all(each == adam[0] and each["fused"] for each in adam)
        told = agents["skillrl"].settings["policy_kwargs"].get("cell_kwargs", {})
        assert told.get("horizon") == agents["sb3-contrib"].settings.get("horizon")


def test_staggered_environments_cut_their_first_episode_alone() -> None:
    envs = Task("skillrl/TMaze-v0", {"length": 3}, staggered=8).make_vec(64)
    envs.reset(seed=0)
    bump, ends = np.zeros(64, int), []
    for step in range(1, 49):
        ended = envs.step(bump)[3]
        ends += [step] * int(ended.sum())
    # Somewhere in the first 8 steps, and then 40 steps later, the environment's own limit.
    assert {*ends[:64]} == {*range(1, 9)}
    assert ends[64:] == [end + 40 for end in ends[:64]]


def test_an_lstm_that_is_told_the_horizon_forgets_within_it() -> None:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(2, 400)
    before = lstm.get_parameter("bias_ih_l0") + lstm.get_parameter("bias_hh_l0")
    returns.remember(lstm, 300)
    parameters = lstm.state_dict()
    biases = parameters["bias_ih_l0"] + parameters["bias_hh_l0"]
    forget = biases[400:800].sigmoid()
    # A unit that keeps a share f of a step forgets within 1 / (1 − f) of them: up to 300.
    horizons = 1 / (1 - forget)
    assert float(horizons.min()) >= 2.0 and 290 < float(horizons.max()) <= 300.1
    # Uniformly; the other gates stay as they were.
    assert float(horizons.mean()) == pytest.approx(151, abs=15)
    others = torch.cat([torch.arange(400), torch.arange(800, 1_600)])
    torch.testing.assert_close(biases[others], before[others])


def test_a_search_looks_at_the_last_quarter_of_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = {
        # The first learns faster and ends lower.
        1e-3: [[10, 50.0], [20, 60.0], [40, 70.0], [64, 71.0]],
        1e-2: [[10, 0.0], [20, 0.0], [40, 10.0], [64, 90.0]],
        # No episode ended in the last quarter.
        1e-1: [[10, 99.0], [40, 80.0]],
    }

    def run_all(trainings: Any, folder: Path, workers: int) -> dict[Any, Any]:
        return {
            name: {"curve": curves[each.settings["learning_rate"]]}
            for name, each in trainings.items()
        }

    monkeypatch.setattr(returns, "run_all", run_all)
    chosen, _ = returns.searched({"a": SHORT}, tmp_path, 1, rates=[*curves], share=1.0)
    assert chosen["a"].settings["learning_rate"] == 1e-2
    chosen, _ = returns.searched({"a": SHORT}, tmp_path, 1, rates=[1e-3, 1e-1], share=1.0)
    assert chosen["a"].settings["learning_rate"] == 1e-1
