from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from skillrl.envs import MazeVectorEnv, reward_for
from skillrl.errors import InvalidValueError


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (spaces.Box(-np.inf, np.inf, (17,)), "vector"),
        (spaces.Box(-1.0, 1.0, (1,), np.float64), "vector"),
        (spaces.Box(0, 255, (128,), np.uint8), "vector"),  # Atari's memory
        (spaces.Box(0, 31, (2,), np.int64), "grid"),
        (spaces.Box(0, 13, (2,), np.int8), "grid"),
        (spaces.Box(0, 12, (2,), np.int64), "vector"),  # too small for the convolutions
        (spaces.Box(0, 64, (2,), np.int64), "vector"),
        (spaces.Box(1, 31, (2,), np.int64), "vector"),
        (spaces.Box(0, 31, (3,), np.int64), "vector"),
        (spaces.Box(0.0, 31.0, (2,)), "vector"),
        (spaces.Box(0, 255, (210, 160, 3), np.uint8), "image"),
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), "image"),
    ],
)
def test_the_kind_suits_the_space(space: spaces.Box, kind: str) -> None:
    reward = reward_for(space, target=0.5, hidden=7)
    assert (reward.kind, reward.target, reward.hidden) == (kind, 0.5, 7)
    assert reward.shape == space.shape
    # It takes what the space holds, its corners among them.
    space.seed(0)
    observations = np.stack([space.sample() for _ in range(5)])
    if kind == "grid":
        observations[0], observations[1] = space.low, space.high
    rewards = reward.reward(observations)
    assert rewards.shape == (5,)
    assert ((rewards >= 0.0) & (rewards <= 0.5)).all()


def test_a_grid_has_a_cell_for_each_position() -> None:
    reward = reward_for(spaces.Box(np.array([0, 0]), np.array([19, 40]), dtype=np.int64))
    assert reward.size == (20, 41)
    corners = torch.tensor([[0, 0], [0, 40], [19, 0], [19, 40]])
    assert reward._one_hot(corners).flatten(1).argmax(1).tolist() == [0, 40, 19 * 41, 20 * 41 - 1]


@pytest.mark.parametrize(
    ("shape", "channels_last"),
    [
        ((210, 160, 3), True),
        ((84, 84, 1), True),
        ((84, 84, 4), True),
        ((3, 210, 160), False),
        ((4, 84, 84), False),
        ((1, 84, 84), False),
    ],
)
def test_the_layout_of_images_is_told_from_their_shape(
    shape: tuple[int, ...], channels_last: bool
) -> None:
    assert reward_for(spaces.Box(0, 255, shape, np.uint8)).channels_last is channels_last


@pytest.mark.parametrize("id", ["HalfCheetah-v5", "CartPole-v1"])
def test_gymnasiums_environments_have_rewards(id: str) -> None:
    env = gym.make(id)
    observation, _ = env.reset(seed=0)
    assert reward_for(env.observation_space).reward(observation[None]).shape == (1,)
    env.close()


def test_the_maze_is_a_grid() -> None:
    reward = reward_for(MazeVectorEnv(2).single_observation_space)
    assert (reward.kind, reward.size) == ("grid", (32, 32))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Discrete(5), r"from a Box. Received Discrete\(5\).*FlattenObservation"),
        (spaces.Dict(a=spaces.Discrete(2)), "from a Box. Received Dict.*FlattenObservation"),
        (spaces.Box(0.0, 1.0, (4, 5)), r"shape \(4, 5\) and type float32.*FlattenObservation"),
        (spaces.Box(0.0, 1.0, (84, 84, 3)), r"shape \(84, 84, 3\) and type float32"),
        (spaces.Box(0, 255, (84, 84), np.uint8), r"shape \(84, 84\) and type uint8"),
        (spaces.Box(0, 255, (10, 10, 3), np.uint8), "10x10 are too small"),
        (spaces.Box(0.0, 1.0, ()), r"shape \(\)"),
    ],
)
def test_other_observations_are_named_with_the_remedy(
    space: spaces.Space[Any], message: str
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        reward_for(space)
