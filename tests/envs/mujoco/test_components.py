import gymnasium as gym
import numpy as np
import pytest

from skillrl.envs.make import make_single
from skillrl.envs.mujoco.components import component_names


@pytest.mark.parametrize("id", ["HalfCheetah-v5", "Ant-v5", "Hopper-v5", "Humanoid-v5"])
def test_every_component_has_a_name_of_its_own(id: str) -> None:
    env = make_single(id)
    names = component_names(env)
    assert env.observation_space.shape == (len(names),)
    assert len(set(names)) == len(names)
    env.close()


@pytest.mark.parametrize(
    ("id", "joint", "place", "motion"),
    [
        ("HalfCheetah-v5", "bshin", "angle of bshin", "angular velocity of bshin"),
        ("HalfCheetah-v5", "rootz", "height", "vertical velocity"),
        ("Humanoid-v5", "root", "z position of root", "x velocity of root"),
        ("Humanoid-v5", "left_knee", "angle of left_knee", "angular velocity of left_knee"),
    ],
)
def test_names_are_those_of_what_moves(id: str, joint: str, place: str, motion: str) -> None:
    env = make_single(id)
    names = component_names(env)
    env.reset(seed=0)
    base = env.unwrapped
    data, model = base.data, base.model  # type: ignore[attr-defined]
    first, second = model.joint(joint).qposadr[0], model.joint(joint).dofadr[0]
    data.qpos[first + (2 if place[0] == "z" else 0)] = 0.123
    data.qvel[second] = 0.456
    observation = base._get_obs()  # type: ignore[attr-defined]
    assert np.isclose(observation[names.index(place)], 0.123)
    assert np.isclose(observation[names.index(motion)], 0.456)
    env.close()


def test_what_is_left_out_has_no_name() -> None:
    env = make_single("Ant-v5", include_cfrc_ext_in_observation=False)
    assert env.observation_space.shape == (len(component_names(env)),)
    env.close()


def test_other_environments_name_nothing() -> None:
    assert component_names(gym.make("CartPole-v1")) == []
    assert component_names(make_single("Reacher-v5")) == []
