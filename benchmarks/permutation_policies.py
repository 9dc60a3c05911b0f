"""Policies of different seeds: what lies between them, before and after alignment.

Eight seeds of Stable-Baselines3's PPO on Pendulum, CartPole and HalfCheetah, of its SAC on
Pendulum, and of recurrent PPO on CartPole without velocities. Of all 28 pairs of seeds the straight
path between the policies is scored at five points, by the mean return of the same 50 episodes
without noise (of HalfCheetah the first 500 steps):

- plain: as they are;
- permutations: units of the second are exchanged, matched by what they do (Benzing et al. 2022);
- signs and phases: units behind tanh are flipped, too, and complex states turned and conjugated
  (behind relu, as in SAC, there is none of that);
- scales: units behind relu and complex states are, besides, scaled to the size that they have in
  the first policy (of tanh units, PPO's, none can be, and this is left out);
- by both: signs and phases, matched by what units do and by the weights around them.

A barrier is how far the return falls below the line between the ends, as a share of what the ends
are better than random actions. The untrained policies of a pair are averaged, too: as they are,
with what was done to the trained ones, and with what is drawn at random from the same symmetries.
Of the robot is told what each policy does, and which other is the closest: modes may be gaits. The
barriers between them are drawn beside the results.

    python benchmarks/permutation_policies.py                   50 minutes on two cores; resumes
    python benchmarks/permutation_policies.py --tasks PPO*      some of them, which are not recorded
    python benchmarks/permutation_policies.py --quick           under 60 seconds

Figures are inter-quartile means over pairs. Pairs share seeds, so that seeds are drawn for the 95 %
bootstrap intervals, and a pair counts as often as both of its seeds together were drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from barriers import (
    INNER,
    SIDES,
    THRESHOLD,
    barrier_figures,
    between,
    heights_of,
    network,
    summary,
)
from record import OUTCOMES, RESULTS, once, passing_folder, record
from skillrl.agents.policy_network import PolicyNetwork
from skillrl.agents.recipes import AgentName, TrainRecipe
from skillrl.agents.returns import Episodes
from skillrl.agents.training import Training
from skillrl.agents.zip_files import save_agent
from skillrl.commands.policies import common_task, read_policies
from skillrl.commands.train import write_recipe
from skillrl.discovery.descriptors import describe, feet_of
from skillrl.permutation import Transformation, interpolate
from skillrl.report.barriers import plot_barriers

# Episodes in which is seen what a robot does.
ROBOTS = 10


@dataclass(frozen=True)
class Problem:
    """Policies that are trained from several seeds, and how they are scored."""

    recipe: TrainRecipe
    seeds: int = 8
    episodes: int = 50
    limit: int | None = None
    """Steps after which an episode is cut when policies are scored; None for the task's own."""

    def folder(self, runs: Path) -> Path:
        """The run, such as `skillrl train` writes it."""
        recipe = self.recipe
        what = f"{recipe.env}-{recipe.agent}{'-masked' if recipe.mask_velocity else ''}"
        return runs / f"{what.lower()}-{recipe.timesteps}"


def recipe(env: str, agent: AgentName, steps: int, **more: Any) -> TrainRecipe:
    """Settings of a training that is evaluated at its end alone."""
    return TrainRecipe(env, agent, steps, eval_every=steps, **more)


PROBLEMS = {
    "PPO, Pendulum": Problem(
        recipe(
            *("Pendulum-v1", "ppo", 150_000),
            n_envs=4,
            agent_kwargs={"n_steps": 1_024, "gamma": 0.9, "learning_rate": 1e-3},
        )
    ),
    "PPO, CartPole": Problem(
        recipe(
            *("CartPole-v1", "ppo", 100_000),
            n_envs=8,
            agent_kwargs={
                "n_steps": 32,
                "batch_size": 256,
                "n_epochs": 20,
                "gamma": 0.98,
                "gae_lambda": 0.8,
                "learning_rate": 1e-3,
            },
        )
    ),
    "PPO, HalfCheetah": Problem(
        recipe(
            *("HalfCheetah-v5", "ppo", 1_000_000),
            n_envs=64,
            normalize=True,
            agent_kwargs={"n_steps": 64, "batch_size": 1_024},
        ),
        limit=500,
    ),
    "SAC, Pendulum": Problem(
        recipe("Pendulum-v1", "sac", 8_000, agent_kwargs={"learning_rate": 1e-3})
    ),
    "recurrent PPO, CartPole without velocities": Problem(
        recipe(
            *("CartPole-v1", "recurrent-ppo", 150_000),
            n_envs=8,
            mask_velocity=True,
            normalize=True,
            agent_kwargs={"n_steps": 128, "batch_size": 512, "chunk": 32, "learning_rate": 1e-3},
            policy_kwargs={"cell": "lru"},  # whose states may be turned
        )
    ),
}


def quick_problems() -> dict[str, Problem]:
    """Two that take seconds."""
    brief = {"n_steps": 64, "batch_size": 64}
    return {
        name: dataclasses.replace(
            PROBLEMS[name],
            recipe=dataclasses.replace(
                PROBLEMS[name].recipe, timesteps=steps, eval_episodes=1, agent_kwargs=arguments
            ),
            seeds=2,
            episodes=4,
            limit=100,
        )
        for name, steps, arguments in (
            ("PPO, CartPole", 2_048, brief),
            ("recurrent PPO, CartPole without velocities", 1_024, {**brief, "chunk": 16}),
        )
    }


# ---------------------------------------------------------------------------------------------
# Training


def finished(folder: Path) -> bool:
    """Whether a seed's training has come to its end."""
    return (folder / "agent.zip").exists() and not (folder / "checkpoint.zip").exists()


def train(job: tuple[TrainRecipe, Path, int]) -> None:
    """Train one seed, from its checkpoint if there is one, and keep it as it was at first, too."""
    recipe, folder, seed = job
    if finished(folder):
        return
    torch.set_num_threads(1)
    with closing(Training(recipe, folder, seed, resume=True)) as training:
        if training.steps == 0:
            save_agent(training.agent, folder / "initial.zip")
        training.learn(Logger(None, []))
        print(f"{folder}: return {training.evaluations[-1].mean:.1f}", flush=True)


# ---------------------------------------------------------------------------------------------
# Pairs


def seed_pair(job: tuple[Problem, Path, tuple[int, int]]) -> dict[str, Any]:
    """What lies between two seeds, and between them before they were trained."""
    problem, runs, seeds = job
    torch.set_num_threads(1)
    folders = [problem.folder(runs) / f"seed-{seed:03d}" for seed in seeds]
    trained = read_policies([folder / "agent.zip" for folder in folders])
    untrained = read_policies([folder / "initial.zip" for folder in folders])
    task = common_task(trained)
    if problem.limit is not None:
        cut = {"max_episode_steps": problem.limit}
        task = dataclasses.replace(task, env_kwargs={**task.env_kwargs, **cut})
    with closing(Episodes(task, problem.episodes)) as episodes:
        found, done = between(trained, episodes, SIDES)
        groups = done["signs and phases"].groups
        done["drawn"] = Transformation.random(groups, np.random.default_rng(seeds))
        a, b = (each.network for each in untrained)
        averaged = {
            side: episodes.mean_return(network(interpolate(a, each.apply(b), 0.5)))
            for side, each in done.items()
        }
        ends = [episodes.mean_return(each) for each in (a, b)]
    return {"seeds": seeds, **found, "untrained": {"ends": ends, "averaged": averaged}}


def study(name: str, problem: Problem, runs: Path, outcomes: Path, pool: Pool) -> dict[str, Any]:
    """Train all seeds of a problem, and look between all pairs."""

    def find() -> dict[str, Any]:
        write_recipe(problem.folder(runs), problem.recipe, problem.seeds)
        jobs = [
            (problem.recipe, problem.folder(runs) / f"seed-{seed:03d}", seed)
            for seed in range(problem.seeds)
        ]
        pool.map(train, jobs, chunksize=1)
        pairs = [(problem, runs, pair) for pair in combinations(range(problem.seeds), 2)]
        return {"pairs": pool.map(seed_pair, pairs, chunksize=1)}

    settings = {"problem": dataclasses.asdict(problem), "sides": SIDES, "alphas": INNER}
    found = once(outcomes, name, settings, find)
    print(f"{name}: {len(found['pairs'])} pairs", flush=True)
    return found


@dataclass(frozen=True)
class Acting:
    """Acts as `describe` wants it."""

    network: PolicyNetwork

    def predict(self, observation: Any, state: Any, starts: Any, _: bool) -> tuple[np.ndarray, Any]:
        """Return actions without noise, and the next state."""
        return self.network.predict(observation, state, starts)


def described(job: tuple[Problem, Path, int]) -> dict[str, Any]:
    """What the robot of a trained seed does."""
    problem, runs, seed = job
    torch.set_num_threads(1)
    (policy,) = read_policies([problem.folder(runs) / f"seed-{seed:03d}" / "agent.zip"])
    task = common_task([policy])
    acting: Any = Acting(policy.network)
    steps = problem.limit or 1_000
    found = describe(acting, task.env, task.env_kwargs, episodes=ROBOTS, steps=steps)
    assert found is not None
    return {"name": found.name, **dataclasses.asdict(found)}


def behaviours(
    name: str, problem: Problem, runs: Path, outcomes: Path, pool: Pool
) -> list[dict[str, Any]]:
    """What the robots of all seeds do; nothing where there are none."""
    if feet_of(problem.recipe.env, problem.recipe.env_kwargs) is None:
        return []

    def find() -> dict[str, Any]:
        jobs = [(problem, runs, seed) for seed in range(problem.seeds)]
        return {"behaviours": pool.map(described, jobs, chunksize=1)}

    settings = {"problem": dataclasses.asdict(problem), "episodes": ROBOTS}
    found: list[dict[str, Any]] = once(outcomes, f"{name}, behaviours", settings, find)[
        "behaviours"
    ]
    return found


# ---------------------------------------------------------------------------------------------
# Figures


def figures(
    problem: Problem, pairs: Sequence[Mapping[str, Any]], does: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Figures of the pairs of a problem; seeds that are no better than chance are left out."""
    random = pairs[0]["random"]
    returns: dict[int, float] = {}
    for pair in pairs:
        ends = pair["paths"]["plain"]
        returns |= {pair["seeds"][0]: ends[0], pair["seeds"][1]: ends[-1]}
    seeds = [seed for seed, earned in sorted(returns.items()) if earned > random]
    found: dict[str, Any] = {
        "recipe": dataclasses.asdict(problem.recipe),
        "episodes": {"count": problem.episodes, "limit": problem.limit},
        "random": random,
        "seeds": seeds,
        "left out": [seed for seed in sorted(returns) if seed not in seeds],
        "pairs": pairs,
    }
    if does:
        found["behaviours"] = [
            {"seed": seed, "return": returns[seed], **each, **closest(seed, pairs)}
            for seed, each in enumerate(does)
        ]
    kept = [pair for pair in pairs if {*pair["seeds"]} <= {*seeds}]
    if not kept:
        return found
    units = [pair["seeds"] for pair in kept]
    heights = {side: heights_of(kept, side) for side in kept[0]["paths"]}
    # On the way from random actions to what the trained policies earn.
    shares = {
        side: [
            (pair["untrained"]["averaged"][side] - random) / better_than(random, pair)
            for pair in kept
        ]
        for side in kept[0]["untrained"]["averaged"]
    }
    shares["ends"] = [
        (np.mean(pair["untrained"]["ends"]) - random) / better_than(random, pair) for pair in kept
    ]

    def difference(of: Mapping[str, Sequence[float]], one: str, other: str) -> dict[str, Any]:
        return summary(np.subtract(of[one], of[other]).tolist(), units)

    if "scales" in heights:
        found["signs and phases minus scales"] = difference(heights, "signs and phases", "scales")
    return found | {
        "returns": summary([returns[seed] for seed in seeds], [[seed] for seed in seeds]),
        **barrier_figures(heights, units),
        "plain minus signs and phases": difference(heights, "plain", "signs and phases"),
        "permutations minus signs and phases": difference(
            heights, "permutations", "signs and phases"
        ),
        "untrained": {side: summary(each, units) for side, each in shares.items()},
        "untrained, signs and phases minus plain": difference(shares, "signs and phases", "plain"),
        "untrained, signs and phases minus drawn": difference(shares, "signs and phases", "drawn"),
    }


def closest(seed: int, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The seed with the lowest barrier to one, matched by what units do and by weights."""
    own = [pair for pair in pairs if seed in pair["seeds"]]
    heights = heights_of(own, "by both")
    best = int(np.argmin(heights))
    (other,) = {*own[best]["seeds"]} - {seed}
    return {"closest": other, "barrier": heights[best]}


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw the barriers between a robot's policies, as they are and matched by both."""
    does = found["behaviours"]
    before, after = (barrier_matrix(found["pairs"], side) for side in ("plain", "by both"))
    ways = [
        "on its back" if each["upside_down"] > 0.5 else f"{each['forward_velocity']:.1f} m/s"
        for each in does
    ]
    labels = [f"{each['seed']}: {way}" for each, way in zip(does, ways, strict=True)]
    plot_barriers(path, before.tolist(), after.tolist(), THRESHOLD, labels)


def barrier_matrix(pairs: Sequence[Mapping[str, Any]], side: str) -> np.ndarray:
    """Barriers between all seeds, ``(seeds, seeds)``, symmetric."""
    count = 1 + max(pair["seeds"][1] for pair in pairs)
    found = np.zeros((count, count))
    for pair, height in zip(pairs, heights_of(pairs, side), strict=True):
        i, j = pair["seeds"]
        found[i, j] = found[j, i] = height
    return found


def better_than(random: float, pair: Mapping[str, Any]) -> float:
    """What the ends of a pair are better than random actions, on average."""
    ends = pair["paths"]["plain"]
    return float(ends[0] + ends[-1]) / 2 - random


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--tasks", default="*", help="pattern of names; others are left out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/permutation-policies"))
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "permutation_policies")
    options = parser.parse_args()
    problems = quick_problems() if options.quick else PROBLEMS
    problems = {name: p for name, p in problems.items() if fnmatch.fnmatch(name, options.tasks)}
    if options.quick:
        options.runs = options.outcomes = passing_folder()
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        tasks = {
            name: figures(
                problem,
                study(name, problem, options.runs, options.outcomes, pool)["pairs"],
                behaviours(name, problem, options.runs, options.outcomes, pool),
            )
            for name, problem in problems.items()
        }
    recorded = not options.quick and options.tasks == "*"
    if recorded:
        draw(tasks["PPO, HalfCheetah"], RESULTS / "permutation_policies.png")
    record(
        "permutation_policies",
        {"tasks": tasks, "alphas": (0, *INNER, 1)},
        quick=not recorded,
    )


if __name__ == "__main__":
    main()
