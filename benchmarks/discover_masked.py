"""Discovery where velocities are hidden: an agent with a memory against one without.

CartPole shows where the cart is and how the pole leans, and no velocities, without which the pole
cannot be held. Recorded of several seeds: the share of live skills, what skills earn of their
target on average, and how much the cart's position tells about the skill (mutual information, in
nats) in the last 100 of 500 steps in 10 environments, whose episodes begin anew where the pole
falls.

python benchmarks/discover_masked.py                            20 minutes on two cores; resumes
python benchmarks/discover_masked.py --seeds 5 --skills 6 --runs runs/masked
python benchmarks/discover_masked.py --quick                    under 60 seconds
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import gymnasium as gym
import numpy as np

from comparison import parse, parser, run_all, seeds_of
from intervals import bootstrap, inter_quartile_mean
from record import record
from skillrl.discovery.following import follow
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.metrics import mutual_information
from skillrl.discovery.settings import AgentName, AgentRecipe, Recipe
from skillrl.discovery.training import make_envs
from skillrl.envs import MaskVelocity

ENV, STEPS = "MaskedCartPole-v0", 500
EPISODES, LAST = 10, 100

gym.register(
    ENV,
    entry_point=lambda **kwargs: MaskVelocity(gym.make("CartPole-v1", **kwargs).unwrapped),
    max_episode_steps=STEPS,
)


def positions(library: SkillLibrary) -> dict[str, float]:
    """How much the cart's position tells about the skill, in nats."""
    env = make_envs(library.recipe, EPISODES)
    seen = []
    for skill in library:
        act = follow(skill.policy, deterministic=skill.policy.noiseless)
        observations, _ = env.reset(seed=library.seed)
        starts, steps = np.ones(EPISODES, bool), []
        for _ in range(STEPS - 1):
            observations, _, ended, cut, _ = env.step(act(observations, starts))
            starts = ended | cut
            steps.append(observations[:, 0])
        seen.append(np.array(steps[-LAST:]))
    env.close()
    return {"information: position": mutual_information(seen)}


def figures(runs: list[dict[str, Any]], recipe: Recipe) -> dict[str, Any]:
    """Figures by seed, their inter-quartile means, and 95 % bootstrap intervals of these."""
    by_seed: dict[str, list[float]] = {}
    for run in runs:
        skills = run["skills"]
        found = {
            "live": float(np.mean([skill["live"] for skill in skills])),
            "share of target": float(np.mean([s["mean_reward"] / s["target"] for s in skills])),
            **run["more"],
        }
        for name, value in found.items():
            by_seed.setdefault(name, []).append(value)
    return {
        "recipe": dataclasses.asdict(recipe),
        "seeds": [run["seed"] for run in runs],
        **by_seed,
        "mean": {name: inter_quartile_mean(each) for name, each in by_seed.items()},
        "interval": {name: bootstrap(each) for name, each in by_seed.items()},
    }


def main() -> None:
    made = parser(__doc__, seeds=5, skills=6, runs="runs/masked")
    made.add_argument("--agents", nargs="+", choices=get_args(AgentName), default=list(AGENTS))
    options = parse(made)
    recipes = {
        name: dataclasses.replace(AGENTS[name], generations=options.skills)
        for name in options.agents
    }
    if options.quick:
        recipes = {n: dataclasses.replace(r, steps_per_skill=4_096) for n, r in recipes.items()}
    runs = run_all(recipes, options, dict.fromkeys(recipes, seeds_of(options)), positions)
    found = {name: figures(runs[name], recipe) for name, recipe in recipes.items()}
    record("discover_masked", {"agents": found}, quick=options.quick)


BASE = Recipe(
    ENV,
    steps_per_skill=150_000,
    patience=0.0,
    attempts=1,
    # All layers learn as fast as those of the agent with a memory.
    agent=AgentRecipe(hidden_learning_rate=1.0),
)
# As deep as the agent with a memory, which has an encoder of 128 units in front of it.
AGENTS: dict[str, Recipe] = {
    "ppo": dataclasses.replace(BASE, agent=dataclasses.replace(BASE.agent, hidden=(128, 128, 128))),
    "recurrent-ppo": dataclasses.replace(BASE, algorithm="recurrent-ppo"),
}

if __name__ == "__main__":
    main()
