"""One seed: what it is made of, what it leaves, and how it goes on."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from echo import Echo
from skillrl.agents import sequence_replay, training
from skillrl.agents.from_recipe import make_envs
from skillrl.agents.normalizer import Normalizer
from skillrl.agents.recipes import AgentName, TrainRecipe
from skillrl.agents.training import (
    Status,
    Training,
    read_evaluations,
)
from skillrl.agents.zip_files import read_normalizer, read_zip_policy
from skillrl.errors import DamagedFileError, DivergedError, InvalidValueError, RunStopped

POLICY = {"state_size": 4, "encoder": [8], "net_arch": [8]}
PPO = TrainRecipe(
    *("Echo-v0", "recurrent-ppo"),
    timesteps=96,
    n_envs=2,
    eval_every=40,
    eval_episodes=3,
    normalize=True,
    agent_kwargs={"n_steps": 16, "batch_size": 16, "chunk": 8, "n_epochs": 2},
    policy_kwargs=POLICY,
)
SAC = dataclasses.replace(
    PPO,
    agent="recurrent-sac",
    agent_kwargs={
        "buffer_size": 200,
        "learning_starts": 30,
        "batch_size": 4,
        "chunk": 4,
        "burn_in": 2,
    },
)


class Goals(Echo):
    """Shows three numbers and two."""

    observation_space = spaces.Dict(  # type: ignore[assignment]
        {"a": spaces.Box(-1, 1, (3,), np.float32), "b": spaces.Box(-1, 1, (2,), np.float32)}
    )


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    gym.register("Echo-v0", "echo:Echo", disable_env_checker=True)
    gym.register("Goals-v0", lambda **kwargs: Goals(**kwargs), disable_env_checker=True)
    yield
    del gym.registry["Echo-v0"], gym.registry["Goals-v0"]


def silent() -> Logger:
    return Logger(folder=None, output_formats=[])


def run(recipe: TrainRecipe, folder: Path, **arguments: Any) -> Training:
    trained = Training(recipe, folder, 0, resume=True)
    try:
        trained.learn(silent(), **arguments)
    finally:
        trained.close()
    return trained


def normalising(path: Path) -> Any:
    """A saved policy that is given raw observations."""
    normalizer, policy = read_normalizer(path), read_zip_policy(path)
    assert normalizer is not None

    def predict(observation: np.ndarray, **rest: Any) -> Any:
        return policy.predict(normalizer(observation), **rest)

    return SimpleNamespace(predict=predict)


def parameters(agent: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in agent.policy.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("recipe", [PPO, SAC], ids=["ppo", "sac"])
def test_a_seed_leaves_its_files(recipe: TrainRecipe, tmp_path: Path) -> None:
    statuses: list[Status] = []
    trained = run(recipe, tmp_path, on_status=statuses.append)
    assert trained.finished
    assert {path.name for path in tmp_path.iterdir()} == {
        *("agent.zip", "best.zip", "evaluations.json", "normalizer.npz")
    }
    evaluations = read_evaluations(tmp_path)
    assert evaluations == trained.evaluations
    # Between the rollouts after 40 and 80 steps, which are 32 long in PPO, and at the end.
    wanted = [64, 96] if recipe is PPO else [40, 80, 96]
    assert [each.steps for each in evaluations] == wanted
    assert all(each.lengths == [5, 5, 5] for each in evaluations)
    assert statuses[-1].steps == 96
    assert statuses[-1].evaluation == evaluations[-1]
    assert statuses[-1].mean_return is not None

    # The agents that were saved earn what was written down.
    for name, evaluation in (("agent.zip", evaluations[-1]), ("best.zip", trained.best)):
        assert evaluation is not None
        env = make_envs(dataclasses.replace(recipe, normalize=False), 2)
        env.seed(1_000_000)
        returns, _ = evaluate_policy(
            normalising(tmp_path / name), env, 3, return_episode_rewards=True
        )
        np.testing.assert_allclose(returns, evaluation.returns, rtol=1e-4, atol=1e-5)
        env.close()
    with (tmp_path / "normalizer.npz").open("rb") as file:
        stored = Normalizer.read(file, "normalizer.npz")
    last = read_normalizer(tmp_path / "agent.zip")
    assert last is not None
    np.testing.assert_equal(stored.arrays, last.arrays)
    # The first component is between 100 and 105.
    assert 100 < stored.arrays["observation.mean"][0] < 105


def test_the_best_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    returns = iter([3.0, 5.0, 4.0])

    def evaluate(*_: Any, **__: Any) -> tuple[list[float], list[int]]:
        return [next(returns)], [5]

    monkeypatch.setattr(training, "evaluate_policy", evaluate)
    trained = run(dataclasses.replace(PPO, eval_every=32), tmp_path)
    assert trained.best is not None
    assert (trained.best.mean, trained.best.steps) == (5.0, 64)
    best, last = (read_zip_policy(tmp_path / name) for name in ("best.zip", "agent.zip"))
    assert not equal(best.state_dict(), last.state_dict())
    assert equal(last.state_dict(), parameters(trained.agent))


@pytest.mark.parametrize(("recipe", "after"), [(PPO, 32), (SAC, 70)], ids=["ppo", "sac"])
def test_a_stopped_seed_goes_on(recipe: TrainRecipe, after: int, tmp_path: Path) -> None:
    stop = False

    def on_status(status: Status) -> None:
        nonlocal stop
        stop = status.steps >= after

    stopped = Training(recipe, tmp_path, 0)
    with pytest.raises(RunStopped):
        stopped.learn(silent(), on_status=on_status, should_stop=lambda: stop)
    stopped.close()
    steps = stopped.steps
    assert 64 <= steps < 96
    assert (tmp_path / "checkpoint.zip").exists()
    assert not (tmp_path / "agent.zip").exists()

    again = Training(recipe, tmp_path, 0, resume=True)
    unfinished = not again.finished
    assert again.steps == steps
    assert equal(parameters(again.agent), parameters(stopped.agent))
    assert again.evaluations == stopped.evaluations != []
    was, now = stopped.normalizer(), again.normalizer()
    assert was is not None and now is not None
    np.testing.assert_equal(now.arrays, was.arrays)
    if isinstance(again.agent, OffPolicyAlgorithm):
        assert again.agent.replay_buffer is not None
        assert again.agent.replay_buffer.pos == 0
    again.learn(silent())
    again.close()
    assert unfinished and again.finished
    assert [each.steps for each in read_evaluations(tmp_path)][-1] == 96
    assert not (tmp_path / "checkpoint.zip").exists()
    # A finished seed with more steps to take goes on from its end.
    longer = Training(dataclasses.replace(recipe, timesteps=128), tmp_path, 0, resume=True)
    assert (longer.steps, longer.finished) == (96, False)
    longer.close()


def test_a_resumed_agent_learns_only_when_its_replay_buffer_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(SAC, tmp_path)
    resumed = Training(dataclasses.replace(SAC, timesteps=150), tmp_path, 0, resume=True)
    agent, at = resumed.agent, []
    assert isinstance(agent, OffPolicyAlgorithm)

    def train(**_: Any) -> None:
        at.append(agent.num_timesteps)

    def sample() -> None:
        pytest.fail("a trained agent acts at random")

    monkeypatch.setattr(agent, "train", train)
    monkeypatch.setattr(agent.action_space, "sample", sample)
    resumed.learn(silent())
    resumed.close()
    assert 96 + agent.learning_starts <= at[0] < 96 + agent.learning_starts + 6


@pytest.mark.parametrize("agent", ["ppo", "sac", "skill-ppo"])
def test_agents_without_memory(agent: AgentName, tmp_path: Path) -> None:
    arguments = (
        {"buffer_size": 200, "learning_starts": 30, "batch_size": 8}
        if agent == "sac"
        else {"n_steps": 16, "batch_size": 16}
    )
    policy = {"hidden": [8]} if agent == "skill-ppo" else {"net_arch": [8], "activation_fn": "SiLU"}
    recipe = dataclasses.replace(PPO, agent=agent, agent_kwargs=arguments, policy_kwargs=policy)
    trained = run(recipe, tmp_path)
    assert trained.finished
    assert "SiLU" in str(trained.agent.policy)


def test_agents_learn_what_the_environment_rewards(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        PPO,
        agent="ppo",
        timesteps=2_048,
        n_envs=8,
        eval_every=10_000,
        agent_kwargs={"n_steps": 32, "batch_size": 64, "learning_rate": 0.01},
        policy_kwargs={"net_arch": [8]},
    )
    before = Training(recipe, tmp_path, 0)
    before.agent.set_logger(silent())
    before.evaluate()
    before.close()
    after = run(recipe, tmp_path)
    # 5 is the most.
    assert after.evaluations[-1].mean > max(4.0, before.evaluations[-1].mean + 2)


def test_an_agent_that_is_told_the_last_action_and_reward_is_evaluated_with_them(
    tmp_path: Path,
) -> None:
    trained = run(dataclasses.replace(PPO, previous_action_reward=True), tmp_path)
    assert trained.finished
    # Two numbers, an action and a reward.
    assert trained.agent.observation_space.shape == (4,)
    stored = read_normalizer(tmp_path / "agent.zip")
    assert stored is not None and stored.arrays["observation.mean"].shape == (4,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": "CartPole-v1", "agent": "sac"}, "continuous actions.*CartPole-v1.*recurrent-ppo"),
        ({"env": "CartPole-v1", "agent": "recurrent-sac"}, "continuous actions"),
        ({"env": "Eco-v0"}, "There is no environment 'Eco-v0'.*'Echo-v0'"),
        ({"env_kwargs": {"colour": 1}}, "Echo-v0 cannot be made.*colour"),
        ({"agent_kwargs": {"n_step": 3}}, "recurrent-ppo has no argument 'n_step'.*'n_steps'"),
        ({"agent_kwargs": {"zzz": 3}}, r"no argument 'zzz'.*It has .*chunk.*learning_rate"),
        ({"agent_kwargs": {"seed": 3}}, "agent_kwargs takes no 'seed'"),
        ({"agent_kwargs": {"chunk": 7}}, "chunk=7 does not divide"),
        ({"agent_kwargs": {"learning_rate": "x"}}, "recurrent-ppo cannot be made.*'x'"),
        (
            {"policy_kwargs": {"stat_size": 3}},
            "MlpLruPolicy has no argument 'stat_size'.*'state_size'",
        ),
        ({"policy_kwargs": {"activation_fn": "Linear"}}, "activation_fn should be.*'Linear'"),
        ({"mask_velocity": True}, "velocities"),
    ],
)
def test_what_cannot_be_trained_is_told_of_before(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(PPO, **changes)
    with pytest.raises(InvalidValueError, match=message):
        Training(recipe, tmp_path / "seed", 0)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "dqn"}, "agent should be one of recurrent-ppo, .*'dqn'"),
        ({"timesteps": 0}, "timesteps should be at least 1"),
        ({"n_envs": 0}, "n_envs should be at least 1"),
        ({"eval_every": 0}, "eval_every should be at least 1"),
        ({"eval_episodes": -1}, "eval_episodes should be at least 1. Received -1"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        dataclasses.replace(PPO, **changes)


def test_returns_that_are_not_finite_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "evaluate_policy", lambda *_, **__: ([float("nan")], [5]))
    with pytest.raises(DivergedError, match="After 64 steps"):
        run(PPO, tmp_path)


def test_networks_that_are_not_finite_are_told_of(tmp_path: Path) -> None:
    kwargs = {**PPO.agent_kwargs, "learning_rate": 1e30}
    with pytest.raises(DivergedError, match="steps what the networks give is no longer finite"):
        run(dataclasses.replace(PPO, agent_kwargs=kwargs), tmp_path)


@pytest.mark.parametrize("text", ["{}", '{"steps": [1], "returns": [[]], "lengths": [[]]}', "x"])
def test_damaged_evaluations_are_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "evaluations.json").write_text(text)
    with pytest.raises(DamagedFileError, match=r"evaluations\.json"):
        read_evaluations(tmp_path)


def test_what_a_replay_buffer_takes_is_known_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replay_bytes(agent: AgentName, **arguments: Any) -> int:
        recipe = TrainRecipe("Pendulum-v1", agent, 10, n_envs=1, agent_kwargs=arguments)
        made = Training(recipe, tmp_path, 0)
        made.close()
        return made.replay_bytes

    # Three numbers seen, and again after the step; action, reward, end, and time limit: 4 bytes.
    assert replay_bytes("sac", buffer_size=1_000) == 1_000 * (3 + 3 + 4) * 4
    dictionaries = TrainRecipe("Goals-v0", "sac", 10, n_envs=1, agent_kwargs={"buffer_size": 1_000})
    made = Training(dictionaries, tmp_path, 0)
    made.close()
    # Three numbers and two, before and after.
    assert made.replay_bytes == 1_000 * (5 + 5 + 4) * 4
    with pytest.raises(InvalidValueError, match="make buffer_size smaller than 1,000,000,000,000"):
        replay_bytes("sac", buffer_size=10**12)
    with pytest.raises(InvalidValueError, match="sac cannot be made"):
        replay_bytes("sac", buffer_size="all")
    # A buffer that keeps each observation once has room where another has none.
    once = {"optimize_memory_usage": True}
    once["replay_buffer_kwargs"] = {"handle_timeout_termination": False}  # type: ignore[assignment]
    sizes = [1_000 * (3 + 3 + 4) * 4, 1_000 * (3 + 4) * 4]
    monkeypatch.setattr(sequence_replay, "available_memory", lambda: sizes[1])
    with pytest.raises(InvalidValueError, match="make buffer_size smaller than 1,000"):
        replay_bytes("sac", buffer_size=1_000)
    assert replay_bytes("sac", buffer_size=1_000, **once) == sizes[1]
    monkeypatch.setattr(sequence_replay, "available_memory", lambda: sizes[0])
    assert replay_bytes("sac", buffer_size=1_000) == sizes[0]
    monkeypatch.undo()
    assert replay_bytes("ppo", n_steps=64) == 0
    sizes = [replay_bytes("recurrent-sac", buffer_size=n) for n in (1_024, 2_048)]
    assert sizes[1] == 2 * sizes[0] > 1_024 * (3 + 1 + 1) * 4
