"""Skills: what lies between each and its parent, and between the most alike of two runs.

Given runs of `skillrl discover`, live skills are compared with the skill that they started from,
and with the skill of the next run that does what is most alike. The straight path between the two
policies is scored at five points, by the mean return of the same 50 episodes without noise, on the
mean of the rewards of both: as they are, and aligned, that is with units of the second exchanged
and, behind tanh, flipped (the recipes' silu units can be neither flipped nor scaled). A barrier is
how far the return falls below the line between the ends, as a share of what the ends are better
than random actions. Episodes have 500 steps at most.

    python benchmarks/permutation_skills.py runs/half-cheetah/neural-rewards/seed-*     resumes
    python benchmarks/permutation_skills.py --quick                               under 60 seconds

Figures are inter-quartile means over pairs. Pairs share runs, so that runs are drawn for the 95 %
bootstrap intervals; there should be four or more.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch

from barriers import INNER, barrier_figures, between, heights_of
from record import OUTCOMES, once, passing_folder, record
from skillrl.agents.returns import Episodes
from skillrl.commands.align import paired
from skillrl.commands.policies import common_task, mean_reward, skill_policy
from skillrl.discovery.library import SkillLibrary, load_skill
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.run import discover
from skillrl.errors import InvalidValueError

# What is done to the second skill of a pair.
SIDES = ("plain", "signs and phases")
# Pairs of skills of each run, or of each two runs, and the steps of their episodes, at most.
PAIRS = 5
STEPS = 500
PAIRING_EPISODES = 10


def skill_pair(job: tuple[str, list[Path], Path, int]) -> dict[str, Any]:
    """What lies between two skills, on the mean of the rewards of both."""
    title, paths, outcomes, count = job
    torch.set_num_threads(1)
    skills = [load_skill(path) for path in paths]

    def find() -> dict[str, Any]:
        policies = [*map(skill_policy, skills)]
        task = common_task(policies)
        steps = min(STEPS, task.env_kwargs.get("max_episode_steps", STEPS))
        cut = {**task.env_kwargs, "max_episode_steps": steps}
        task = dataclasses.replace(task, env_kwargs=cut)
        with closing(Episodes(task, count, reward=mean_reward(policies))) as episodes:
            try:
                return between(policies, episodes, SIDES)[0]
            except InvalidValueError as error:
                return {"refused": str(error)}

    records = [dataclasses.asdict(skill.record) for skill in skills]
    settings = {"skills": records, "episodes": count, "steps": STEPS, "alphas": INNER}
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
        ][:PAIRS]
    ]
    # Each run with the next one; of two, there is one such pair.
    rings = [(one, (one + 1) % len(runs)) for one in range(len(runs) if len(runs) > 2 else 1)]
    paths = [[skill.path for skill in run.values()] for run in runs]
    rings = [ring for ring in rings if len({*ring}) == 2 and all(paths[run] for run in ring)]
    found = pool.map(alike, [([paths[run] for run in ring], outcomes) for ring in rings])
    across = [
        (ring, [paths[ring[0]][mine], paths[ring[1]][theirs]])
        for ring, pairs in zip(rings, found, strict=True)
        for mine, theirs in pairs[:PAIRS]
    ]
    kinds: dict[str, list[tuple[Any, list[Path]]]] = {"lineage": [*lineages], "across": [*across]}
    return {
        kind: skill_figures(
            [np.atleast_1d(units).tolist() for units, _ in pairs],
            pool.map(skill_pair, [(kind, both, outcomes, count) for _, both in pairs], chunksize=1),
        )
        for kind, pairs in kinds.items()
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
    heights = {side: heights_of([pairs[number] for number in kept], side) for side in SIDES}
    own = [units[number] for number in kept]
    return found | barrier_figures(heights, own)


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
        "runs", type=Path, nargs="*", metavar="RUN", help="runs of `skillrl discover`"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="pairs at a time")
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "permutation_skills")
    options = parser.parse_args()
    if options.quick:
        options.outcomes = passing_folder()
        options.runs = quick_runs(options.outcomes / "runs")
    elif not options.runs:
        parser.error("no runs: name folders of `skillrl discover`, or try --quick")
    count = 4 if options.quick else 50
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        found = skills(options.runs, options.outcomes, pool, live=not options.quick, count=count)
    record("permutation_skills", {"kinds": found, "alphas": (0, *INNER, 1)}, quick=options.quick)


if __name__ == "__main__":
    main()
