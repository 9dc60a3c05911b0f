"""Observations that end with a skill."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from skillrl.envs import MujocoVectorEnv, SkillConditionedVectorWrapper, make_vec
from skillrl.envs.testing import Make, check_vector_env
from skillrl.errors import InvalidValueError

SKILLS = 4


def hoppers(num_envs: int, mode: AutoresetMode) -> SkillConditionedVectorWrapper:
    envs = MujocoVectorEnv("Hopper-v5", num_envs, autoreset_mode=mode, num_threads=1)
    return SkillConditionedVectorWrapper(envs, SKILLS)


def poles(num_envs: int, mode: AutoresetMode) -> SkillConditionedVectorWrapper:
    fns = [partial(gym.make, "CartPole-v1")] * num_envs
    return SkillConditionedVectorWrapper(SyncVectorEnv(fns, autoreset_mode=mode), SKILLS)


@pytest.mark.parametrize("make", [hoppers, poles])
def test_the_wrapper_keeps_to_gymnasiums_conventions(make: Make) -> None:
    check_vector_env(make)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_an_episode_has_one_skill_from_its_first_observation_to_its_last(
    mode: AutoresetMode,
) -> None:
    envs = poles(8, mode)
    plain = SyncVectorEnv([partial(gym.make, "CartPole-v1")] * 8, autoreset_mode=mode)
    observations, _ = envs.reset(seed=5)
    expected, _ = plain.reset(seed=5)
    envs.action_space.seed(0)
    current = observations[:, 4:].argmax(1)
    drawn, ended = [current.copy()], np.zeros(8, bool)
    for _ in range(150):
        actions = envs.action_space.sample()
        observations, _, terminations, truncations, infos = envs.step(actions)
        expected, _, _, _, plain_infos = plain.step(actions)
        np.testing.assert_array_equal(observations[:, :4], expected)
        assert (observations[:, 4:].sum(1) == 1).all()
        done = terminations | truncations
        shown = observations[:, 4:].argmax(1)
        if mode is AutoresetMode.SAME_STEP:
            for index in np.flatnonzero(done):
                final = infos["final_obs"][index]
                np.testing.assert_array_equal(final[:4], plain_infos["final_obs"][index])
                assert final[4:].argmax() == current[index]
            new = done
        elif mode is AutoresetMode.NEXT_STEP:
            new, ended = ended, done
        else:
            new = np.zeros(8, bool)
        assert (shown[~new] == current[~new]).all()
        current = shown
        if mode is AutoresetMode.DISABLED and done.any():
            observations, _ = envs.reset(options={"reset_mask": done.copy()})
            plain.reset(options={"reset_mask": done.copy()})
            shown = observations[:, 4:].argmax(1)
            assert (shown[~done] == current[~done]).all()
            current, new = shown, done
        drawn.append(current[new])
    counts = np.bincount(np.concatenate(drawn), minlength=SKILLS)
    assert (counts > 0.1 * counts.sum()).all()


def test_a_skill_that_does_not_exist_is_no_state() -> None:
    envs = hoppers(2, AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    state = envs.get_state()
    with pytest.raises(InvalidValueError, match=r"skills \[0, 7\], and there are 4"):
        envs.set_state({**state, "skills": [0, 7]})
    del state["skills_random"]
    with pytest.raises(InvalidValueError, match="no skills_random"):
        envs.set_state(state)


@pytest.mark.parametrize(("id", "skills"), [("CartPole-v1", 0), ("ALE/Breakout-v5", 3)])
def test_what_cannot_be_conditioned_is_refused(id: str, skills: int) -> None:
    envs = make_vec(id, 1, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(InvalidValueError, match=r"num_skills|vectors"):
        SkillConditionedVectorWrapper(envs, skills)
    envs.close()
