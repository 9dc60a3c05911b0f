from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from skillrl.discovery.following import episode_limit, episodes, follow
from skillrl.envs import NeuralRewardVectorWrapper
from skillrl.errors import InvalidValueError
from walkers import walker

MakeLines = Callable[..., SyncVectorEnv]


def test_following_without_noise_takes_the_mean_action() -> None:
    policy, observations = walker(0.5, noise=1.0), np.zeros((3, 2), np.float32)
    assert follow(policy, deterministic=True)(observations) == pytest.approx(0.5)
    assert np.std(follow(policy)(observations)) > 1e-3


def test_an_evaluation_worked_by_hand(lines: MakeLines) -> None:
    # Environment i starts at 4 + i and needs 6 − i steps to reach 10. Its observations are
    # 5 + i … 10, each paid by a tenth of itself: 45, 40, 34 and 27 in tenths.
    env = NeuralRewardVectorWrapper(lines(4, end=9.999), lambda seen: seen[:, 0] / 10)
    mean_reward, task_return = episodes(env, walker(1.0), 24, max_steps=99, deterministic=True)
    assert mean_reward == pytest.approx((4.5 + 4.0 + 3.4 + 2.7) / (6 + 5 + 4 + 3), abs=1e-4)
    assert task_return == pytest.approx((6 + 5 + 4 + 3) / 4)


def test_an_evaluation_counts_the_first_episode_only(lines: MakeLines) -> None:
    # The walkers stand still; the one that starts at 9 would end its episodes at once.
    env = NeuralRewardVectorWrapper(lines(2, end=8.5, limit=6), lambda seen: seen[:, 1])
    mean_reward, task_return = episodes(env, walker(0.0), 28, max_steps=99, deterministic=True)
    assert mean_reward == pytest.approx((1 + 2 + 3 + 4 + 5 + 6 + 1) / 7)
    assert task_return == pytest.approx((6 + 1) / 2)


def test_an_episode_without_an_end_is_evaluated_for_its_first_steps(lines: MakeLines) -> None:
    env = NeuralRewardVectorWrapper(lines(2, limit=10**9), lambda seen: seen[:, 1])
    mean_reward, task_return = episodes(env, walker(0.0), seed=0, max_steps=4, deterministic=True)
    assert mean_reward == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert task_return == 4


def test_the_limit_of_gymnasiums_own_vector_environment_is_known() -> None:
    env = gym.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    assert episode_limit(env) == 500
    env.close()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_is_named(value: float) -> None:
    observations = np.array([[0.0, 1.0], [2.0, value]], np.float32)
    with pytest.raises(InvalidValueError, match=rf"not finite: \[ *2\. +{value}\]"):
        follow(walker(1.0))(observations)
