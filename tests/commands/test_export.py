import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from skillrl import cli
from skillrl.agents import Normalizer
from skillrl.agents.recipes import TrainRecipe
from skillrl.agents.zip_files import read_normalizer, read_zip_policy
from skillrl.commands.export import export_policy
from skillrl.commands.train import train
from skillrl.discovery.library import load_skill
from skillrl.errors import DamagedFileError, InvalidValueError

RECIPE = TrainRecipe(
    *("Echo-v0", "recurrent-ppo"),
    timesteps=64,
    n_envs=2,
    eval_every=1_000,
    eval_episodes=2,
    normalize=True,
    agent_kwargs={"n_steps": 8, "batch_size": 16, "chunk": 8, "n_epochs": 1},
    policy_kwargs={"state_size": 4, "encoder": [8], "net_arch": [8]},
)


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    gym.register("Echo-v0", "echo:Echo", disable_env_checker=True)
    yield
    del gym.registry["Echo-v0"]


@pytest.fixture(scope="module")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "echo"
    train(dataclasses.replace(RECIPE, env_kwargs={"paint": False}), run=run, progress=False)
    return run


@pytest.fixture
def run(_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_run, tmp_path / "echo"))


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_a_trained_agent_runs_its_environment_from_the_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models/echo.onnx"
    assert cli.main(["export", str(run / "seed-000"), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert f"Wrote {out}" in text
    assert "takes    observation (batch, 2) float" in text
    assert "1,024 actions: the largest difference is" in text
    assert "(allowed is 1e-04)" in text

    model = session(out)
    agent = run / "seed-000/agent.zip"
    policy, normalizer = read_zip_policy(agent), read_normalizer(agent)
    assert normalizer is not None
    env, state = gym.make("Echo-v0"), None
    memory = np.zeros((1, 4, 2), np.float32)
    ended, actions = True, []
    for step in range(60):  # twelve episodes
        if ended:
            observation, _ = env.reset(seed=step)
        inputs = {"observation": observation[None], "state": memory}
        action, memory = model.run(None, {**inputs, "episode_start": np.array([ended])})
        expected, state = policy.predict(
            normalizer(observation), state, np.array([ended]), deterministic=True
        )
        np.testing.assert_allclose(action[0], expected, atol=1e-5)
        actions.append(float(action[0, 0]))
        observation, _, ended, _, _ = env.step(action[0])
    # It does not do the same all the time.
    assert np.ptp(actions) > 1e-3


def test_what_an_agent_never_saw_is_ignored(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        RECIPE, env="Pendulum-v1", mask_velocity=True, eval_episodes=1, policy_kwargs={}
    )
    train(recipe, run=tmp_path / "run", progress=False)
    text = export_policy(tmp_path / "run/seed-000", out=tmp_path / "policy.onnx")
    assert "ignores  components [2]" in text
    model = session(tmp_path / "policy.onnx")
    inputs = {"state": np.zeros((2, 64, 2), np.float32), "episode_start": np.ones(2, bool)}

    def action(angular_velocity: float, cosine: float) -> np.ndarray:
        observation = np.array([[cosine, 0.5, angular_velocity]] * 2, np.float32)
        return np.asarray(model.run(["action"], {"observation": observation, **inputs})[0])

    np.testing.assert_array_equal(action(0.0, 0.8), action(7.0, 0.8))
    assert (action(0.0, 0.8) != action(0.0, -0.8)).all()


def test_an_agent_that_is_told_the_last_action_and_reward(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, previous_action_reward=True)
    train(recipe, run=tmp_path / "run", progress=False)
    text = export_policy(tmp_path / "run/seed-000", out=tmp_path / "policy.onnx")
    # Two numbers, an action and a reward.
    assert "takes    observation (batch, 4) float" in text
    assert "expects  the last action and reward in the observation" in text
    # What it earned last counts.
    model = session(tmp_path / "policy.onnx")
    inputs = {"state": np.zeros((2, 4, 2), np.float32), "episode_start": np.ones(2, bool)}
    observation = np.array([[100, 0, 0.5, -1], [100, 0, 0.5, 1]], np.float32)
    (action,) = model.run(["action"], {"observation": observation, **inputs})
    assert action[0] != action[1]


def test_the_normaliser_of_a_plain_agent_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    envs = VecNormalize(make_vec_env("Pendulum-v1", 2))
    PPO("MlpPolicy", envs, n_steps=16, batch_size=16, device="cpu").learn(64).save(tmp_path / "a")
    Normalizer.of(envs).save(tmp_path / "a.npz")
    words = ["export", str(tmp_path / "a.zip"), "--out", str(tmp_path / "a.onnx")]
    assert cli.main(words) == 0
    assert "no normaliser is known" in capsys.readouterr().out
    assert cli.main([*words, "--normalizer", str(tmp_path / "a.npz")]) == 0
    assert "no normaliser is known" not in capsys.readouterr().out
    observation = np.array([[0.3, 0.9, 5.0]], np.float32)
    (action,) = session(tmp_path / "a.onnx").run(None, {"observation": observation})
    policy = read_zip_policy(tmp_path / "a.zip")
    expected, _ = policy.predict(Normalizer.of(envs)(observation), deterministic=True)
    np.testing.assert_allclose(action, expected, atol=1e-5)
    envs.save(str(tmp_path / "a.pkl"))
    assert cli.main([*words, "--normalizer", str(tmp_path / "a.pkl")]) == 1
    assert "a.pkl is no .npz file. VecNormalize.save writes a pickle" in capsys.readouterr().err


def test_an_agent_that_brings_its_normaliser_takes_no_other(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"leave out --normalizer"):
        export_policy(run / "seed-000", out=tmp_path / "x.onnx", normalizer=tmp_path / "a.npz")


def test_a_skill_is_exported(tiny_run: Path, tmp_path: Path) -> None:
    folder = tiny_run / "skills/001"
    export_policy(folder, out=tmp_path / "skill.onnx")
    observations = np.array([[1, 1], [3, 4], [7, 2]])
    (actions,) = session(tmp_path / "skill.onnx").run(None, {"observation": observations})
    expected, _ = load_skill(folder).policy.predict(observations, deterministic=True)
    np.testing.assert_array_equal(actions, expected)


def test_other_folders_are_refused_with_what_may_be_meant(
    run: Path, tiny_run: Path, tmp_path: Path
) -> None:
    (run / "seed-001").mkdir()
    shutil.copy(run / "seed-000/best.zip", run / "seed-001/best.zip")
    for path, hint in (
        (run, r" Did you mean .*seed-000\?"),
        (run / "seed-001", r" Did you mean .*seed-001/best\.zip\?"),
        (tiny_run, r" Did you mean .*skills/000\?"),
        (tiny_run / "skills", ""),
    ):
        with pytest.raises(InvalidValueError, match=rf"no skill's folder.*agent\.zip\.{hint}$"):
            export_policy(path, out=tmp_path / "x.onnx")
    part = tiny_run / "skills/000/policy.safetensors"
    with pytest.raises(InvalidValueError, match=r"part of a skill\. Did you mean .*skills/000\?$"):
        export_policy(part, out=tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"agent\.zip does not exist"):
        export_policy(tmp_path / "agent.zip", out=tmp_path / "x.onnx")


def test_any_agent_of_stable_baselines3_is_exported(tmp_path: Path) -> None:
    agent = PPO("MlpPolicy", "CartPole-v1", device="cpu", seed=0)
    agent.save(tmp_path / "agent.zip")
    text = export_policy(tmp_path / "agent.zip", out=tmp_path / "x.onnx")
    assert "returns  action (batch) int64" in text
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    (actions,) = session(tmp_path / "x.onnx").run(None, {"observation": observations})
    expected, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_array_equal(actions, expected)
    assert 0 < actions.mean() < 1
