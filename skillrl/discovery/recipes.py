"""The recipes that were tuned for an environment each, and how they are found by its name."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym

from skillrl.discovery.settings import (
    AgentRecipe,
    GuideRecipe,
    Recipe,
    RewardRecipe,
    SampleRecipe,
    TransferRecipe,
)
from skillrl.envs.registration import register_envs


def _robot(env: str, **changes: Any) -> Recipe:
    """What the recipes of robots have in common."""
    return Recipe(
        env=env,
        steps_per_skill=800_000,
        parent="any",
        samples=SampleRecipe(
            asks_for=("directions", "directions", "lively ways", "ways"),
            exploration="parameter-noise",
            exploration_std=2.0,
        ),
        agent=AgentRecipe(anneal_from=0.8),
        # The value function of another reward led agents that branch off to stand still: with it 3
        # of HalfCheetah's 16 skills died, each having met its reward at first.
        transfer=TransferRecipe(reuse_value=False),
        **changes,
    )


def _balancing(recipe: Recipe, **changes: Any) -> Recipe:
    """What the recipes of robots whose episodes end where they fall have in common, too.

    Balance takes more steps than a skill has: each skill goes on from the last one, and takes all
    of its steps, since what it earns a step does not tell how soon it falls.
    """
    return dataclasses.replace(recipe, parent="last", patience=0.0, **changes)


HALF_CHEETAH = _robot("HalfCheetah-v5")
HOPPER = _balancing(_robot("Hopper-v5"))
WALKER = _balancing(_robot("Walker2d-v5"))
# Without the forces of contacts and the like, which are most of the observation and no behaviour.
_ANT = _robot("Ant-v5", env_kwargs={"include_cfrc_ext_in_observation": False})
ANT = dataclasses.replace(
    _ANT,
    samples=dataclasses.replace(
        _ANT.samples,
        # Rolling and tipping over, which would come first, ends on the back.
        asks_for=("velocities", "velocities", "lively ways", "ways"),
        # With more noise a quarter of the explorations fall in less than a second.
        exploration_std=0.5,
    ),
    # Physics takes most of the time: more passes over a rollout cost little. In 400,000 steps of a
    # reward for speed 12 reach twice the speed of 5.
    agent=dataclasses.replace(_ANT.agent, n_epochs=12),
)
_HUMANOID = _robot(
    "Humanoid-v5",
    env_kwargs={
        f"include_{part}_in_observation": False
        for part in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
    },
)
HUMANOID = _balancing(
    _HUMANOID,
    steps_per_skill=1_000_000,
    # With more noise hardly any exploration lasts.
    samples=dataclasses.replace(_HUMANOID.samples, exploration_std=1.0),
    agent=dataclasses.replace(_HUMANOID.agent, gamma=0.98),
)

MAZE = Recipe(
    env="skillrl/Maze2D-v0",
    generations=20,
    steps_per_skill=500_000,
    reward=RewardRecipe(target=0.05, steps=500, batch_size=255, hidden=100),
    samples=SampleRecipe(
        num_envs=64,
        negative_steps=201,
        positive_steps=49,
        positive_repeats=2,
        exploration="uniform",
    ),
    guide=GuideRecipe(max_steps=200),
    agent=AgentRecipe(
        batch_size=1_024,
        n_epochs=4,
        learning_rate=3e-4,
        ent_coef=0.005,
        ent_coef_rewarded=0.055,
        reward_scale=1.0,
    ),
)

# The paper's settings where nothing else is said, but for fewer steps of training, which goes on
# where little is earned, and a bounded archive; episodes end after 500 steps or with the game.
MONTEZUMA = Recipe(
    env="skillrl/MontezumaRevenge-v5",
    # With the key that a life got, the next one can open a door.
    env_kwargs={
        "max_episode_steps": 500,
        "terminal_on_life_loss": False,
        "skip_deaths": True,
    },
    steps_per_skill=150_000,
    extension=75_000,
    extensions=4,
    # As much as makes a skill live.
    extend_below=0.2,
    patience=0.0,
    attempts=1,
    # From one room to the next leads a chain of skills, most of whose links turn back.
    parent="frontier",
    # As many steps as in the paper, each of a third of its 729 observations.
    reward=RewardRecipe(
        target=0.05, hidden=256, steps=1_500, max_fits=1, batch_size=256, weight_decay=1e-5
    ),
    samples=SampleRecipe(
        num_envs=32,
        negative_steps=500,
        positive_steps=49,
        # Twice the paper's: some hundredths of what they reach are new.
        positive_repeats=20,
        explores_from="way",
        earned=20.0,
        # Most deaths are falls, which take so long.
        before_end=15,
        exploration="uniform",
        exploration_hold=3.0,
        asks_for=("new cells",),
        archived=2_500,
        archive_size=50_000,
    ),
    guide=GuideRecipe(max_steps=450),
    agent=AgentRecipe(
        num_envs=32,
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        learning_rate=3e-4,
        hidden_learning_rate=1.0,
        ent_coef=0.003,
        ent_coef_rewarded=0.03,
        reward_scale=1.0,
        hidden=(256,),
    ),
    # Not begun anew, as in the paper: it is a long way to where the parent leads.
    transfer=TransferRecipe(head="keep"),
)

# Letters of an environment's name that are enough to name it.
SHORTEST_NAME = 4

RECIPES = {
    recipe.env: recipe for recipe in (HALF_CHEETAH, HOPPER, WALKER, ANT, HUMANOID, MAZE, MONTEZUMA)
}


def recipe_for(env: str) -> Recipe:
    """Return the recipe of the environment with id ``env``, or a generic one for that id.

    An id without a version is given that of the recipe. Of the environments with a recipe, upper
    and lower case do not matter, and the first letters of a name, at least four, will do. An id
    that is registered with Gymnasium stays what it is, and so does one with its package in front.
    Atari's games, such as ``"skillrl/Pong-v5"``, have that of Montezuma's Revenge, but a life lost
    ends their episodes.

    >>> recipe_for("HalfCheetah-v5").steps_per_skill
    800000
    >>> recipe_for("HalfCheetah").env
    'HalfCheetah-v5'
    >>> recipe_for("montezuma").env
    'skillrl/MontezumaRevenge-v5'
    >>> recipe_for("CartPole-v1") == Recipe("CartPole-v1")
    True
    """
    env = env.removeprefix("gymnasium:")
    prefix = "skillrl/" if env.startswith("skillrl/") else ""
    name = env.removeprefix(prefix).lower()
    known = {recipe.env.removeprefix("skillrl/"): recipe for recipe in RECIPES.values()}
    found = [id for id in known if name in (id.lower(), id.lower().rpartition("-v")[0])]
    if not found and len(name) >= SHORTEST_NAME and env not in gym.registry:
        found = [id for id in known if id.lower().rpartition("-v")[0].startswith(name)]
    if len(found) != 1:
        # How long deaths take is known of Montezuma's Revenge alone.
        limit = {"max_episode_steps": MONTEZUMA.env_kwargs["max_episode_steps"]}
        atari = dataclasses.replace(MONTEZUMA, env=env, env_kwargs=limit)
        return atari if _is_atari(env) else Recipe(env=env)
    recipe = known[found[0]]
    full = recipe.env if recipe.env.startswith("skillrl/") else prefix + found[0]
    return dataclasses.replace(recipe, env=full)


def _is_atari(env: str) -> bool:
    """Whether an id is that of a game from pixels, as this package registers them."""
    register_envs()
    return env in gym.registry and str(gym.spec(env).entry_point).startswith("skillrl.envs.atari")
