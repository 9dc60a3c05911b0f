"""Skills as actions."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from skillrl.envs import SkillActionWrapper
from skillrl.errors import InvalidValueError


class Walk(gym.Env[np.ndarray, np.ndarray]):
    """A place on a line and a goal; the reward is the place, an episode ends at ±10."""

    observation_space = gym.spaces.Box(-20.0, 20.0, (2,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.place, self.goal = 0.0, float(self.np_random.normal())
        return np.array([self.place, self.goal]), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.place += float(action[0])
        ended = abs(self.place) >= 10
        return np.array([self.place, self.goal]), self.place, ended, False, {"place": self.place}


class Pace:
    """A skill that walks at one pace, and knows nothing of goals."""

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.seen: list[np.ndarray] = []
        self.states: list[int] = []

    def predict(
        self, observation: np.ndarray, state: int | None = None, *, deterministic: bool
    ) -> tuple[np.ndarray, int]:
        assert deterministic
        self.seen.append(observation)
        steps = 0 if state is None else state
        self.states.append(steps)
        return np.array([self.pace], np.float32), steps + 1


class Noisy(Pace):
    """A skill to which its noise belongs."""

    noiseless = False

    def predict(
        self, observation: np.ndarray, state: int | None = None, *, deterministic: bool
    ) -> tuple[np.ndarray, int]:
        return super().predict(observation, state, deterministic=not deterministic)


def make() -> SkillActionWrapper:
    return SkillActionWrapper(
        Walk(), [Pace(1.0), Pace(-0.5)], steps=4, skill_observation=lambda seen: seen[:1]
    )


def test_a_skill_acts_for_its_steps_and_its_rewards_add_up() -> None:
    forwards, backwards = Pace(1.0), Noisy(-0.5)
    env = SkillActionWrapper(Walk(), [forwards, backwards], 4, lambda seen: seen[:1])
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(0)
    assert observation[0] == 4.0
    assert reward == 1 + 2 + 3 + 4
    assert (terminated, truncated) == (False, False)
    assert info == {"place": 4.0, "skill_steps": 4}
    observation, reward, *_ = env.step(1)
    assert observation[0] == 2.0
    assert reward == 3.5 + 3 + 2.5 + 2
    # Each skill saw the observations that it acted on, without the goal.
    assert [seen.tolist() for seen in forwards.seen] == [[0.0], [1.0], [2.0], [3.0]]
    assert [seen.tolist() for seen in backwards.seen] == [[4.0], [3.5], [3.0], [2.5]]


def test_the_end_of_an_episode_ends_the_skill() -> None:
    env = make()
    env.reset(seed=0)
    for _ in range(2):
        env.step(0)
    observation, reward, terminated, _, info = env.step(0)
    assert observation[0] == 10.0
    assert reward == 9 + 10
    assert terminated
    assert info["skill_steps"] == 2


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_it_is_an_environment_by_gymnasiums_own_check() -> None:
    check_env(make(), skip_render_check=True)


@pytest.mark.parametrize(("skills", "steps"), [([], 4), ([Pace(1.0)], 0)])
def test_nothing_to_choose_from_is_refused(skills: list[Pace], steps: int) -> None:
    with pytest.raises(InvalidValueError, match="at least one skill and one step"):
        SkillActionWrapper(Walk(), skills, steps)


@pytest.mark.parametrize("action", [-1, 2])
def test_a_skill_that_does_not_exist_is_named(action: int) -> None:
    env = make()
    env.reset(seed=0)
    with pytest.raises(InvalidValueError, match=f"There are 2 skills.*Received {action}"):
        env.step(action)


def test_a_skill_of_another_body_is_refused() -> None:
    skill = Pace(1.0)
    skill.action_space = gym.spaces.Box(-1.0, 1.0, (6,), np.float32)  # type: ignore[attr-defined]
    with pytest.raises(InvalidValueError, match=r"Skill 0 acts in Box\(-1\.0, 1\.0, \(6,\)"):
        SkillActionWrapper(Walk(), [skill], 4)


def test_a_skill_of_a_library_is_no_policy() -> None:
    with pytest.raises(InvalidValueError, match=r"Skill 0 should have a predict.*Received 'hop'"):
        SkillActionWrapper(Walk(), ["hop"], 4)  # type: ignore[list-item]


def test_a_skill_that_observes_less_needs_to_be_told_what() -> None:
    skill = Pace(1.0)
    skill.observation_space = gym.spaces.Box(-1.0, 1.0, (6,))  # type: ignore[attr-defined]
    with pytest.raises(InvalidValueError, match=r"Skill 0 observes Box.*skill_observation="):
        SkillActionWrapper(Walk(), [skill], 4)
    SkillActionWrapper(Walk(), [skill], 4, lambda observation: np.zeros(6))


def test_it_is_reset_before_it_is_stepped() -> None:
    with pytest.raises(ResetNeeded):
        make().step(0)
