from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from skillrl.agents.policy_network import PolicyNetwork, policy_network
from skillrl.agents.recurrent_policy import RecurrentPolicy
from skillrl.agents.returns import Episodes, Seen, Task, comparison_batch
from skillrl.errors import InvalidValueError

BOX = spaces.Box(-np.inf, np.inf, (2,), np.float32)
ACTIONS = spaces.Box(-1, 1, (1,), np.float32)


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    gym.register("Echo-v0", "echo:Echo", disable_env_checker=True)
    yield
    del gym.registry["Echo-v0"]


def constant(action: float) -> PolicyNetwork:
    """A policy that always does the same."""
    policy = ActorCriticPolicy(BOX, ACTIONS, lambda _: 0.0, net_arch=[4])
    with torch.no_grad():
        policy.action_net.get_parameter("weight").zero_()
        policy.action_net.get_parameter("bias").fill_(action)
    return policy_network(policy)


def test_returns_are_those_of_whole_episodes() -> None:
    episodes = Episodes(Task("Echo-v0"), 4)
    # Five steps, each of which earns the action.
    assert episodes.mean_return(constant(0.5)) == pytest.approx(2.5)
    assert episodes.mean_return(constant(-0.25)) == pytest.approx(-1.25)
    first = episodes.random_return()
    assert -5 < first < 5
    assert first != 0
    assert episodes.random_return() == first


def test_a_reward_takes_the_place_of_the_environments() -> None:
    # The first component counts: 101 to 105 after the steps, the final one included.
    episodes = Episodes(Task("Echo-v0"), 3, reward=lambda seen: seen[:, 0].astype(np.float64))
    assert episodes.mean_return(constant(0.5)) == pytest.approx(sum(range(101, 106)))


def test_all_policies_see_the_same_episodes() -> None:
    episodes = Episodes(Task("Echo-v0"), 3, seed=5)
    one, other = episodes.watch(constant(0.1)), episodes.watch(constant(0.9))
    assert isinstance(one.observations, np.ndarray)
    assert isinstance(other.observations, np.ndarray)
    np.testing.assert_array_equal(one.observations, other.observations)
    assert one.observations.shape == (5, 3, 2)
    assert one.lengths.tolist() == [5, 5, 5]
    np.testing.assert_allclose(other.returns, 4.5)
    again = Episodes(Task("Echo-v0"), 3, seed=6).watch(constant(0.1))
    assert isinstance(again.observations, np.ndarray)
    assert not np.array_equal(one.observations, again.observations)


def test_a_policy_for_other_spaces_is_refused() -> None:
    episodes = Episodes(Task("CartPole-v1"), 2)
    with pytest.raises(InvalidValueError, match=r"policy of mine is for observations .*CartPole"):
        episodes.check(constant(0.0), "mine")
    with pytest.raises(InvalidValueError, match="At least one episode"):
        Episodes(Task("CartPole-v1"), 0)


def seen(offset: float, lengths: list[int]) -> Seen:
    time, count = max(lengths), len(lengths)
    rows = np.full((time, count, 2), np.nan, np.float32)
    for episode, length in enumerate(lengths):
        rows[:length, episode, 0] = offset + 100 * episode + np.arange(length)
        rows[:length, episode, 1] = 0
    return Seen(rows, np.array(lengths), np.zeros(count))


def test_every_policy_has_a_share_of_the_observations() -> None:
    networks = [constant(0.0), constant(1.0)]
    batch = comparison_batch(networks, [seen(0, [9, 3]), seen(1_000, [9, 9])], 10)
    assert isinstance(batch, torch.Tensor)
    assert batch.shape == (10, 2)
    # What comes after an episode's end is no observation.
    assert bool(torch.isfinite(batch).all())
    assert int((batch[:, 0] >= 1_000).sum()) == 5
    assert len(torch.unique(batch[:, 0])) == 10


@pytest.mark.parametrize(
    ("lengths", "steps", "begins"),
    [
        # Nine steps, the median of both; the two shorter episodes are left out.
        (([9, 3, 9], [9, 9, 2]), 9, [0, 200, 1_000, 1_100]),
        # Four, the median of the first, so that it has its share.
        (([3, 4, 4], [9, 9, 9]), 4, [100, 200, 1_000, 1_100, 1_200]),
    ],
)
def test_policies_with_a_memory_get_chunks_from_the_begin_of_episodes(
    lengths: tuple[list[int], list[int]], steps: int, begins: list[int]
) -> None:
    networks = [
        policy_network(RecurrentPolicy(BOX, ACTIONS, lambda _: 0.0, state_size=4)) for _ in range(2)
    ]
    first, second = lengths
    batch = comparison_batch(networks, [seen(0, first), seen(1_000, second)], 1_000)
    assert isinstance(batch, torch.Tensor)
    assert batch.shape == (steps, len(begins), 2)
    np.testing.assert_array_equal(np.sort(batch[0, :, 0].numpy()), begins)
    np.testing.assert_array_equal(np.diff(batch[:, :, 0].numpy(), axis=0), 1)
