import io
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from skillrl.agents.normalizer import Normalizer
from skillrl.errors import DamagedFileError


class Noise(gym.Env):
    """Observations and rewards far from standard."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space) -> None:
        self.observation_space = space

    def _observe(self) -> object:
        def draw(scale: float) -> np.ndarray:
            return self.np_random.normal(100 * scale, scale, 3).astype(np.float32)

        if isinstance(self.observation_space, spaces.Dict):
            return {"a": draw(5), "b": draw(0.1), "untouched": 1}
        return draw(3)

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):  # type: ignore[no-untyped-def]
        return self._observe(), float(self.np_random.normal(7, 2)), False, False, {}


BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32)
DICT = spaces.Dict({"a": BOX, "b": BOX, "untouched": spaces.Discrete(3)})


def normalized(space: spaces.Space, steps: int) -> VecNormalize:
    keys = ["a", "b"] if isinstance(space, spaces.Dict) else None
    env = VecNormalize(DummyVecEnv([lambda: Noise(space)]), norm_obs_keys=keys)
    env.seed(0)
    env.reset()
    for _ in range(steps):
        env.step(np.array([0]))
    return env


@pytest.mark.parametrize("space", [BOX, DICT])
def test_it_does_what_vec_normalize_does(space: spaces.Space) -> None:
    env = normalized(space, 50)
    normalizer = Normalizer.of(env)
    file = io.BytesIO()
    normalizer.write(file)
    file.seek(0)
    for each in (normalizer, Normalizer.read(file, "x")):
        ours, theirs = each(env.get_original_obs()), env.normalize_obs(env.get_original_obs())
        if isinstance(theirs, dict):
            assert isinstance(ours, dict)
            assert ours.keys() == theirs.keys()
            for key in theirs:
                np.testing.assert_array_equal(ours[key], theirs[key])
                assert ours[key].dtype == theirs[key].dtype
        else:
            np.testing.assert_array_equal(ours, theirs)
            assert isinstance(ours, np.ndarray) and ours.dtype == np.float32


@pytest.mark.parametrize("space", [BOX, DICT])
def test_statistics_go_on_where_they_were(space: spaces.Space) -> None:
    env = normalized(space, 80)
    other = normalized(space, 3)
    Normalizer.of(env).restore(other)
    for each in (env, other):
        each.seed(5)
        each.reset()
    ours, theirs = other.step(np.array([0])), env.step(np.array([0]))
    np.testing.assert_equal(ours[:2], theirs[:2])
    assert other.ret_rms.count == env.ret_rms.count
    # A copy: what follows leaves the first one's as they are.
    before = Normalizer.of(env).arrays
    other.step(np.array([0]))
    np.testing.assert_equal(Normalizer.of(env).arrays, before)


@pytest.mark.parametrize("clip", [5, np.inf])
def test_it_is_the_same_after_saving(clip: float, tmp_path: Path) -> None:
    env = normalized(BOX, 3)
    env.clip_obs = clip
    Normalizer.of(env).save(tmp_path / "normalizer.npz")
    with (tmp_path / "normalizer.npz").open("rb") as file:
        read = Normalizer.read(file, "normalizer.npz")
    np.testing.assert_equal(read.arrays, Normalizer.of(env).arrays)


@pytest.mark.parametrize("what", ["text", "array", "missing", "objects", "infinite", "cut"])
def test_a_damaged_file_is_refused(what: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    arrays = dict(Normalizer.of(normalized(BOX, 3)).arrays)
    if what == "missing":
        del arrays["observation.var"]
    elif what == "infinite":
        arrays["observation.var"] = np.full(3, np.inf)
    elif what == "objects":
        arrays["clip"] = np.array([print], dtype=object)
    if what == "text":
        file.write(b"statistics")
    elif what == "array":
        np.save(file, arrays["observation.mean"])
    else:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    content = file.getvalue()
    with pytest.raises(DamagedFileError, match=r"normalizer\.npz is damaged"):
        Normalizer.read(io.BytesIO(content[:-40] if what == "cut" else content), "normalizer.npz")
