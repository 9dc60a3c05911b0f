import base64
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import nn

from skillrl.agents import RecurrentPPO, RecurrentSAC, SkillPPO
from skillrl.agents.normalizer import Normalizer
from skillrl.agents.zip_files import read_normalizer, read_zip_policy, restore_agent, save_agent
from skillrl.errors import DamagedFileError

ARGUMENTS: dict[type[BaseAlgorithm], dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 16},
    SkillPPO: {"n_steps": 16, "batch_size": 16},
    RecurrentPPO: {"n_steps": 16, "batch_size": 16, "chunk": 8},
    SAC: {"buffer_size": 500, "learning_starts": 10, "batch_size": 8},
    RecurrentSAC: {
        "buffer_size": 500,
        "learning_starts": 10,
        "batch_size": 4,
        "chunk": 4,
        "burn_in": 2,
    },
}
POLICIES = {PPO: "MlpPolicy", SAC: "MlpPolicy", SkillPPO: "SkillPolicy"}


def make_env(env_id: str = "Pendulum-v1") -> VecEnv:
    return make_vec_env(env_id, n_envs=1, seed=0)


def make(kind: type[BaseAlgorithm], env: VecEnv | None = None, **arguments: Any) -> Any:
    env = make_env() if env is None else env
    policy: Any = POLICIES.get(kind, "MlpLruPolicy")
    return kind(policy, env, device="cpu", **{"seed": 0, **ARGUMENTS.get(kind, {}), **arguments})


def tensors(agent: BaseAlgorithm) -> dict[str, torch.Tensor]:
    """Parameters, moments and the entropy coefficient."""
    found: dict[str, torch.Tensor] = {}

    def collect(prefix: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[prefix] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                collect(f"{prefix}.{key}", item)

    collect("", agent.get_parameters())
    if isinstance(agent, SAC):
        assert agent.log_ent_coef is not None
        found["log_ent_coef"] = agent.log_ent_coef
    return found


@pytest.mark.parametrize("kind", [*ARGUMENTS])
def test_an_agent_comes_back_into_one_with_its_settings(
    kind: type[BaseAlgorithm], tmp_path: Path
) -> None:
    agent, other = (
        make(kind, VecNormalize(make_env())),
        make(kind, VecNormalize(make_env()), seed=7),
    )
    agent.learn(48)
    save_agent(agent, tmp_path / "agent.zip")
    restore_agent(other, tmp_path / "agent.zip")
    ours, theirs = tensors(other), tensors(agent)
    assert ours.keys() == theirs.keys()
    assert len(theirs) > 10
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert (other.num_timesteps, other._n_updates) == (agent.num_timesteps, agent._n_updates)
    assert agent._n_updates > 0
    was, now = agent.get_vec_normalize_env(), other.get_vec_normalize_env()
    np.testing.assert_equal(Normalizer.of(now).arrays, Normalizer.of(was).arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["agent.zip"]


def test_what_is_remembered_of_an_episode_is_not_kept(tmp_path: Path) -> None:
    agent = make(RecurrentPPO, make_env())
    assert agent.learn(48)._carry is not None
    save_agent(agent, tmp_path / "agent.zip")
    loaded = RecurrentPPO.load(tmp_path / "agent.zip", env=make_env(), device="cpu")
    assert loaded._carry is None
    loaded.learn(48)


def test_stable_baselines3_reads_what_is_saved(tmp_path: Path) -> None:
    agent = make(PPO, VecNormalize(make_env()))
    save_agent(agent, tmp_path / "agent.zip")
    loaded = PPO.load(tmp_path / "agent.zip", device="cpu")
    observation = np.ones((4, 3), np.float32)
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0],
        agent.predict(observation, deterministic=True)[0],
    )


@pytest.mark.parametrize("kind", [*ARGUMENTS])
def test_a_policy_acts_as_the_agent_did(kind: type[BaseAlgorithm], tmp_path: Path) -> None:
    agent = make(kind)
    agent.learn(32)
    agent.save(tmp_path / "plain.zip")
    assert read_normalizer(tmp_path / "plain.zip") is None
    policy = read_zip_policy(tmp_path / "plain.zip")
    assert type(policy) is type(agent.policy)
    rng, state, other = np.random.default_rng(0), None, None
    for step in range(5):
        observation = rng.normal(size=(2, 3)).astype(np.float32)
        starts = np.full(2, step == 0)
        action, state = policy.predict(observation, state, starts, deterministic=True)
        expected, other = agent.predict(observation, other, starts, deterministic=True)
        np.testing.assert_array_equal(action, expected)


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        ("CartPole-v1", {"policy_kwargs": {"activation_fn": nn.ReLU, "net_arch": [5]}}),
        ("CartPole-v1", {"policy_kwargs": {"optimizer_class": torch.optim.SGD}}),
        ("CartPole-v1", {"policy_kwargs": {"features_extractor_class": FlattenExtractor}}),
        ("Pendulum-v1", {"use_sde": True, "policy_kwargs": {"squash_output": True}}),
    ],
)
def test_arguments_of_a_policy_are_read(env: str, arguments: Any, tmp_path: Path) -> None:
    agent = make(PPO, make_env(env), **arguments)
    agent.save(tmp_path / "agent.zip")
    policy = read_zip_policy(tmp_path / "agent.zip")
    observation = np.ones((2, *agent.observation_space.shape), np.float32)
    np.testing.assert_array_equal(
        policy.predict(observation, deterministic=True)[0],
        agent.predict(observation, deterministic=True)[0],
    )
    assert policy.observation_space == agent.observation_space
    assert policy.action_space == agent.action_space


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch exploded",)


class MyExtractor(FlattenExtractor):
    """Of a user."""


def changed(path: Path, name: str, value: Any) -> None:
    """Change an attribute in an agent's file."""
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    data = json.loads(members["data"])
    data[name] = value
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, json.dumps(data) if each == "data" else content)


def pickled(value: Any) -> dict[str, str]:
    return {":serialized:": base64.b64encode(pickle.dumps(value)).decode()}


@pytest.mark.parametrize(
    "name", ["policy_class", "observation_space", "action_space", "policy_kwargs", "learning_rate"]
)
def test_no_code_of_a_file_is_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "agent.zip"
    agent = make(PPO)
    agent.save(path)
    changed(path, name, pickled(Bomb()))
    if name == "learning_rate":
        read_zip_policy(path)  # It is not needed, and not looked at.
        restore_agent(agent, path)
    else:
        with pytest.raises(DamagedFileError, match=r"agent\.zip holds what is not read.*system"):
            read_zip_policy(path)
    assert not (tmp_path / "exploded").exists()


def test_the_file_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    TD3("MlpPolicy", make_env(), buffer_size=100, device="cpu").save(path)
    with pytest.raises(DamagedFileError, match=r"TD3Policy.*PPO, A2C and SAC"):
        read_zip_policy(path)


def test_classes_of_other_packages_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    arguments = {"features_extractor_class": MyExtractor}
    make(PPO, policy_kwargs=arguments).save(path)
    with pytest.raises(DamagedFileError, match="MyExtractor"):
        read_zip_policy(path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    agent = make(PPO)
    with pytest.raises(DamagedFileError, match=r"agent\.zip does not exist"):
        read_zip_policy(path)
    agent.save(path)
    content = path.read_bytes()
    changed(path, "policy_kwargs", {"net_arch": [3]})
    with pytest.raises(DamagedFileError, match=r"agent\.zip describes no valid policy"):
        read_zip_policy(path)
    for broken in (b"agent", content[:1000]):
        path.write_bytes(broken)
        for read in (read_zip_policy, lambda path: restore_agent(agent, path)):
            with pytest.raises(DamagedFileError, match=r"agent\.zip is not an agent"):
                read(path)


def test_an_agent_with_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    save_agent(make(PPO), path)
    with pytest.raises(DamagedFileError, match="with other settings"):
        restore_agent(make(PPO, policy_kwargs={"net_arch": [3]}), path)
    with pytest.raises(DamagedFileError, match="no statistics of a normaliser"):
        restore_agent(make(PPO, VecNormalize(make_env())), path)


def test_spaces_can_be_sampled_from(tmp_path: Path) -> None:
    make(PPO, make_env("CartPole-v1")).save(tmp_path / "agent.zip")
    policy = read_zip_policy(tmp_path / "agent.zip")
    assert policy.observation_space.contains(policy.observation_space.sample())
    assert isinstance(policy.action_space, gym.spaces.Discrete)
    assert policy.action_space.contains(policy.action_space.sample())
