"""Discovery on HalfCheetah, several seeds: how many skills are live, and what they earn.

A skill is live if over 10 episodes from ordinary resets it earns at least 0.2 of the target per
step, and at least twice what the skill before it earns on the same reward.

    python benchmarks/discover_half_cheetah.py                     resumes where it was stopped
    python benchmarks/discover_half_cheetah.py --seeds 4 --skills 10 --runs runs/half-cheetah
    python benchmarks/discover_half_cheetah.py --quick             under 60 seconds
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record
from scipy import stats

from skillrl.discovery.events import Event, SkillFinished
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.run import discover

ENV = "HalfCheetah-v5"


def run(arguments: tuple[int, int, int | None, Path, int]) -> list[dict[str, Any]]:
    """Discover the skills of one seed and return their records."""
    seed, skills, steps, folder, threads = arguments
    torch.set_num_threads(threads)
    recipe = dataclasses.replace(recipe_for(ENV), generations=skills)
    if steps is not None:
        recipe = dataclasses.replace(recipe, steps_per_skill=steps)

    def report(event: Event) -> None:
        if isinstance(event, SkillFinished):
            about = event.skill.record
            print(
                f"seed {seed} skill {about.index}: {about.mean_reward:.2f} of "
                f"{about.target:g}, live: {about.live}, {about.seconds:.0f} s",
                flush=True,
            )

    library = discover(
        recipe,
        folder / f"seed-{seed}",
        seed=seed,
        resume=True,
        num_threads=threads,
        on_event=report,
    )
    return [dataclasses.asdict(skill.record) for skill in library]


def bootstrap(values: list[float]) -> list[float]:
    """Return a 95 % interval of the inter-quartile mean over seeds."""
    rng = np.random.default_rng(0)
    means = stats.trim_mean(rng.choice(values, (10_000, len(values))), 0.25, axis=1)
    return [float(bound) for bound in np.quantile(means, [0.025, 0.975])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--skills", type=int, default=10)
    parser.add_argument("--runs", type=Path, default=Path("runs/half-cheetah"))
    options = parser.parse_args()
    seeds, skills, steps = options.seeds, options.skills, None
    if options.quick:
        seeds, skills, steps = 1, 2, 50_000
        options.runs = Path(tempfile.mkdtemp())
    # Two seeds side by side, a thread each, take less time than one after the other.
    jobs = min(seeds, multiprocessing.cpu_count())
    threads = max(1, multiprocessing.cpu_count() // jobs)
    tasks = [(seed, skills, steps, options.runs, threads) for seed in range(seeds)]
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        runs = pool.map(run, tasks, chunksize=1)

    live = [float(np.mean([skill["live"] for skill in run])) for run in runs]
    recipe = dataclasses.replace(recipe_for(ENV), generations=skills)
    record(
        "discover_half_cheetah",
        {
            "live_share": float(stats.trim_mean(live, 0.25)),
            "live_share_interval": bootstrap(live),
            "live_share_by_seed": live,
            "seeds": list(range(seeds)),
            "recipe": dataclasses.asdict(recipe),
            "jobs_side_by_side": jobs,
            "skills": runs,
        },
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
