"""A replay sees what the vector environment's agent saw."""

import numpy as np
import pytest

from skillrl.envs.atari import AtariEnv, AtariVectorEnv, replay
from skillrl.errors import InvalidValueError


def test_equal_pictures_with_the_vector_environment() -> None:
    random = np.random.default_rng(0)
    envs = AtariVectorEnv("montezuma_revenge", 2, num_threads=1, autoreset_mode="SameStep")
    observations, infos = envs.reset(seed=7)
    recorded = 0
    seen, actions = [observations[0]], []
    first, noops = True, infos["episode_frame_number"][0]
    while recorded < 2:
        taken = random.integers(0, 18, 2)
        observations, _, terminations, _, infos = envs.step(taken)
        actions.append(int(taken[0]))
        seen.append(infos["final_obs"][0] if terminations[0] else observations[0])
        if terminations[0]:
            again = replay(
                "montezuma_revenge", actions, seed=7, noops=None if first else int(noops)
            )
            assert np.array_equal(again.observations, np.stack(seen))
            assert again.terminated
            assert again.frames.shape == (len(actions) + 1, 210, 160, 3)
            assert again.probe["lives"][0] == 5
            assert (again.probe["room"] == 1).all()
            # The picture in colour is that of the last frame: the player is where memory says,
            # 314 - y rows down, a few columns to the right of x; red as his clothes.
            x, y = again.probe["x"][1], again.probe["y"][1]
            player = again.frames[1, 314 - y - 12 : 314 - y + 12, x - 2 : x + 8]
            assert (player.argmax(axis=-1)[player.any(axis=-1)] == 0).mean() > 0.9
            seen, actions = [observations[0]], []
            first, noops = False, infos["episode_frame_number"][0]
            recorded += 1


def test_actions_of_another_episode_are_noticed() -> None:
    env = AtariEnv("montezuma_revenge")
    env.reset(seed=0)
    steps = 0
    while not env.step(np.int64(3))[2]:
        steps += 1
    with pytest.raises(InvalidValueError, match=f"ends after {steps + 1} of the 400 actions"):
        replay("montezuma_revenge", [3] * 400, seed=0)
