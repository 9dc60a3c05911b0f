"""Models equal Gymnasium's, and load without noise."""

import warnings
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from skillrl.envs.mujoco import MujocoVectorEnv
from skillrl.envs.mujoco.model import load_model, quiet_loading
from skillrl.envs.mujoco.tasks import TASKS


@pytest.mark.parametrize("id", TASKS)
def test_every_field_equals_gymnasiums_model(id: str) -> None:
    with quiet_loading():
        env = gym.make(id, width=1000)
    theirs = env.get_wrapper_attr("model")
    ours = MujocoVectorEnv(id, width=1000).model
    for part_ours, part_theirs in ((ours, theirs), (ours.opt, theirs.opt), (ours.vis, theirs.vis)):
        for name in dir(part_theirs):
            value = getattr(part_theirs, name)
            if not name.startswith("_") and isinstance(value, np.ndarray | int | float | bytes):
                assert np.array_equal(getattr(part_ours, name), value, equal_nan=False), name
    assert ours.vis.global_.offwidth == theirs.vis.global_.offwidth == 1000


def test_nothing_is_printed_and_no_file_is_left(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for id in TASKS:
        MujocoVectorEnv(id, 2)
    with quiet_loading():
        gym.make("HalfCheetah-v5")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_other_messages_become_warnings() -> None:
    model = load_model("hopper.xml", 1, 1)
    data = mujoco.MjData(model)
    data.qvel[:] = np.nan
    with pytest.warns(UserWarning, match="Nan, Inf or huge value in QVEL"), quiet_loading():
        mujoco.mj_step(model, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet_loading():
            gym.make("HalfCheetah-v5")
