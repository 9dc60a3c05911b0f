"""Policies of different seeds: what lies between them, before and after alignment.

Eight seeds of Stable-Baselines3's PPO on Pendulum, CartPole and HalfCheetah, of its SAC on
Pendulum, and of recurrent PPO on CartPole without velocities. Of all 28 pairs of seeds the straight
path between the policies is scored at five points, by the mean return of the same 50 episodes
without noise (of HalfCheetah the first 500 steps):

- plain: as they are;
- permutations: units of the second are exchanged, matched by what they do (Benzing et al. 2022);
- signs and phases: units behind tanh are flipped, too, and complex states turned and conjugated
  (behind relu, SAC's, there is nothing more to do);
- by both: the same, matched by what units do and by the weights around them.

A barrier is how far the return falls below the line between the ends, as a share of what the ends
are better than random actions. The untrained policies of a pair are averaged, too: as they are,
with what was done to the trained ones, and with what is drawn at random from the same symmetries.

Given runs of `skillrl discover`, live skills are compared with the skill that they started from,
and with the skill of the next run that does what is most alike, on the mean of the rewards of both.

    python benchmarks/permutation_policies.py                     50 minutes on two cores; resumes
    python benchmarks/permutation_policies.py --skills runs/half-cheetah/neural-rewards/seed-*
    python benchmarks/permutation_policies.py --quick             under 60 seconds

Figures are inter-quartile means over pairs. Pairs share seeds, so that seeds are drawn for the 95 %
bootstrap intervals, and a pair counts as often as both of its seeds together were drawn; of skills
it is runs, of which there should be four or more. Episodes of skills have 500 steps at most.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

from record import OUTCOMES, once, passing_folder, record
from skillrl.agents.comparable import comparable
from skillrl.agents.policy_network import PolicyNetwork
from skillrl.agents.recipes import AgentName, TrainRecipe
from skillrl.agents.returns import Episodes
from skillrl.agents.training import Training
from skillrl.agents.zip_files import save_agent
from skillrl.commands.align import paired
from skillrl.commands.policies import (
    SavedPolicy,
    common_task,
    mean_reward,
    read_policies,
    skill_policy,
)
from skillrl.commands.train import write_recipe
from skillrl.discovery.library import SkillLibrary, load_skill
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.run import discover
from skillrl.errors import InvalidValueError
from skillrl.permutation import Transformation, align, barrier, interpolate

# Where paths are scored between their ends.
INNER = (0.25, 0.5, 0.75)
# What is done to the second policy of a pair: arguments of `align`.
SIDES: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "permutations": {"signs": False, "phases": False},
    "signs and phases": {},
    "by both": {"method": "both"},
}
SKILL_SIDES = ("plain", "signs and phases")
# Pairs of skills of each run, or of each two runs, and the steps of their episodes, at most.
SKILL_PAIRS = 5
SKILL_STEPS = 500
PAIRING_EPISODES = 10
# Barriers up to this connect two policies, as in `skillrl align`.
THRESHOLD = 0.1
DRAWS = 10_000


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


def between(
    policies: Sequence[SavedPolicy], episodes: Episodes, sides: Iterable[str]
) -> tuple[dict[str, Any], dict[str, Transformation]]:
    """Score the paths between two policies, and return what was done to the second one, too."""
    names = [str(each.path) for each in policies]
    found = comparable(names, [each.network for each in policies], episodes)
    a, b = found.networks
    done, paths = {}, {}
    for side in sides:
        arguments = SIDES[side]
        done[side] = (
            Transformation((), ())
            if arguments is None
            else align(a, b, found.inputs, **arguments).transformation
        )
        moved = done[side].apply(b)
        inner = [episodes.mean_return(network(interpolate(a, moved, each))) for each in INNER]
        paths[side] = [found.returns[0], *inner, found.returns[1]]
    known = {"random": found.random, "coordinates": found.coordinates, "paths": paths}
    return known, done


def network(module: nn.Module) -> PolicyNetwork:
    """What interpolating policies makes is a policy."""
    assert isinstance(module, PolicyNetwork)
    return module


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


# ---------------------------------------------------------------------------------------------
# Skills


def skill_pair(job: tuple[str, list[Path], Path, int]) -> dict[str, Any]:
    """What lies between two skills, on the mean of the rewards of both."""
    title, paths, outcomes, count = job
    torch.set_num_threads(1)
    skills = [load_skill(path) for path in paths]

    def find() -> dict[str, Any]:
        policies = [*map(skill_policy, skills)]
        task = common_task(policies)
        steps = min(SKILL_STEPS, task.env_kwargs.get("max_episode_steps", SKILL_STEPS))
        cut = {**task.env_kwargs, "max_episode_steps": steps}
        task = dataclasses.replace(task, env_kwargs=cut)
        with closing(Episodes(task, count, reward=mean_reward(policies))) as episodes:
            try:
                return between(policies, episodes, SKILL_SIDES)[0]
            except InvalidValueError as error:
                return {"refused": str(error)}

    records = [dataclasses.asdict(skill.record) for skill in skills]
    settings = {"skills": records, "episodes": count, "steps": SKILL_STEPS, "alphas": INNER}
    return once(outcomes, title, settings, find)


def alike(job: tuple[list[list[Path]], Path]) -> list[tuple[int, int]]:
    """Pairs of skills of two runs, those first that do what is most alike."""
    folders, outcomes = job
    torch.set_num_threads(1)
    runs = [[load_skill(path) for path in run] for run in folders]

    def find() -> dict[str, Any]:
        found = paired([[*map(skill_policy, run)] for run in runs], PAIRING_EPISODES, seed=0)
        return {"pairs": [[mine, *each[1]] for mine, each in enumerate(found) if 1 in each]}

    records = [[dataclasses.asdict(skill.record) for skill in run] for run in runs]
    settings = {"skills": records, "episodes": PAIRING_EPISODES}
    pairs = once(outcomes, "skills that are alike", settings, find)["pairs"]
    return [(mine, theirs) for mine, theirs, _ in sorted(pairs, key=lambda pair: pair[2])]


def skills(
    folders: Sequence[Path], outcomes: Path, pool: Pool, *, live: bool = True, count: int = 50
) -> dict[str, Any]:
    """Look between skills and those that they started from, and between those of two runs.

    Args:
        folders: of runs.
        outcomes: folder of the files.
        pool: of workers.
        live: whether skills that are not live are left out.
        count: episodes of a return.
    """
    runs = [
        {skill.index: skill for skill in SkillLibrary(folder) if skill.record.live or not live}
        for folder in folders
    ]
    lineages = [
        (number, pair)
        for number, run in enumerate(runs)
        for pair in [
            [skill.path, run[skill.record.parent].path]
            for skill in run.values()
            if skill.record.parent is not None and skill.record.parent in run
        ][:SKILL_PAIRS]
    ]
    # Each run with the next one; of two, there is one such pair.
    rings = [(one, (one + 1) % len(runs)) for one in range(len(runs) if len(runs) > 2 else 1)]
    paths = [[skill.path for skill in run.values()] for run in runs]
    rings = [ring for ring in rings if len({*ring}) == 2 and all(paths[run] for run in ring)]
    found = pool.map(alike, [([paths[run] for run in ring], outcomes) for ring in rings])
    across = [
        (ring, [paths[ring[0]][mine], paths[ring[1]][theirs]])
        for ring, pairs in zip(rings, found, strict=True)
        for mine, theirs in pairs[:SKILL_PAIRS]
    ]
    kinds: dict[str, list[tuple[Any, list[Path]]]] = {"lineage": [*lineages], "across": [*across]}
    return {
        kind: skill_figures(
            [np.atleast_1d(units).tolist() for units, _ in pairs],
            pool.map(skill_pair, [(kind, both, outcomes, count) for _, both in pairs], chunksize=1),
        )
        for kind, pairs in kinds.items()
    }


# ---------------------------------------------------------------------------------------------
# Figures


def interquartile_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of weighted values.

    Args:
        values: ``(n,)``.
        weights: ``(..., n)``.

    >>> interquartile_mean(np.array([9.0, 1.0, 2.0, 4.0]), np.ones(4)).tolist()
    3.0
    """
    order = np.argsort(values)
    shares = np.cumsum(weights[..., order], -1) / weights.sum(-1, keepdims=True)
    inside = np.diff(np.clip(shares, 0.25, 0.75), axis=-1, prepend=0.25)
    return inside @ values[order] / 0.5


def summary(values: Sequence[float], units: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the inter-quartile mean, and a 95 % bootstrap interval over what values belong to.

    Args:
        values: one at least.
        units: of each value, such as the two seeds of a pair. They are drawn, and a value counts
            as often as all its units together were. Of fewer than four there is no interval.
    """
    found, members = np.asarray(values, float), np.unique(units)
    mean = float(interquartile_mean(found, np.ones(len(found))))
    if len(members) < 4:
        return {"mean": mean, "interval": None}
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), DRAWS)
    weights = drawn[:, np.searchsorted(members, units)].prod(-1)
    means = interquartile_mean(found, weights[weights.any(1)])
    return {"mean": mean, "interval": np.quantile(means, [0.025, 0.975]).tolist()}


def figures(problem: Problem, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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
    kept = [pair for pair in pairs if {*pair["seeds"]} <= {*seeds}]
    if not kept:
        return found
    units = [pair["seeds"] for pair in kept]
    heights = {side: heights_of(kept, side) for side in SIDES}
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

    return found | {
        "returns": summary([returns[seed] for seed in seeds], [[seed] for seed in seeds]),
        "barriers": {side: summary(each, units) for side, each in heights.items()},
        "connected": {
            side: float(np.mean(np.array(each) <= THRESHOLD)) for side, each in heights.items()
        },
        "plain minus signs and phases": difference(heights, "plain", "signs and phases"),
        "permutations minus signs and phases": difference(
            heights, "permutations", "signs and phases"
        ),
        "untrained": {side: summary(each, units) for side, each in shares.items()},
        "untrained, signs and phases minus plain": difference(shares, "signs and phases", "plain"),
        "untrained, signs and phases minus drawn": difference(shares, "signs and phases", "drawn"),
    }


def skill_figures(
    units: Sequence[Sequence[int]], pairs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Figures of pairs of skills; those with one that is no better than chance are left out."""
    kept = [
        number
        for number, pair in enumerate(pairs)
        if "paths" in pair
        and min(pair["paths"]["plain"][0], pair["paths"]["plain"][-1]) > pair["random"]
    ]
    found: dict[str, Any] = {"left out": len(pairs) - len(kept), "pairs": pairs, "runs": units}
    if not kept:
        return found
    heights = {side: heights_of([pairs[number] for number in kept], side) for side in SKILL_SIDES}
    own = [units[number] for number in kept]
    return found | {
        "barriers": {side: summary(each, own) for side, each in heights.items()},
        "connected": {
            side: float(np.mean(np.array(each) <= THRESHOLD)) for side, each in heights.items()
        },
    }


def heights_of(pairs: Iterable[Mapping[str, Any]], side: str) -> list[float]:
    """Barriers of pairs."""
    return [barrier(pair["paths"][side], random=pair["random"]) for pair in pairs]


def better_than(random: float, pair: Mapping[str, Any]) -> float:
    """What the ends of a pair are better than random actions, on average."""
    ends = pair["paths"]["plain"]
    return float(ends[0] + ends[-1]) / 2 - random


def quick_runs(folder: Path) -> list[Path]:
    """Two runs of two skills that take seconds."""
    maze = recipe_for("skillrl/Maze2D-v0")
    recipe = dataclasses.replace(
        maze,
        env_kwargs={"max_episode_steps": 50},
        generations=2,
        attempts=1,
        steps_per_skill=512,
        evaluation_episodes=2,
        reward=dataclasses.replace(maze.reward, steps=20, batch_size=48, hidden=16),
        samples=dataclasses.replace(
            maze.samples, num_envs=4, negative_steps=20, positive_steps=5, archived=50
        ),
        agent=dataclasses.replace(
            maze.agent, num_envs=8, n_steps=16, batch_size=64, n_epochs=1, hidden=(16,)
        ),
    )
    runs = [folder / f"seed-{seed}" for seed in range(2)]
    for seed, run in enumerate(runs):
        discover(recipe, run, seed=seed)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument(
        "--skills",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs of `skillrl discover`; without them skills are left out",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/permutation-policies"))
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "permutation_policies")
    options = parser.parse_args()
    problems = quick_problems() if options.quick else PROBLEMS
    if options.quick:
        options.runs = options.outcomes = passing_folder()
        options.skills = quick_runs(options.runs / "skills")
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        results: dict[str, Any] = {
            "tasks": {
                name: figures(
                    problem, study(name, problem, options.runs, options.outcomes, pool)["pairs"]
                )
                for name, problem in problems.items()
            }
        }
        if options.skills:
            count = 4 if options.quick else 50
            results["skills"] = skills(
                options.skills, options.outcomes, pool, live=not options.quick, count=count
            )
    record("permutation_policies", {**results, "alphas": (0, *INNER, 1)}, quick=options.quick)


if __name__ == "__main__":
    main()
