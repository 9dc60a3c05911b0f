"""What a recipe describes is what is made."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from echo import Echo
from skillrl.agents import RecurrentPolicy
from skillrl.agents.from_recipe import AGENTS, make_agent, make_envs, policy_for
from skillrl.agents.recipes import AgentName, TrainRecipe
from skillrl.errors import InvalidValueError


def test_velocities_are_hidden() -> None:
    recipe = TrainRecipe("CartPole-v1", mask_velocity=True)
    env = make_envs(recipe, 2)
    env.seed(0)
    env.reset()
    observations, *_ = env.step(np.array([0, 1]))
    assert isinstance(observations, np.ndarray)
    np.testing.assert_array_equal(observations[:, [1, 3]], 0)
    assert (observations[:, [0, 2]] != 0).all()
    env.close()


def test_the_last_action_and_reward_are_shown() -> None:
    # Without velocities, two of the four numbers are zeros; two actions and a reward follow.
    recipe = TrainRecipe("CartPole-v1", mask_velocity=True, previous_action_reward=True)
    env = make_envs(recipe, 2)
    env.seed(0)
    first = env.reset()
    second, *_ = env.step(np.array([0, 1]))
    assert isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
    assert (first[:, 4:] == 0).all()
    np.testing.assert_array_equal(second[:, [1, 3]], 0)
    np.testing.assert_array_equal(second[:, 4:], [[1, 0, 1], [0, 1, 1]])
    env.close()


def test_defaults_of_environments() -> None:
    numbers = {agent: TrainRecipe("X", agent).num_envs for agent in AGENTS}
    assert numbers == {"recurrent-ppo": 8, "recurrent-sac": 1, "ppo": 8, "sac": 1, "skill-ppo": 16}
    assert TrainRecipe("X", "sac", n_envs=3).num_envs == 3


IMAGE = spaces.Box(0, 255, (64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("agent", "space", "name"),
    [
        ("ppo", Echo.observation_space, "MlpPolicy"),
        ("recurrent-ppo", spaces.Discrete(3), "MlpLruPolicy"),
        ("recurrent-ppo", IMAGE, "CnnLruPolicy"),
        ("sac", spaces.Box(0, 255, (1, 40, 40), np.uint8), "CnnPolicy"),
        ("ppo", spaces.Box(0, 255, (8, 8, 3), np.uint8), "MlpPolicy"),
        ("recurrent-sac", spaces.Dict({"a": IMAGE}), "MultiInputLruPolicy"),
        ("skill-ppo", IMAGE, "SkillPolicy"),
    ],
)
def test_the_policy_suits_the_observations(
    agent: AgentName, space: spaces.Space[Any], name: str
) -> None:
    assert policy_for(agent, space) == name


def test_ppo_refuses_actions_that_do_not_begin_at_zero() -> None:
    recipe = TrainRecipe("CartPole-v1", "ppo")
    env = make_envs(recipe, 1)
    env.action_space = spaces.Discrete(2, start=1)
    with pytest.raises(InvalidValueError, match=r"numbered from 0.*skill-ppo"):
        make_agent(recipe, env, 0)
    env.close()


def test_recurrent_agents_are_recurrent() -> None:
    policy = {"state_size": 4, "encoder": [8], "net_arch": [8]}
    recipe = TrainRecipe("CartPole-v1", "recurrent-ppo", n_envs=2, policy_kwargs=policy)
    env = make_envs(recipe, 2)
    agent = make_agent(recipe, env, 0)
    assert isinstance(agent.policy, RecurrentPolicy)
    assert agent.policy.net_arch == [8]
    other = dataclasses.replace(recipe, policy_kwargs={"horizon": 5})
    with pytest.raises(InvalidValueError, match="'horizon' is an argument of the cell"):
        make_agent(other, env, 0)
    env.close()


def test_a_frequency_of_training_may_be_a_list() -> None:
    arguments = {"train_freq": [1, "episode"], "buffer_size": 100}
    recipe = TrainRecipe("Pendulum-v1", "sac", n_envs=1, agent_kwargs=arguments)
    env = make_envs(recipe, 1)
    assert make_agent(recipe, env, 0).train_freq.frequency == 1  # type: ignore[attr-defined]
    env.close()
