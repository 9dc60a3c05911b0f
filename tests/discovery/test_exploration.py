import numpy as np
import pytest
import torch
from gymnasium import spaces

from skillrl.agents import SkillPolicy
from skillrl.discovery.exploration import disturbed, explore
from skillrl.discovery.following import follow
from skillrl.discovery.settings import SampleRecipe
from walkers import maze_policy, walker

RECIPE = SampleRecipe(num_envs=4, negative_steps=3, positive_steps=4, positive_repeats=2)


def test_uniform_exploration_takes_all_actions_alike() -> None:
    torch.manual_seed(0)
    recipe = SampleRecipe(exploration="uniform")
    act = explore(maze_policy(), recipe, spaces.Discrete(5))
    actions = np.concatenate([act(np.ones((100, 2), np.int64)) for _ in range(50)])
    counts = np.bincount(actions, minlength=5)
    assert (np.abs(counts - 1_000) < 4 * np.sqrt(800)).all()
    box = explore(walker(0.0), recipe, spaces.Box(-1.0, 1.0, (1,)))
    torch.manual_seed(0)
    values = np.concatenate([box(np.zeros((100, 2), np.float32)) for _ in range(50)])
    assert np.histogram(values, 4, (-1, 1))[0] == pytest.approx([1_250] * 4, abs=130)


@pytest.mark.parametrize("hold", [1.0, 4.0])
def test_random_actions_are_held_for_as_long_as_the_recipe_says(hold: float) -> None:
    torch.manual_seed(0)
    recipe = SampleRecipe(exploration="uniform", exploration_hold=hold)
    act = explore(maze_policy(), recipe, spaces.Discrete(1_000_000))
    # Of so many actions none is drawn twice in a row.
    actions = np.stack([act(np.ones((100, 2), np.int64)) for _ in range(400)])
    changes = (np.diff(actions, axis=0) != 0).mean()
    assert changes == pytest.approx(1 / hold, abs=0.01)
    # Each environment has its own.
    assert len(np.unique(actions[0])) == 100


def test_discrete_actions_are_explored_uniformly_in_any_recipe() -> None:
    act = explore(maze_policy(), SampleRecipe(), spaces.Discrete(5))
    assert set(act(np.ones((100, 2), np.int64)).tolist()) == {0, 1, 2, 3, 4}


def test_scaled_noise_is_the_policys_own_made_larger() -> None:
    torch.manual_seed(0)
    act = explore(walker(0.5), SampleRecipe(exploration_std=0.8), spaces.Box(-1.0, 1.0, (1,)))
    before = np.arctanh(act(np.zeros((10_000, 2), np.float32))[:, 0])
    assert before.std() == pytest.approx(0.8, rel=0.03)
    assert before.mean() == pytest.approx(np.arctanh(0.5), abs=0.03)


def test_disturbed_copies_move_in_ways_of_their_own() -> None:
    torch.manual_seed(0)
    policy = SkillPolicy(
        spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-1.0, 1.0, (1,)), lambda _: 0.0, hidden=(64,)
    )
    observations = np.random.default_rng(0).normal(size=(4_000, 2)).astype(np.float32)
    act = disturbed(policy, 0.5)
    before_tanh = np.arctanh(act(observations)[:, 0].astype(float))
    mean = np.arctanh(follow(policy, deterministic=True)(observations)[:, 0].astype(float))
    assert (before_tanh - mean).std() == pytest.approx(0.5, rel=0.05)
    # Each copy does the same again where it sees the same …
    np.testing.assert_array_equal(act(observations), np.tanh(before_tanh[:, None]).astype("f4"))
    # … and another one something else.
    same = np.full((4_000, 2), 3.0, np.float32)
    assert np.std(act(same)) > 0.1
    assert not np.array_equal(disturbed(policy, 0.5)(observations), act(observations))


def test_parameter_noise_is_drawn_anew_for_every_repeat() -> None:
    torch.manual_seed(0)
    recipe = SampleRecipe(exploration="parameter-noise", exploration_std=2.0)
    acts = [explore(walker(0.0), recipe, spaces.Box(-1.0, 1.0, (1,))) for _ in range(2)]
    observations = np.ones((50, 2), np.float32)
    assert not np.array_equal(acts[0](observations), acts[1](observations))
