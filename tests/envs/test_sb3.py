from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from skillrl.envs.maze import DOWN, RIGHT, STAY, MazeEnv, MazeVectorEnv
from skillrl.envs.neural_reward import NeuralRewardVectorWrapper
from skillrl.envs.sb3 import SB3VecEnv
from skillrl.errors import InvalidValueError

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]


def cart_pole(steps: int = 20) -> gym.Env:
    # So short that most episodes are truncated and some terminate.
    return gym.make("CartPole-v1", max_episode_steps=steps)


def trained(env: VecEnv) -> dict[str, torch.Tensor]:
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=3, device="cpu")
    return model.learn(256).policy.state_dict()


@pytest.fixture
def one_thread() -> Iterator[None]:
    # Threads only get in each other's way with networks this small.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_training_equals_that_on_stable_baselines_own_vector(one_thread: None) -> None:
    def ours(mode: AutoresetMode, steps: int) -> dict[str, torch.Tensor]:
        fns = [partial(cart_pole, steps)] * 4
        return trained(SB3VecEnv(SyncVectorEnv(fns, autoreset_mode=mode)))

    expected = trained(DummyVecEnv([cart_pole] * 4))
    for mode in MODES:
        parameters = ours(mode, 20)
        assert expected.keys() == parameters.keys()
        for name, value in expected.items():
            assert torch.equal(value, parameters[name]), name
    other = ours(AutoresetMode.SAME_STEP, 10)
    assert not any(torch.equal(value, other[name]) for name, value in expected.items())


def half_cheetah() -> gym.Env:
    return TimeLimit(gym.make("HalfCheetah-v5"), 5)


@pytest.mark.parametrize("mode", MODES)
def test_every_step_equals_stable_baselines_own_vector(mode: AutoresetMode) -> None:
    """Observations, rewards, dones and infos, those of resets too."""

    def monitored(steps: int) -> gym.Env:
        return Monitor(TimeLimit(gym.make("Hopper-v5"), steps))

    fns: list[Callable[[], gym.Env]] = [partial(monitored, 5), partial(monitored, 1000)]
    theirs = DummyVecEnv(fns)
    ours = SB3VecEnv(SyncVectorEnv(fns, autoreset_mode=mode))
    theirs.seed(11)
    assert list(ours.seed(11)) == [11, 12]
    observations = theirs.reset()
    np.testing.assert_array_equal(ours.reset(), observations)
    assert isinstance(observations, np.ndarray)
    rng = np.random.default_rng(0)
    ends = set()
    for _ in range(150):
        actions = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        *mine, infos = ours.step(actions)
        *others, other_infos = theirs.step(actions)
        for mine_array, others_array in zip(mine, others, strict=True):
            np.testing.assert_array_equal(mine_array, others_array)
            assert np.asarray(mine_array).dtype == np.asarray(others_array).dtype
        pairs = [
            *zip(infos, other_infos, strict=True),
            *zip(ours.reset_infos, theirs.reset_infos, strict=True),
        ]
        for info, other in pairs:
            assert other.keys() == info.keys()
            for key in other.keys() - {"episode"}:
                np.testing.assert_array_equal(info[key], other[key], err_msg=key)
            if "episode" in other:
                ends.add(other["TimeLimit.truncated"])
                assert info["episode"]["l"] == other["episode"]["l"]
                assert info["episode"]["r"] == pytest.approx(other["episode"]["r"])
    assert ends == {True, False}


@pytest.mark.parametrize("mode", MODES)
def test_ends_of_episodes(mode: AutoresetMode) -> None:
    class Ends(gym.Env):
        """Observes the step; ends after two steps as told."""

        observation_space = gym.spaces.Box(0, 9, (1,), np.float32)
        action_space = gym.spaces.Discrete(2)

        def __init__(self, terminated: bool, truncated: bool) -> None:
            self.ends = terminated, truncated

        def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
            self.steps = 0
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> tuple:
            self.steps += 1
            ends = self.ends if self.steps == 2 else (False, False)
            return np.array([self.steps], np.float32), 1.0, *ends, {}

    fns = [
        partial(Ends, *ends)
        for ends in [(False, False), (True, False), (False, True), (True, True)]
    ]
    env = SB3VecEnv(SyncVectorEnv(fns, autoreset_mode=mode))
    env.reset()
    _, _, dones, infos = env.step(np.zeros(4, dtype=int))
    assert dones.tolist() == [False] * 4
    assert infos == [{"TimeLimit.truncated": False}] * 4
    assert env.final_observations == {}

    observations, rewards, dones, infos = env.step(np.zeros(4, dtype=int))
    assert np.asarray(observations).tolist() == [[2], [0], [0], [0]]
    assert rewards.dtype == np.float32
    assert dones.tolist() == [False, True, True, True]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, False, True, False]
    assert [info.get("terminal_observation") for info in infos] == [None, [2], [2], [2]]
    assert env.terminations.tolist() == [False, True, False, True]
    assert env.truncations.tolist() == [False, False, True, True]
    assert env.final_observations == {1: [2], 2: [2], 3: [2]}
    assert np.asarray(env.step(np.zeros(4, dtype=int))[0]).tolist() == [[3], [1], [1], [1]]


def test_dictionary_observations() -> None:
    def dictionary() -> gym.Env:
        env = TimeLimit(MazeEnv(), 2)
        space = gym.spaces.Dict(position=env.observation_space)
        return gym.wrappers.TransformObservation(env, lambda o: {"position": o}, space)

    for mode in MODES:
        env = SB3VecEnv(SyncVectorEnv([dictionary] * 2, autoreset_mode=mode))
        env.reset()
        env.step(np.array([DOWN, RIGHT]))
        observations, _, _, infos = env.step(np.array([DOWN, RIGHT]))
        assert isinstance(observations, dict)
        assert observations["position"].tolist() == [[1, 1], [1, 1]]
        final = [info["terminal_observation"]["position"].tolist() for info in infos]
        assert final == [[3, 1], [1, 3]]


@pytest.mark.parametrize("mode", MODES)
def test_rewards_of_the_task_reach_the_infos(mode: AutoresetMode) -> None:
    maze = MazeVectorEnv(2, max_episode_steps=2, autoreset_mode=mode)
    envs = NeuralRewardVectorWrapper(maze, lambda observations: observations[:, 0])
    env = SB3VecEnv(envs)
    env.reset()
    for _ in range(3):
        _, rewards, _, infos = env.step(np.array([DOWN, STAY]))
        assert [info["task_reward"] for info in infos] == [0.0, 0.0]
        assert env.infos["task_reward"].tolist() == [0.0, 0.0]
    assert rewards.tolist() == [2, 1]


def test_only_the_keys_asked_for_are_copied() -> None:
    def step(info_keys: list[str] | None) -> list[dict]:
        env = SB3VecEnv(
            SyncVectorEnv([half_cheetah] * 2, autoreset_mode="SameStep"), info_keys=info_keys
        )
        env.reset()
        for _ in range(5):
            *_, infos = env.step(np.zeros((2, 6), np.float32))
        return infos

    ends = {"TimeLimit.truncated", "terminal_observation"}
    assert step([])[0].keys() == ends
    assert step(["x_velocity"])[0].keys() == ends | {"x_velocity"}
    assert step(None)[0].keys() > ends | {"x_velocity", "x_position"}


def test_next_step_is_refused_with_a_remedy() -> None:
    with pytest.raises(InvalidValueError, match=r"NEXT_STEP.*autoreset_mode='SameStep'"):
        SB3VecEnv(SyncVectorEnv([cart_pole]))


def test_methods_and_attributes_of_sub_environments() -> None:
    env = SB3VecEnv(SyncVectorEnv([partial(Monitor, MazeEnv())] * 3, autoreset_mode="SameStep"))
    assert env.get_attr("metadata") == [MazeEnv.metadata] * 3
    env.set_attr("colour", "red", indices=[0, 2])
    assert env.get_attr("colour", indices=[0, 2]) == ["red", "red"]
    env = SB3VecEnv(SyncVectorEnv([cart_pole] * 3, autoreset_mode="SameStep"))
    env.set_attr("gravity", 1.0, indices=1)
    assert env.get_attr("gravity") == [9.8, 1.0, 9.8]
    env.reset()
    assert len(env.env_method("step", 0, indices=[0, 2])) == 2
    assert env.env_is_wrapped(TimeLimit) == [True] * 3
    assert env.env_is_wrapped(Monitor) == [False] * 3


def test_methods_and_attributes_of_a_batched_environment() -> None:
    env = SB3VecEnv(
        NeuralRewardVectorWrapper(MazeVectorEnv(2, autoreset_mode="SameStep"), lambda o: o[:, 0])
    )
    assert env.get_attr("max_episode_steps") == [250, 250]
    assert env.get_attr("action_space", indices=0) == [gym.spaces.Discrete(5)]
    assert env.env_is_wrapped(NeuralRewardVectorWrapper) == [True, True]
    assert env.env_is_wrapped(Monitor, indices=[0]) == [False]
    with pytest.raises(InvalidValueError, match="no sub-environments to call 'get_state' of"):
        env.env_method("get_state")
    with pytest.raises(InvalidValueError, match="no sub-environments to set 'x' of"):
        env.set_attr("x", 1)


def test_options_reach_the_next_reset_only() -> None:
    env = SB3VecEnv(SyncVectorEnv([cart_pole] * 2, autoreset_mode="SameStep"))
    env.set_options({"low": 0.0, "high": 1e-9})
    observations = env.reset()
    assert isinstance(observations, np.ndarray)
    assert abs(observations).max() <= 1e-9
    observations = env.reset()
    assert isinstance(observations, np.ndarray)
    assert abs(observations).max() > 1e-3
    with pytest.raises(InvalidValueError, match="same options"):
        env.set_options([{"low": 0.0}, {"low": 0.1}])


def test_rendering_and_closing() -> None:
    maze = MazeVectorEnv(4, render_mode="rgb_array", autoreset_mode="SameStep")
    env = SB3VecEnv(maze)
    env.reset()
    frames = maze.render()
    assert frames is not None
    picture = env.render()
    assert picture is not None
    np.testing.assert_array_equal(picture[256:, 256:], frames[3])
    env.close()
    assert maze.closed
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert SB3VecEnv(MazeVectorEnv(2, autoreset_mode="SameStep")).get_images() == [None, None]


def test_a_single_environment_is_refused() -> None:
    single: Any = gym.make("CartPole-v1")
    with pytest.raises(InvalidValueError, match="is no vector environment"):
        SB3VecEnv(single)
