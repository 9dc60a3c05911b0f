from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from skillrl.envs.memory_tasks import EAST, NORTH, SOUTH, WEST
from skillrl.errors import InvalidValueError

Policy = Any


def episode(env: gym.Env[Any, Any], policy: Policy, seed: int) -> tuple[float, int]:
    """Return and number of steps, by a policy of the episode's observations so far."""
    seen, total = [env.reset(seed=seed)[0]], 0.0
    while True:
        observation, reward, terminated, truncated, _ = env.step(policy(seen))
        seen.append(observation)
        total += float(reward)
        if terminated or truncated:
            return total, len(seen) - 1


@pytest.mark.parametrize("env_id", ["skillrl/TMaze-v0", "skillrl/RepeatPrevious-v0"])
def test_gymnasiums_checker_has_no_complaint(env_id: str) -> None:
    check_env(gym.make(env_id).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("length", [1, 10, 100])
def test_an_oracle_turns_where_the_sign_said(length: int) -> None:
    env = gym.make("skillrl/TMaze-v0", length=length)

    def oracle(seen: list[np.ndarray]) -> int:
        if seen[-1].tolist() != [0, 1, 0]:
            return EAST
        return NORTH if seen[0].tolist() == [0, 1, 1] else SOUTH

    assert [episode(env, oracle, seed) for seed in range(20)] == [(4.0, length + 1)] * 20


def test_without_memory_half_of_the_turns_are_right() -> None:
    env = gym.make("skillrl/TMaze-v0")

    def memoryless(seen: list[np.ndarray]) -> int:
        return NORTH if seen[-1].tolist() == [0, 1, 0] else EAST

    returns = [episode(env, memoryless, seed)[0] for seed in range(200)]
    assert {*returns} == {4.0, -0.1}
    assert np.mean(np.array(returns) > 0) == pytest.approx(0.5, abs=0.1)


def test_only_east_moves_and_bumps_cost() -> None:
    env = gym.make("skillrl/TMaze-v0", length=2).unwrapped
    sign = env.reset(seed=0)[0]
    for action in (NORTH, SOUTH, WEST):
        observation, reward, *ended, _ = env.step(action)
        assert np.array_equal(observation, sign) and reward == -0.1 and ended == [False, False]
    assert env.step(EAST)[0].tolist() == [1, 0, 1]
    assert env.step(EAST)[0].tolist() == [0, 1, 0]
    observation, reward, *ended, _ = env.step(EAST)
    assert observation.tolist() == [0, 1, 0] and reward == -0.1 and ended == [False, False]


def test_who_only_bumps_is_cut() -> None:
    env = gym.make("skillrl/TMaze-v0", length=3)
    total, steps = episode(env, lambda seen: WEST, 0)
    assert steps == 40 and total == pytest.approx(-4.0)


@pytest.mark.parametrize("delay", [1, 4, 16])
def test_an_oracle_repeats_what_was_shown(delay: int) -> None:
    env = gym.make("skillrl/RepeatPrevious-v0", delay=delay)

    def oracle(seen: list[np.ndarray]) -> int:
        return int(seen[-1 - delay].argmax()) if len(seen) > delay else 0

    for seed in range(5):
        total, steps = episode(env, oracle, seed)
        assert total == pytest.approx(1) and steps == 52


def test_repeating_the_present_symbol_is_a_guess() -> None:
    env = gym.make("skillrl/RepeatPrevious-v0")
    returns = [episode(env, lambda seen: int(seen[-1].argmax()), seed)[0] for seed in range(50)]
    # A quarter is right: 1/4 − 3/4.
    assert np.mean(returns) == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize(
    ("env_id", "arguments", "message"),
    [
        ("skillrl/TMaze-v0", {"length": 0}, "length=0: give a whole number, at least 1"),
        ("skillrl/TMaze-v0", {"length": 2.5}, "length=2.5: give a whole number"),
        ("skillrl/RepeatPrevious-v0", {"delay": 52}, "steps=52: give a whole number, at least 53"),
        ("skillrl/RepeatPrevious-v0", {"delay": 2.0}, "delay=2.0"),
        ("skillrl/RepeatPrevious-v0", {"symbols": 1}, "symbols=1: give a whole number, at least 2"),
    ],
)
def test_bad_arguments(env_id: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        gym.make(env_id, **arguments)


@pytest.mark.parametrize("env_id", ["skillrl/TMaze-v0", "skillrl/RepeatPrevious-v0"])
def test_bad_actions(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    with pytest.raises(InvalidValueError, match=r"Actions are .* Received 4"):
        env.step(4)
