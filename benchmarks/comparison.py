"""Methods of discovery compared: the same agent, networks, environments and steps, several seeds.

Each run is a folder ``RUNS/CONTENDER/seed-N``, which is resumed where it was stopped; two run side
by side, a core each. What a finished run came to is kept elsewhere: its folder may go.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intervals import bootstrap, inter_quartile_mean
from record import OUTCOMES, once, passing_folder, record
from skillrl.discovery.events import Event, SkillFinished
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.metrics import growing_variety
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.run import discover
from skillrl.discovery.settings import Recipe

RIVALS = ("diayn", "random-rewards", "metra")
# The entropy's weights that DIAYN is tried with: our own recipe was tuned, its agent for us alone.
ENTROPIES = (6e-4, 6e-3, 3e-2)
# The seed of trials that only choose settings.
SEARCH_SEED = 1_000


def parser(doc: str, *, seeds: int, skills: int, runs: str) -> argparse.ArgumentParser:
    """The command line that all comparisons have; the script's docstring describes it."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    made.add_argument("--seeds", type=int, default=seeds)
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--skills", type=int, default=skills)
    made.add_argument("--runs", type=Path, default=Path(runs), help="folder of the runs")
    made.add_argument(
        "--outcomes",
        type=Path,
        default=OUTCOMES / Path(sys.argv[0]).stem,
        help="folder of what they came to",
    )
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line."""
    options = made.parse_args()
    if options.quick:
        options.seeds, options.skills = 1, 2
        options.runs = options.outcomes = passing_folder()
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
    doc: str,
    env: str,
    *,
    seeds: int,
    skills: int,
    runs: str,
    measure: Measure = nothing_more,
    search: float = 0.5,
) -> None:
    """Compare our method with others on an environment, and record it under the script's name.

    ``measure`` gives further figures of a run, and ``search`` is the share of the steps that a
    trial of DIAYN's settings takes.
    """
    made = parser(doc, seeds=seeds, skills=skills, runs=runs)
    made.add_argument("--rivals", nargs="*", choices=RIVALS, default=list(RIVALS))
    made.add_argument(
        "--few", nargs="*", choices=RIVALS, default=[], help="rivals with three seeds only"
    )
    options = parse(made)
    recipe = quick(recipe_for(env)) if options.quick else recipe_for(env)
    recipe = dataclasses.replace(recipe, generations=options.skills)
    wanted = seeds_of(options)
    ours = run_all({"neural-rewards": recipe}, options, {"neural-rewards": wanted}, measure)
    # Decided once: with more seeds of ours the rivals' runs, which are known, stay what they are.
    settings = {"recipe": dataclasses.asdict(recipe)}
    steps = once(
        *(options.outcomes, "budget", settings),
        lambda: {"steps": budget(ours["neural-rewards"])},
    )["steps"]
    rivals = {method: rival(recipe, method, steps) for method in options.rivals}
    trials: dict[str, float] = {}
    if "diayn" in rivals and not options.quick:
        rivals["diayn"], trials = searched(rivals["diayn"], options, search)
    few = {method: wanted[: 3 if method in options.few else None] for method in rivals}
    found = ours | run_all(rivals, options, few, measure)
    recipes = {"neural-rewards": recipe, **rivals}
    methods = {name: figures(runs, recipes[name]) for name, runs in found.items()}
    known = {"methods": methods, "trials of diayn": trials}
    record(Path(sys.argv[0]).stem, known, quick=options.quick)


def searched(
    recipe: Recipe, options: argparse.Namespace, share: float
) -> tuple[Recipe, dict[str, float]]:
    """Choose the weight of the entropy by shorter trials with a seed of their own.

    ``share`` is that of the steps.

    Returns:
        The recipe with the weight whose skills differ most, and how much they did in each trial:
        the mutual information in nats, of all dimensions together.
    """
    variants = {
        f"diayn, entropy {weight:g}": dataclasses.replace(
            recipe,
            steps_per_skill=round(recipe.steps_per_skill * share),
            agent=dataclasses.replace(recipe.agent, ent_coef=weight, ent_coef_rewarded=weight),
        )
        for weight in ENTROPIES
    }
    runs = run_all(variants, options, dict.fromkeys(variants, (SEARCH_SEED,)))
    information = {
        name: sum(run["growing"][-1]["information"].values()) for name, (run,) in runs.items()
    }
    best = variants[max(information, key=lambda name: information[name])]
    return dataclasses.replace(recipe, agent=best.agent), information


def rival(recipe: Recipe, method: Any, steps: int) -> Recipe:
    """The recipe of another method with the same agent and as many steps a skill."""
    env_kwargs, diayn = recipe.env_kwargs, recipe.diayn
    if method == "metra":
        # It sends skills far apart, and has to see how far they are, as its authors' agents do.
        env_kwargs = {**env_kwargs, "exclude_current_positions_from_observation": False}
    if method in ("diayn", "metra"):
        # As many passes over a rollout as the agent makes.
        diayn = dataclasses.replace(diayn, epochs=recipe.agent.n_epochs)
    return dataclasses.replace(
        recipe,
        method=method,
        env_kwargs=env_kwargs,
        diayn=diayn,
        steps_per_skill=steps,
        # Our own skills end early, and are tried again; the budget is what they took on average.
        attempts=1,
        patience=0.0,
    )


def budget(runs: Sequence[dict[str, Any]]) -> int:
    """The mean steps of a skill."""
    return round(np.mean([all_steps(skill) for run in runs for skill in run["skills"]]))


def all_steps(skill: Mapping[str, Any]) -> int:
    """The environment steps of a skill: its training, and the samples that led to its reward."""
    return int(skill["steps"] + skill["sample_steps"])


def seeds_of(options: argparse.Namespace) -> range:
    """The seeds that the command line asks for."""
    return range(options.first_seed, options.first_seed + options.seeds)


@dataclass(frozen=True)
class Run:
    """A run to do, unless it is known what it comes to."""

    name: str
    recipe: Recipe
    seed: int
    threads: int
    folder: Path
    outcomes: Path
    measure: Measure


def run_all(
    recipes: Mapping[str, Recipe],
    options: argparse.Namespace,
    seeds: Mapping[str, Sequence[int]],
    measure: Measure = nothing_more,
) -> dict[str, list[dict[str, Any]]]:
    """Discover by all recipes with several seeds, and return what is known of each run.

    Args:
        recipes: by names.
        options: of the command line, which names the folders.
        seeds: of each.
        measure: gives further figures of a run.
    """
    jobs = min(sum(map(len, seeds.values())), multiprocessing.cpu_count())
    if jobs == 0:
        return {}
    threads = multiprocessing.cpu_count() // jobs
    runs = [
        Run(name, recipe, seed, threads, folder / f"seed-{seed}", options.outcomes, measure)
        for name, recipe in recipes.items()
        for folder in [options.runs / name.replace(" ", "-").replace("'", "")]
        for seed in seeds[name]
    ]
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        outcomes = iter(pool.map(outcome, runs, chunksize=1))
    return {name: [next(outcomes) for _ in own] for name, own in seeds.items()}


def outcome(run: Run) -> dict[str, Any]:
    """What is known of a run, which is done where nothing is."""
    settings = {"recipe": dataclasses.asdict(run.recipe), "seed": run.seed}
    return once(run.outcomes, f"{run.name} seed {run.seed}", settings, lambda: summary(run))


def summary(run: Run) -> dict[str, Any]:
    """Do a run, or the rest of it, and watch its skills."""
    torch.set_num_threads(run.threads)

    def report(event: Event) -> None:
        if isinstance(event, SkillFinished):
            known = event.skill.record
            print(
                f"{run.name} seed {run.seed} skill {known.index}: {known.mean_reward:.2f} of "
                f"{known.target:.3g}, live: {known.live}, {known.steps:,} steps, "
                f"{known.seconds:.0f} s: {known.descriptors and known.descriptors.name}",
                flush=True,
            )

    library = discover(
        *(run.recipe, run.folder),
        seed=run.seed,
        resume=True,
        num_threads=run.threads,
        on_event=report,
    )
    # As many trajectories as evaluation has: ten, as in the paper, unless in a hurry.
    growing = growing_variety(library, episodes=run.recipe.evaluation_episodes)
    return {
        "seed": run.seed,
        "growing": [dataclasses.asdict(each) for each in growing],
        "more": run.measure(library),
        "skills": [dataclasses.asdict(skill.record) for skill in library],
    }


def figures(runs: Sequence[dict[str, Any]], recipe: Recipe) -> dict[str, Any]:
    """Figures by seed, and their inter-quartile means with a 95 % bootstrap interval.

    Of fewer than four seeds the inter-quartile mean is the mean. What a run has no figure for is
    None, and left out of the mean.
    """
    found = [_figures_of(run, recipe) for run in runs]
    by_seed = {name: [each[name] for each in found] for name in found[0]}
    known = {name: [v for v in each if v is not None] for name, each in by_seed.items()}
    known = {name: each for name, each in known.items() if each}
    return {
        "recipe": dataclasses.asdict(recipe),
        "seeds": [run["seed"] for run in runs],
        **{name: each for name, each in by_seed.items() if name in known},
        "mean": {name: inter_quartile_mean(each) for name, each in known.items()},
        "interval": {name: bootstrap(each) for name, each in known.items()},
        "growing": [run["growing"] for run in runs],
        "skills": [run["skills"] for run in runs],
    }


def _figures_of(run: dict[str, Any], recipe: Recipe) -> dict[str, float | None]:
    skills, known = run["skills"], run["growing"][-1]
    # Only ours have rewards that ask for what is new, and are judged by them.
    ours = recipe.method == "neural-rewards"
    bodies = [skill["descriptors"] for skill in skills]
    # Of HalfCheetah, which cannot fall, some outcomes are older than these figures.
    steady = [(body.get("falls") or 0.0) < 0.5 for body in bodies]
    seconds = [body["seconds"] for body in bodies if body.get("seconds") is not None]
    found = {
        "live": known["live"] if ours else None,
        "falls": 1 - float(np.mean(steady)),
        "seconds": float(np.mean(seconds)) if seconds else None,
        "steps_per_skill": float(np.mean([all_steps(skill) for skill in skills])),
        "minutes": sum(skill["seconds"] for skill in skills) / 60,
        "bound": known["bound"],
        **{f"information: {name}": nats for name, nats in known["information"].items()},
        "distinct": known["distinct"],
        "coverage": known["coverage"],
        "task_return": known["task_return"],
    }
    for name, field, best in (
        ("fastest forwards", "forward_velocity", max),
        ("fastest backwards", "forward_velocity", min),
        ("front somersaults", "front_somersaults", max),
        ("back somersaults", "back_somersaults", max),
    ):
        # Who dives is fast, too.
        lasts = [body[field] for body, lasts in zip(bodies, steady, strict=True) if lasts]
        found[name] = best(lasts, default=None)
    found |= run.get("more", {})
    found["upside_down"] = float(np.mean([body["upside_down"] for body in bodies]))
    return found
