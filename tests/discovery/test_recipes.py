import dataclasses

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

from skillrl.discovery.recipes import RECIPES, recipe_for
from skillrl.discovery.settings import Recipe
from skillrl.discovery.training import make_envs


@pytest.mark.parametrize("env", ["HalfCheetah-v5", "skillrl/HalfCheetah-v5"])
def test_one_recipe_serves_both_names_of_an_environment(env: str) -> None:
    tuned = RECIPES["HalfCheetah-v5"]
    assert recipe_for(env) == dataclasses.replace(tuned, env=env)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.env)
def test_the_environment_of_a_recipe_takes_its_arguments(recipe: Recipe) -> None:
    env = make_envs(recipe, 2)
    observations, _ = env.reset(seed=0)
    sizes = {"Ant-v5": 27, "Humanoid-v5": 45}  # positions but for the place, and velocities
    if recipe.env in sizes:
        assert observations.shape == (2, sizes[recipe.env])
    env.close()


def test_any_other_environment_has_the_generic_recipe() -> None:
    assert recipe_for("CartPole-v1") == Recipe(env="CartPole-v1")


def test_games_from_pixels_have_the_recipe_of_montezumas_revenge() -> None:
    montezuma = RECIPES["skillrl/MontezumaRevenge-v5"]
    expected = dataclasses.replace(
        montezuma, env="skillrl/Pong-v5", env_kwargs={"max_episode_steps": 500}
    )
    assert recipe_for("skillrl/Pong-v5") == expected
    # ALE's own are pictures of another size and colour.
    assert recipe_for("ALE/Pong-v5") == Recipe(env="ALE/Pong-v5")


def test_the_maze_has_the_papers_settings() -> None:
    maze = recipe_for("skillrl/Maze2D-v0")
    assert maze.reward.target == 0.05
    assert (maze.samples.negative_steps, maze.samples.positive_steps) == (201, 49)
    assert maze.samples.exploration == "uniform"
    assert (maze.guide.max_steps, maze.guide.until) == (200, 2 / 3)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ("HalfCheetah", "HalfCheetah-v5"),
        ("skillrl/HalfCheetah", "skillrl/HalfCheetah-v5"),
        ("gymnasium:HalfCheetah-v5", "HalfCheetah-v5"),
        ("skillrl/Maze2D", "skillrl/Maze2D-v0"),
        ("montezuma", "skillrl/MontezumaRevenge-v5"),
        ("MontezumaRevenge-v5", "skillrl/MontezumaRevenge-v5"),
        ("montezumarevenge", "skillrl/MontezumaRevenge-v5"),
        ("HALFCHEETAH-v5", "HalfCheetah-v5"),
        ("skillrl/halfch", "skillrl/HalfCheetah-v5"),
        ("ant", "Ant-v5"),
        ("walker", "Walker2d-v5"),
    ],
)
def test_an_id_without_a_version_or_with_its_first_letters_has_its_recipe(
    env: str, expected: str
) -> None:
    recipe = recipe_for(env)
    assert recipe.env == expected
    assert recipe == dataclasses.replace(recipe_for(expected), env=expected)
    assert recipe.steps_per_skill != Recipe("any").steps_per_skill or "Maze" not in env


@pytest.mark.parametrize(
    "env",
    # Other versions, misspelt names, three letters, an id of its own.
    [
        "HalfCheetah-v4",
        "HalfCheeta-v5",
        "hal",
        "montezuma-v5",
        "my_package:Maze",
        "ALE/Montezuma",
        "",
    ],
)
def test_no_other_name_has_a_recipe_of_its_own(env: str) -> None:
    assert recipe_for(env) == Recipe(env=env)


def test_a_registered_id_is_not_taken_for_the_beginning_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert recipe_for("Maze").env == "skillrl/Maze2D-v0"
    monkeypatch.setitem(gym.registry, "Maze", EnvSpec("Maze", entry_point="my_mazes:Maze"))
    assert recipe_for("Maze") == Recipe(env="Maze")
