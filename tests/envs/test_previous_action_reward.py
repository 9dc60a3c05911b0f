"""Observations that hold the last action and reward."""

import re
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from skillrl.agents import RecurrentPPO
from skillrl.envs import (
    MujocoVectorEnv,
    PreviousActionReward,
    PreviousActionRewardVectorWrapper,
    SB3VecEnv,
)
from skillrl.envs.testing import Make, check_vector_env
from skillrl.errors import InvalidValueError


class Countdown(gym.Env[Any, Any]):
    """Shows the steps taken; a step earns ten times its number, and the third is the last."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions
        self.taken = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        return self._show(), 10.0 * self.taken, self.taken == 3, False, {}

    def _show(self) -> Any:
        if isinstance(self.observation_space, spaces.Dict):
            return {"time": np.array([self.taken], np.float32)}
        space = self.observation_space
        return np.full(space.shape, self.taken, space.dtype)


VECTOR = spaces.Box(0, 9, (1,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 2, 1), np.uint8)
DICTIONARY = spaces.Dict({"time": VECTOR})


def test_vectors_are_continued_by_a_one_hot_action_and_a_reward() -> None:
    env = PreviousActionReward(Countdown(VECTOR, spaces.Discrete(3, start=1)))
    assert env.observation_space.shape == (5,)
    assert env.reset()[0].tolist() == [0, 0, 0, 0, 0]
    assert env.step(np.int64(3))[0].tolist() == [1, 0, 0, 1, 10]
    assert env.step(np.int64(1))[0].tolist() == [2, 1, 0, 0, 20]
    assert env.reset()[0].tolist() == [0, 0, 0, 0, 0]


def test_continuous_actions_are_kept_as_they_are() -> None:
    env = PreviousActionReward(Countdown(VECTOR, spaces.Box(-2, 2, (2,), np.float32)))
    env.reset()
    assert env.step(np.array([0.5, -2], np.float32))[0].tolist() == [1, 0.5, -2, 10]


@pytest.mark.parametrize(
    ("space", "key", "shown"),
    [(IMAGE, "observation", [[[1], [1]], [[1], [1]]]), (DICTIONARY, "time", [1])],
)
def test_what_is_no_vector_becomes_a_dictionary(
    space: spaces.Space[Any], key: str, shown: Any
) -> None:
    env = PreviousActionReward(Countdown(space, spaces.Discrete(2)))
    observation = env.reset()[0]
    assert observation["action"].tolist() == [0, 0] and observation["reward"].tolist() == [0]
    observation = env.step(np.int64(1))[0]
    assert observation["action"].tolist() == [0, 1] and observation["reward"].tolist() == [10]
    assert observation[key].tolist() == shown
    assert env.observation_space.contains(observation)


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*imum value is -?infinity")  # rewards have no bounds
@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCarContinuous-v0", "Hopper-v5"])
def test_gymnasiums_checker_has_no_complaint(env_id: str) -> None:
    check_env(PreviousActionReward(gym.make(env_id)), skip_render_check=True)


def test_a_spec_rebuilds_the_environment() -> None:
    env = PreviousActionReward(gym.make("CartPole-v1"))
    assert env.spec is not None
    assert gym.make(env.spec).reset(seed=0)[0].shape == (7,)


def poles(num_envs: int, mode: AutoresetMode) -> PreviousActionRewardVectorWrapper:
    fns = [partial(gym.make, "CartPole-v1")] * num_envs
    return PreviousActionRewardVectorWrapper(SyncVectorEnv(fns, autoreset_mode=mode))


def hoppers(num_envs: int, mode: AutoresetMode) -> PreviousActionRewardVectorWrapper:
    envs = MujocoVectorEnv("Hopper-v5", num_envs, autoreset_mode=mode, num_threads=1)
    return PreviousActionRewardVectorWrapper(envs)


@pytest.mark.parametrize("make", [poles, hoppers])
def test_vector_environments_keep_the_conventions(make: Make) -> None:
    check_vector_env(make)


@pytest.mark.parametrize("space", [IMAGE, DICTIONARY])
def test_vector_environments_of_dictionaries_keep_the_conventions(space: spaces.Space[Any]) -> None:
    def make(num_envs: int, mode: AutoresetMode) -> PreviousActionRewardVectorWrapper:
        fns = [lambda: Countdown(space, spaces.Discrete(2))] * num_envs
        return PreviousActionRewardVectorWrapper(SyncVectorEnv(fns, autoreset_mode=mode))

    check_vector_env(make, steps=20)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_around_the_end_of_an_episode(mode: AutoresetMode) -> None:
    fns = [lambda: Countdown(VECTOR, spaces.Discrete(2))] * 2
    envs = PreviousActionRewardVectorWrapper(SyncVectorEnv(fns, autoreset_mode=mode))
    envs.reset()
    actions = np.array([0, 1])
    for _ in range(2):
        envs.step(actions)
    last = [[3, 1, 0, 30], [3, 0, 1, 30]]
    observations, *_, infos = envs.step(actions)
    if mode is AutoresetMode.SAME_STEP:
        assert np.stack(list(infos["final_obs"])).tolist() == last
        assert observations.tolist() == [[0, 0, 0, 0]] * 2
        return
    assert observations.tolist() == last
    if mode is AutoresetMode.NEXT_STEP:
        assert envs.step(actions)[0].tolist() == [[0, 0, 0, 0]] * 2
        assert envs.step(actions)[0].tolist() == [[1, 1, 0, 10], [1, 0, 1, 10]]
    else:
        # The other environment goes on.
        observations, _ = envs.reset(options={"reset_mask": np.array([True, False])})
        assert observations.tolist() == [[0, 0, 0, 0], last[1]]


def test_a_state_of_another_wrapper_is_none() -> None:
    envs = hoppers(2, AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    state = envs.get_state()
    del state["previous_actions"]
    with pytest.raises(InvalidValueError, match="no previous_actions"):
        envs.set_state(state)


def test_an_agent_learns_from_what_it_did() -> None:
    envs = SB3VecEnv(poles(2, AutoresetMode.SAME_STEP))
    agent = RecurrentPPO("MlpLruPolicy", envs, n_steps=16, batch_size=16, device="cpu").learn(32)
    assert agent.policy.observation_space.shape == (7,)


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (spaces.Discrete(3), spaces.Discrete(2), "a Box or a Dict. Received Discrete(3)"),
        (VECTOR, spaces.Sequence(VECTOR), "vectors of a fixed size. Received Sequence("),
        (spaces.Dict({"action": VECTOR}), spaces.Discrete(2), "have the keys action already"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    observations: spaces.Space[Any], actions: spaces.Space[Any], message: str
) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        PreviousActionReward(Countdown(observations, actions))
