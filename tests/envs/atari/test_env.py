"""The single environment: Gymnasium's conventions and Gymnasium's preprocessing."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from skillrl.envs.atari import AtariEnv, AtariVectorEnv
from skillrl.envs.atari.games import known
from skillrl.envs.make import make_single
from skillrl.errors import InvalidValueError

ACTIONS = np.random.default_rng(1).integers(0, 18, 80)


def test_gymnasiums_checker_has_nothing_to_say() -> None:
    check_env(AtariEnv("freeway"), skip_render_check=True)


@pytest.mark.parametrize("game", ["MontezumaRevenge", "Breakout"])
def test_preprocessing_is_gymnasiums(game: str) -> None:
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    theirs: gym.Env = gym.make(f"ale_py:ALE/{game}-v5", frameskip=1, repeat_action_probability=0.0)
    # Defined alike but for the number of no-ops, drawn from other random numbers.
    theirs = gym.wrappers.AtariPreprocessing(theirs, noop_max=0, terminal_on_life_loss=True)
    theirs = gym.wrappers.FrameStackObservation(theirs, 4, padding_type="zero")
    ours = make_single(f"skillrl/{game}-v5", noop_max=1, hide_status=False)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert isinstance(ours.action_space, gym.spaces.Discrete)
    assert np.array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    ends = 0
    # Served or jumped, and to the right until the first life is lost.
    for action in [1, *[3 % ours.action_space.n] * 30, *ACTIONS % ours.action_space.n]:
        one, two = ours.step(action), theirs.step(action)
        assert np.array_equal(one[0], two[0])
        assert one[1:4] == two[1:4]
        assert one[4]["lives"] == two[4]["lives"]
        if one[2]:
            assert np.array_equal(ours.reset()[0], theirs.reset()[0])
            ends += 1
    assert ends >= 1


def test_the_status_is_black_and_nothing_else_changes() -> None:
    shown, hidden = (AtariEnv("montezuma_revenge", hide_status=each) for each in (False, True))
    one, two = shown.reset(seed=0)[0], hidden.reset(seed=0)[0]
    for action in ACTIONS[:3]:
        one, two = shown.step(action)[0], hidden.step(action)[0]
    assert one[:, 2:8].any(axis=(1, 2)).all()
    assert not two[:, 2:8].any()
    one[:, 2:8] = 0
    assert np.array_equal(one, two)


def test_a_life_lost_ends_the_episode_only_where_asked() -> None:
    actions = [3] * 30  # off the ledge
    ends = {}
    for terminal in (True, False):
        env = AtariEnv("montezuma_revenge", terminal_on_life_loss=terminal)
        env.reset(seed=0)
        steps = [env.step(np.int64(action)) for action in actions]
        lost = next(i for i, step in enumerate(steps) if step[4]["lives"] == 5)
        ends[terminal] = [i for i, step in enumerate(steps) if step[2]][:1] == [lost]
    assert ends == {True: True, False: False}


def test_registered_for_every_game_with_ales_limit() -> None:
    env = make_single("skillrl/Freeway-v5", render_mode="rgb_array", max_episode_steps=2)
    observation, _ = env.reset(seed=0)
    assert observation.dtype == np.uint8
    frame: Any = env.render()
    assert (frame.shape, frame.dtype) == ((210, 160, 3), np.uint8)
    assert [env.step(np.int64(0))[3] for _ in range(2)] == [False, True]
    assert env.metadata["render_fps"] == 15


def test_what_cannot_be_used_is_named() -> None:
    for changes, message in (
        ({"repeat_action_probability": 2.0}, "repeat_action_probability=2.0: give a probability"),
        ({"repeat_action_probability": -1.0}, "repeat_action_probability=-1.0"),
        ({"noop_max": 0}, "noop_max=0: give a whole number, at least 1"),
        ({"skip_deaths": True}, "skip_deaths=True: where a life lost ends the episode"),
        (
            {"skip_deaths": True, "terminal_on_life_loss": False},
            "not known of 'pong', only of montezuma_revenge",
        ),
    ):
        with pytest.raises(InvalidValueError, match=message):
            AtariEnv("pong", **changes)
        with pytest.raises(InvalidValueError, match=message):
            AtariVectorEnv("pong", 2, **changes)
    with pytest.raises(InvalidValueError, match="render_mode='human'"):
        AtariEnv("pong", render_mode="human")
    env = AtariEnv("pong")
    with pytest.raises(ResetNeeded):
        env.step(np.int64(0))
    for seed in (-1, 2**31, 1.5):
        with pytest.raises(InvalidValueError, match=f"seed={seed}: ALE takes whole numbers"):
            env.reset(seed=seed)  # type: ignore[arg-type]
    env.reset(seed=0)
    with pytest.raises(InvalidValueError, match="integer in 0 … 5, not 6"):
        env.step(np.int64(6))


def test_skipped_deaths_lead_to_the_next_life_with_what_was_picked_up() -> None:
    env = AtariEnv("montezuma_revenge", terminal_on_life_loss=False, skip_deaths=True)
    off_the_ledge = np.int64(3)
    _, info = env.reset(seed=0)
    # The key, written into a console's memory.
    env._emulator._ale.setRAM(known("montezuma_revenge").memory["inventory"], 2)
    for left in (5, 4, 3, 2, 1):
        for _ in range(200):
            observation, _, terminated, _, info = env.step(off_the_ledge)
            assert not terminated
            if info["lives"] == left:
                break
        # Nothing of the life before is seen.
        assert (observation == observation[-1]).all()
        found = env.probe()
        # As a game begins: where it did, and able to act.
        assert (found["lives"], found["x"], found["y"]) == (left - 1, 77, 235)
        assert found["inventory"] == 2
        begun, _, _, _, info = env.step(off_the_ledge)
        assert np.array_equal(begun[-2], observation[-1])
        for _ in range(3):
            env.step(off_the_ledge)
        assert env.probe()["x"] > 77
    terminated = False
    while not terminated:
        terminated = env.step(off_the_ledge)[2]
    assert env.reset()[1]["lives"] == 6


def test_what_follows_a_death_is_seen_unless_it_is_skipped() -> None:
    lengths = []
    for skip_deaths in (False, True):
        env = AtariEnv("montezuma_revenge", terminal_on_life_loss=False, skip_deaths=skip_deaths)
        env.reset(seed=0)
        steps, terminated = 1, False
        while not terminated:
            terminated = env.step(np.int64(3))[2]
            steps += 1
        lengths.append(steps)
    # Five times 53 frames.
    assert 5 * (53 // 4) - 10 <= lengths[0] - lengths[1] <= 5 * (53 // 4) + 10
