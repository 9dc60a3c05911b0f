"""Methods of discovery compared: the same agent, networks, environments and steps, several seeds.

Each run is a folder ``RUNS/METHOD/seed-N``, which is resumed where it was stopped; two run side by
side, a core each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from record import record
from skillrl.discovery.events import Event, SkillFinished
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.metrics import growing_variety
from skillrl.discovery.recipes import Recipe, SampleRecipe, recipe_for
from skillrl.discovery.run import discover
from skillrl.files import write_json

METHODS = ("neural-rewards", "diayn", "metra", "random-rewards")


def parser(doc: str, *, seeds: int, skills: int, runs: str) -> argparse.ArgumentParser:
    """The command line that all comparisons have; the script's docstring describes it."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    made.add_argument("--seeds", type=int, default=seeds)
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--skills", type=int, default=skills)
    made.add_argument("--runs", type=Path, default=Path(runs))
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line."""
    options = made.parse_args()
    if options.quick:
        options.seeds, options.skills, options.runs = 1, 2, Path(tempfile.mkdtemp())
    return options


def quick(recipe: Recipe) -> Recipe:
    """A recipe that takes seconds."""
    return dataclasses.replace(
        recipe,
        steps_per_skill=4_096,
        attempts=1,
        evaluation_episodes=1,
        evaluation_steps=200,
        samples=dataclasses.replace(recipe.samples, num_envs=8, positive_repeats=4),
        reward=dataclasses.replace(recipe.reward, steps=200),
    )


Measure = Callable[[SkillLibrary], dict[str, float]]


def nothing_more(library: SkillLibrary) -> dict[str, float]:
    """Measure no more of a run than all comparisons do."""
    return {}


def compare_methods(
    doc: str, env: str, *, seeds: int, skills: int, runs: str, measure: Measure = nothing_more
) -> None:
    """Compare all methods on an environment, and record the figures under the script's name.

    ``measure`` gives further figures of a run.
    """
    made = parser(doc, seeds=seeds, skills=skills, runs=runs)
    made.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    made.add_argument(
        "--few", nargs="*", choices=METHODS, default=[], help="methods with three seeds only"
    )
    options = parse(made)
    recipe = quick(recipe_for(env)) if options.quick else recipe_for(env)
    recipe = dataclasses.replace(recipe, generations=options.skills)
    found: dict[str, Any] = {}
    for method in options.methods:
        variant = dataclasses.replace(recipe, method=method)
        if method == "metra":
            # It sends skills far apart, and has to see how far they are, as its authors' agents do.
            seen = {**variant.env_kwargs, "exclude_current_positions_from_observation": False}
            variant = dataclasses.replace(variant, env_kwargs=seen)
        if method in ("diayn", "metra"):
            # As many passes over a rollout as the agent makes.
            passes = dataclasses.replace(variant.diayn, epochs=variant.agent.n_epochs)
            variant = dataclasses.replace(variant, diayn=passes)
        if method != "neural-rewards":
            # As many steps in all as our own skills took, which may end early and be tried again.
            steps = budget(options.runs, found) or recipe.steps_per_skill
            variant = dataclasses.replace(variant, steps_per_skill=steps, attempts=1, patience=0.0)
        seeds_used = seeds_of(options)[: 3 if method in options.few else None]
        found[method] = figures(
            run_all(variant, options.runs / method, seeds_used, measure), variant
        )
    name = Path(sys.argv[0]).stem
    record(name, {"methods": found}, quick=options.quick)


def seeds_of(options: argparse.Namespace) -> range:
    """The seeds that the command line asks for."""
    return range(options.first_seed, options.first_seed + options.seeds)


def budget(runs: Path, found: dict[str, Any]) -> int | None:
    """The mean steps of our own skills, those of their samples included, kept beside the runs."""
    path = runs / "steps_per_skill.json"
    if "neural-rewards" in found:
        samples = SampleRecipe(**found["neural-rewards"]["recipe"]["samples"])
        # The last skill and the parent are followed, and explored from.
        gathered = samples.num_envs * (
            2 * samples.negative_steps + samples.positive_repeats * samples.positive_steps
        )
        trained = np.mean(found["neural-rewards"]["steps_per_skill"])
        write_json(path, {"steps": round(trained + gathered)})
    return int(json.loads(path.read_text(encoding="utf-8"))["steps"]) if path.exists() else None


def run_all(
    recipe: Recipe, folder: Path, seeds: Sequence[int], measure: Measure = nothing_more
) -> list[dict[str, Any]]:
    """Discover with several seeds, and return what is known of each run."""
    jobs = min(len(seeds), multiprocessing.cpu_count())
    threads = max(1, multiprocessing.cpu_count() // jobs)
    tasks = [(recipe, folder / f"seed-{seed}", seed, threads, measure) for seed in seeds]
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        return pool.map(_run, tasks, chunksize=1)


def _run(task: tuple[Recipe, Path, int, int, Measure]) -> dict[str, Any]:
    recipe, folder, seed, threads, measure = task
    torch.set_num_threads(threads)

    def report(event: Event) -> None:
        if isinstance(event, SkillFinished):
            known = event.skill.record
            print(
                f"{recipe.method} seed {seed} skill {known.index}: {known.mean_reward:.2f} of "
                f"{known.target:.3g}, live: {known.live}, {known.steps:,} steps, "
                f"{known.seconds:.0f} s: {known.descriptors and known.descriptors.name}",
                flush=True,
            )

    library = discover(recipe, folder, seed=seed, resume=True, num_threads=threads, on_event=report)
    return summary(library, measure)


def summary(library: SkillLibrary, measure: Measure = nothing_more) -> dict[str, Any]:
    """What is known of a finished run; the watching, which takes long, is done once."""
    path = library.path / "variety.json"
    if not path.exists() or len(json.loads(path.read_text())["growing"]) != len(library):
        # As many trajectories as evaluation has: ten, as in the paper, unless in a hurry.
        known = growing_variety(library, episodes=library.recipe.evaluation_episodes)
        growing = [dataclasses.asdict(each) for each in known]
        write_json(path, {"growing": growing, "more": measure(library)})
    records = [dataclasses.asdict(skill.record) for skill in library]
    return {"seed": library.seed, **json.loads(path.read_text("utf-8")), "skills": records}


def figures(runs: Sequence[dict[str, Any]], recipe: Recipe) -> dict[str, Any]:
    """Figures by seed, and their inter-quartile means with a 95 % bootstrap interval.

    Of fewer than four seeds the inter-quartile mean is the mean.
    """
    by_seed: dict[str, list[float]] = {}
    for run in runs:
        for name, value in _figures_of(run).items():
            by_seed.setdefault(name, []).append(value)
    return {
        "recipe": dataclasses.asdict(recipe),
        "seeds": [run["seed"] for run in runs],
        **by_seed,
        "mean": {name: float(stats.trim_mean(each, 0.25)) for name, each in by_seed.items()},
        "interval": {name: bootstrap(each) for name, each in by_seed.items()},
        "growing": [run["growing"] for run in runs],
        "skills": [run["skills"] for run in runs],
    }


def _figures_of(run: dict[str, Any]) -> dict[str, float]:
    skills, known = run["skills"], run["growing"][-1]
    found = {
        "live": known["live"],
        "steps_per_skill": float(np.mean([skill["steps"] for skill in skills])),
        "minutes": sum(skill["seconds"] for skill in skills) / 60,
        "bound": known["bound"],
        **{f"information: {name}": nats for name, nats in known["information"].items()},
        "distinct": known["distinct"],
        "coverage": known["coverage"],
        "task_return": known["task_return"],
    }
    bodies = [skill["descriptors"] for skill in skills]
    for name, field, best in (
        ("fastest forwards", "forward_velocity", max),
        ("fastest backwards", "forward_velocity", min),
        ("front somersaults", "front_somersaults", max),
        ("back somersaults", "back_somersaults", max),
    ):
        found[name] = best(body[field] for body in bodies)
    found |= run.get("more", {})
    found["upside_down"] = float(np.mean([body["upside_down"] for body in bodies]))
    return {name: float(value) for name, value in found.items() if value is not None}


def bootstrap(values: Sequence[float]) -> list[float]:
    """Return a 95 % interval of the inter-quartile mean over seeds."""
    rng = np.random.default_rng(0)
    means = stats.trim_mean(rng.choice(values, (10_000, len(values))), 0.25, axis=1)
    return [float(bound) for bound in np.quantile(means, [0.025, 0.975])]
