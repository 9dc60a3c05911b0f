import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from skillrl.envs import MaskVelocity, MaskVelocityVectorWrapper, make_vec
from skillrl.envs.mask_velocity import velocity_components
from skillrl.envs.testing import check_vector_env
from skillrl.errors import InvalidValueError

WHOLE = {"exclude_current_positions_from_observation": False}


@pytest.mark.parametrize(
    ("env_id", "arguments"),
    [
        ("HalfCheetah-v5", {}),
        ("HalfCheetah-v5", WHOLE),
        ("Hopper-v5", {}),
        ("InvertedPendulum-v5", {}),
    ],
)
def test_of_mujoco_the_velocities_are_hidden_and_the_positions_shown(
    env_id: str, arguments: dict[str, Any]
) -> None:
    env = MaskVelocity(gym.make(env_id, **arguments))
    env.reset(seed=0)
    env.action_space.seed(0)
    observation = env.step(env.action_space.sample())[0]
    data: Any = env.unwrapped.data  # type: ignore[attr-defined]
    shown, hidden = np.split(observation, [len(observation) - len(data.qvel)])
    assert (hidden == 0).all()
    np.testing.assert_array_equal(shown, data.qpos[-len(shown) :])


@pytest.mark.parametrize(
    ("env_id", "velocities"),
    [("CartPole-v1", [1, 3]), ("Pendulum", [2]), ("skillrl/Hopper-v5", [5, 6, 7, 8, 9, 10])],
)
def test_known_velocities(env_id: str, velocities: list[int]) -> None:
    assert velocity_components(env_id).tolist() == velocities


@pytest.mark.parametrize(
    ("env_id", "moving"),
    [("InvertedDoublePendulum-v5", 3), ("Reacher-v5", 2), ("Pusher-v5", 7)],
)
def test_tasks_that_do_not_say_where_their_velocities_are(env_id: str, moving: int) -> None:
    env = gym.make(env_id)
    env.reset(seed=0)
    env.action_space.seed(0)
    # The arms move; what they are to reach or push need not.
    for _ in range(2):
        observation = env.step(env.action_space.sample())[0]
    data: Any = env.unwrapped.data  # type: ignore[attr-defined]
    velocities = data.qvel[:moving]
    assert (np.abs(velocities) > 1e-6).all() and (np.abs(velocities) < 10).all()
    np.testing.assert_array_equal(observation[velocity_components(env_id)], velocities)
    # And nowhere else.
    assert np.isin(observation, velocities).sum() == moving
    assert (velocity_components(f"skillrl/{env_id}") == velocity_components(env_id)).all()


def test_the_bodies_velocities_of_a_humanoid_are_hidden() -> None:
    env = MaskVelocity(gym.make("Humanoid-v5"))
    env.reset(seed=0)
    observation = env.step(np.full(17, 0.1, np.float32))[0]
    assert (observation[22:45] == 0).all() and (observation[175:253] == 0).all()
    assert (observation[45:175] != 0).any() and (observation[253:270] != 0).all()


def test_a_spec_rebuilds_the_environment() -> None:
    env = MaskVelocity(gym.make("CartPole-v1"), components=[False, True, False, True])
    assert env.spec is not None
    again = gym.make(env.spec)
    observation, _ = again.reset(seed=0)
    assert (observation == 0).tolist() == [False, True, False, True]


def make(num_envs: int, autoreset_mode: Any) -> MaskVelocityVectorWrapper:
    envs = make_vec("Hopper-v5", num_envs=num_envs, autoreset_mode=autoreset_mode)
    return MaskVelocityVectorWrapper(envs)


def test_vector_environments_keep_the_conventions() -> None:
    check_vector_env(make)


def test_final_observations_are_masked() -> None:
    envs = make(4, "SameStep")
    envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(200):
        observations, *_, infos = envs.step(envs.action_space.sample())
        assert (observations[:, 5:] == 0).all() and (observations[:, :5] != 0).any()
        if "final_obs" in infos:
            break
    ended = np.stack(list(infos["final_obs"][infos["_final_obs"]]))
    assert (ended[:, 5:] == 0).all() and (ended[:, :5] != 0).all()


def test_what_is_not_known() -> None:
    def refuses(message: str, env: Any, **arguments: Any) -> None:
        with pytest.raises(InvalidValueError, match=re.escape(message)):
            MaskVelocity(env, **arguments)

    refuses("components of a vector. Received Discrete(48)", gym.make("CliffWalking-v1"))
    refuses("numbered from 0. Received [7]", gym.make("CartPole-v1"), components=[7])
    bare = gym.make("CartPole-v1").unwrapped
    bare.spec = None
    refuses("has no id to know its velocities by", bare)
    for env_id in ("skillrl/Maze2D-v0", "skillrl/TMaze-v0"):
        with pytest.raises(InvalidValueError, match=f"'{env_id}' are not known: known are those"):
            velocity_components(env_id)
    # Another package's environment of the same name is another one.
    with pytest.raises(InvalidValueError, match="'other/Pendulum-v0' are not known"):
        velocity_components("other/Pendulum-v0")
    missing = "'skillrl/TMase-v0' are not known: There is no environment 'skillrl/TMase-v0'"
    with pytest.raises(InvalidValueError, match=missing):
        velocity_components("skillrl/TMase-v0")
