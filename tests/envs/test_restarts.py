"""Episodes that begin from saved states."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from skillrl.envs import (
    MaskVelocityVectorWrapper,
    MazeVectorEnv,
    MujocoVectorEnv,
    RestartVectorWrapper,
)
from skillrl.envs.testing import check_vector_env
from skillrl.errors import InvalidValueError

SAME_STEP = AutoresetMode.SAME_STEP


def hoppers(num_envs: int, mode: AutoresetMode = SAME_STEP, limit: int = 20) -> MujocoVectorEnv:
    return MujocoVectorEnv(
        "Hopper-v5", num_envs, autoreset_mode=mode, max_episode_steps=limit, num_threads=1
    )


def starts(count: int) -> dict[str, np.ndarray]:
    """States after five steps."""
    envs = hoppers(count)
    envs.reset(seed=9)
    for _ in range(5):
        envs.step(np.zeros((count, 3)))
    return envs.get_state()


def test_without_starts_it_changes_nothing() -> None:
    def make(num_envs: int, mode: AutoresetMode) -> RestartVectorWrapper:
        return RestartVectorWrapper(hoppers(num_envs, mode), share=0.5)

    check_vector_env(make, modes=[SAME_STEP])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_episodes_begins_from_saved_states(share: float) -> None:
    saved = starts(4)
    envs = RestartVectorWrapper(hoppers(50), share)
    envs.set_starts(saved)
    observations, _ = envs.reset(seed=0)
    known = {tuple(row) for row in saved["observations"]}
    assert known.isdisjoint(map(tuple, observations))
    begun, restarted = 0, []
    for _ in range(60):
        observations, _, terminations, truncations, infos = envs.step(np.zeros((50, 3)))
        for index in np.flatnonzero(terminations | truncations):
            begun += 1
            if tuple(observations[index]) in known:
                restarted.append(tuple(observations[index]))
            # The final observation stays that of the episode that has ended.
            assert tuple(infos["final_obs"][index]) not in known
    assert begun > 100
    assert len(restarted) / begun == pytest.approx(share, abs=0.1)
    assert set(restarted) == (known if share else set())


def test_a_restarted_episode_goes_on_from_its_state_and_has_its_time_limit() -> None:
    saved = starts(1)
    envs = RestartVectorWrapper(hoppers(1), 1.0)
    envs.set_starts(saved)
    envs.reset(seed=0)
    ends = []
    for step in range(60):
        observations, _, terminations, truncations, _ = envs.step(np.zeros((1, 3)))
        if (terminations | truncations).any():
            ends.append(step)
    # The first episode has 20 steps, those from the sixth on have 15.
    assert ends == [19, 34, 49]
    alone = hoppers(1)
    alone.reset(seed=0)
    alone.set_state(saved)
    for _ in range(10):
        expected, *_ = alone.step(np.zeros((1, 3)))
    np.testing.assert_array_equal(observations, expected)


def test_resets_draw_other_states_after_each_restart() -> None:
    saved = starts(1)
    envs = RestartVectorWrapper(hoppers(1, limit=10), 1.0)
    envs.set_starts(saved)
    envs.reset(seed=0)
    first = []
    for step in range(200):
        observations, _, _, truncations, _ = envs.step(np.zeros((1, 3)))
        if truncations.any():
            envs.share = 1.0 - envs.share  # by turns
            if envs.share == 1.0:
                first.append(tuple(observations[0]))
        assert step < 200
    assert len(first) > 5
    assert len(set(first)) == len(first)


def test_a_restored_state_draws_the_same_starts() -> None:
    saved = starts(6)
    envs = RestartVectorWrapper(hoppers(8), 0.5)
    envs.set_starts(saved)
    envs.reset(seed=0)
    for _ in range(7):
        envs.step(np.zeros((8, 3)))
    state = envs.get_state()

    def go_on(envs: RestartVectorWrapper) -> np.ndarray:
        return np.stack([envs.step(np.zeros((8, 3)))[0] for _ in range(60)])

    expected = go_on(envs)
    other = RestartVectorWrapper(hoppers(8), 0.5)
    other.set_starts(saved)
    other.reset(seed=5)
    other.set_state(state)
    np.testing.assert_array_equal(go_on(other), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SyncVectorEnv([partial(gym.make, "CartPole-v1")]), "no get_state"),
        (lambda: MazeVectorEnv(2, autoreset_mode="NextStep"), "autoreset_mode='SameStep'"),
    ],
)
def test_environments_that_cannot_restart_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        RestartVectorWrapper(make(), 0.5)


def test_what_a_wrapper_observes_is_not_in_a_state() -> None:
    velocities = range(5, 11)
    with pytest.raises(InvalidValueError, match="in this wrapper first"):
        RestartVectorWrapper(MaskVelocityVectorWrapper(hoppers(1), velocities), 0.5)
    envs = MaskVelocityVectorWrapper(RestartVectorWrapper(hoppers(2), 1.0), velocities)
    envs.reset(seed=0)
    envs.set_starts(starts(2))
    for _ in range(20):
        observations, *_ = envs.step(np.zeros((2, 3)))
    assert np.array_equal(observations[:, 5:], np.zeros((2, 6)))


def test_what_cannot_be_restarted_from_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"share should be in \[0, 1\]\. Received 1\.5"):
        RestartVectorWrapper(hoppers(1), 1.5)
    envs = RestartVectorWrapper(hoppers(1), 0.5)
    with pytest.raises(InvalidValueError, match="no observations"):
        envs.set_starts({})
    with pytest.raises(InvalidValueError, match="restarts_random"):
        envs.set_state(starts(1))
