"""MuJoCo's robots are drawn without a display, quietly, and stay in sight."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from records import new_record
from skillrl.discovery.library import Skill
from skillrl.envs import reward_for
from skillrl.report.drawing import MUJOCO_SIZE, make_env, render_modes, steps_per_second


@pytest.fixture(autouse=True)
def _headless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")  # restored afterwards, whatever it is set to meanwhile
    monkeypatch.delenv("MUJOCO_GL")
    if sys.platform == "linux":
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)


def cheetah(folder: Path, **env_kwargs: Any) -> Skill:
    space = gym.spaces.Box(-np.inf, np.inf, (17,), np.float64)
    reward_for(space).save(folder / "reward.safetensors")
    return Skill(folder, new_record(env="HalfCheetah-v5", env_kwargs=env_kwargs))


def robot_pixels(picture: np.ndarray) -> int:
    """How many pixels are orange or pink, as the robot is and nothing else."""
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    return int((red - blue > 30).sum())


def pictures_near_and_far(env: gym.Env[Any, Any]) -> list[np.ndarray]:
    """The robot after a reset, and 50 metres on."""
    env.reset(seed=0)
    pictures = [np.asarray(env.render())]
    robot: Any = env.unwrapped
    qpos = robot.data.qpos.copy()
    qpos[0] += 50
    robot.set_state(qpos, robot.data.qvel)
    pictures.append(np.asarray(env.render()))
    env.close()
    return pictures


def test_a_robot_that_runs_stays_in_sight(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    env = make_env(cheetah(tmp_path), "rgb_array")
    assert steps_per_second(env) == 20
    near, far = pictures_near_and_far(env)
    assert near.shape == far.shape == (*MUJOCO_SIZE[::-1], 3)
    assert robot_pixels(near) > 1000
    assert 0.9 < robot_pixels(far) / robot_pixels(near) < 1.1
    # Nothing of what MuJoCo says of Gymnasium's model reaches the user.
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()


def test_a_camera_that_was_chosen_is_kept(tmp_path: Path) -> None:
    # The free camera, which stands where it is.
    near, far = pictures_near_and_far(make_env(cheetah(tmp_path, camera_id=-1), "rgb_array"))
    assert robot_pixels(near) > 300
    assert robot_pixels(far) == 0


def test_render_modes_are_known_beforehand(tmp_path: Path) -> None:
    assert render_modes(cheetah(tmp_path)) == ["human", "rgb_array", "depth_array", "rgbd_tuple"]
