"""The emulator plays as ALE's vector environment does, to the last bit."""

from typing import Any

import ale_py
import numpy as np
import pytest

from skillrl.envs.atari.emulator import Emulator, shrink

ACTIONS = np.random.default_rng(0).integers(0, 18, 60)


@pytest.mark.parametrize("height", [210, 250])
def test_every_pixel_is_the_mean_of_its_area(height: int) -> None:
    # In whole numbers: a pixel of the screen is 84 units long, one of the picture as many units
    # as the screen has pixels.
    def overlaps(length: int) -> np.ndarray:
        small, large = np.arange(85)[:, None] * length, np.arange(length + 1) * 84
        ends = np.minimum(small[1:], large[1:])
        return np.maximum(ends - np.maximum(small[:-1], large[:-1]), 0)

    screen = np.random.default_rng(0).integers(0, 256, (height, 160), np.uint8)
    sums = overlaps(height) @ screen.astype(np.int64) @ overlaps(160).T
    area = height * 160
    # Within half a unit; a sum that ends in one half may go either way.
    assert (np.abs(2 * (shrink(screen).astype(np.int64) * area - sums)) <= area).all()


@pytest.mark.parametrize("height", [210, 214, 220, 230, 250])
def test_pixels_are_opencvs(height: int) -> None:
    cv2: Any = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    random = np.random.default_rng(0)
    for _ in range(20):
        # Two values only: many sums that end in one half.
        levels = random.integers(0, 256, 2, np.uint8)
        screen = levels[random.integers(0, 2, (height, 160))]
        expected = cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA)
        assert np.array_equal(shrink(screen), expected)


@pytest.mark.parametrize(("game", "sticky"), [("montezuma_revenge", 0.0), ("breakout", 0.25)])
def test_it_plays_as_ales_vector_environment(game: str, sticky: float) -> None:
    envs: Any = ale_py.AtariVectorEnv(
        game,
        1,
        repeat_action_probability=sticky,
        episodic_life=True,
        reward_clipping=False,
        use_fire_reset=False,
    )
    emulator = Emulator(game, repeat_action_probability=sticky)
    observations, infos = envs.reset(seed=np.array([0]))
    emulator.reset(seed=0)
    ends = 0
    actions = (ACTIONS % len(emulator.actions)).tolist()
    if game == "breakout":
        actions = [1, *actions]  # serves the ball
    for action in actions:
        assert np.array_equal(emulator.picture(), observations[0, -1])
        assert emulator.info() == {key: infos[key][0] for key in emulator.info()}
        reward, ended = emulator.step(action)
        observations, rewards, terminations, _, infos = envs.step(np.array([action]))
        assert (reward, ended) == (rewards[0], terminations[0])
        if ended:
            # Of the step that ends an episode, too.
            assert np.array_equal(emulator.picture(), observations[0, -1])
            emulator.reset()  # draws another number of no-ops
            observations, *_, infos = envs.step(np.array([0]))
            ends += 1
    assert ends >= 1


def test_a_saved_state_goes_on_exactly_in_another_emulator() -> None:
    one, other = (Emulator("montezuma_revenge", repeat_action_probability=0.25) for _ in "12")
    one.reset(seed=3)
    for action in ACTIONS[:10].tolist():
        one.step(action)
    state = one.get_state()

    def ahead(emulator: Emulator) -> list[tuple[Any, ...]]:
        seen: list[tuple[Any, ...]] = []
        for action in ACTIONS[10:].tolist():
            outcome = emulator.step(action)
            seen.append((outcome, emulator.picture().tobytes(), emulator.memory().tobytes()))
            if outcome[1]:
                emulator.reset()
                seen.append((emulator.info(), emulator.picture().tobytes()))
        return seen

    expected = ahead(one)
    assert any(outcome[0][1] is True for outcome in expected if len(outcome) == 3)
    for emulator in (other, one):
        emulator.set_state(state)
        assert ahead(emulator) == expected


def test_no_ops_can_be_given() -> None:
    emulator = Emulator("pong")
    emulator.reset(noops=7)
    assert emulator.info()["episode_frame_number"] == 7
    still = Emulator("pong", noop_max=1)
    still.reset(seed=5)
    assert still.info()["episode_frame_number"] == 0


def test_a_state_right_before_the_end_has_the_last_picture() -> None:
    # The picture of the step that ends an episode may be that of frames before it.
    one, other = Emulator("montezuma_revenge"), Emulator("montezuma_revenge")
    other.reset()
    for noops in range(4):  # the life is lost in another of the four frames
        one.reset(noops=noops)
        ended = False
        while not ended:
            state = one.get_state()
            _, ended = one.step(3)
        other.step(0)
        other.set_state(state)
        other.step(3)
        assert np.array_equal(one.picture(), other.picture())
