"""Trainings on sequence tasks, two side by side, each kept in a folder and not repeated."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intervals import bootstrap, inter_quartile_mean
from record import once
from skillrl.errors import DivergedError
from skillrl.recurrent import SequenceRecipe
from skillrl.recurrent.training import make_network, make_task, train

LEARNING_RATES = (1e-3, 3e-3, 1e-2)
KEYS = ("test_loss", "test_accuracy")
# Updates in all that take less time than starting a process for each training.
SHORT = 1_000


def run_all(
    recipes: Iterable[SequenceRecipe], folder: Path
) -> dict[SequenceRecipe, dict[str, Any]]:
    """Train each recipe, unless the folder knows what comes out."""
    wanted = list(dict.fromkeys(recipes))
    tasks = [(recipe, folder) for recipe in wanted]
    # A GPU has memory for one.
    jobs = None if all(recipe.device == "cpu" for recipe in wanted) else 1
    if sum(recipe.updates for recipe in wanted) < SHORT:
        return {recipe: _run((recipe, folder)) for recipe in wanted}
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        return dict(zip(wanted, pool.imap(_run, tasks), strict=True))


def _run(task: tuple[SequenceRecipe, Path]) -> dict[str, Any]:
    recipe, folder = task
    title = (
        f"{recipe.task} {recipe.layer} {recipe.rule} chunk {recipe.chunk} depth {recipe.depth} "
        f"rate {recipe.learning_rate} seed {recipe.seed}"
    )

    def find() -> dict[str, Any]:
        torch.set_num_threads(1)
        # Units that saturate pass on less than a normal number, with which CPUs are slow.
        torch.set_flush_denormal(True)
        problem = make_task(recipe)
        network = make_network(recipe, problem)
        try:
            outcome = dataclasses.asdict(train(network, problem, recipe))
        except DivergedError as error:
            # A learning rate that is too high is a finding.
            outcome = {"diverged": str(error), "test_loss": None, "test_accuracy": None}
        print(f"{title}: loss {outcome['test_loss']}, right {outcome['test_accuracy']}", flush=True)
        return outcome

    # Where the data lies makes no difference.
    return once(folder, title, {**dataclasses.asdict(recipe), "data": None}, find)


def searched(
    contenders: Mapping[str, SequenceRecipe],
    folder: Path,
    *,
    search: Mapping[str, Any],
    rates: Sequence[float] = LEARNING_RATES,
) -> tuple[dict[str, SequenceRecipe], dict[str, dict[str, float | None]]]:
    """Choose each contender's learning rate by its training loss at the end of a shorter training.

    What decides is the mean loss of the last fifth of the updates.

    Args:
        contenders: recipes by name.
        folder: of the trainings.
        search: fields that differ in the search, such as the number of updates.
        rates: that are tried.

    Returns:
        The contenders with their learning rates, and the losses by contender and rate; None of
        trainings that diverged.
    """
    trials = {
        (name, rate): dataclasses.replace(recipe, learning_rate=rate, seed=1_000, **search)
        for name, recipe in contenders.items()
        for rate in rates
    }
    outcomes = run_all(trials.values(), folder)

    def loss(name: str, rate: float) -> float:
        curve = outcomes[trials[name, rate]].get("curve", [])
        last = curve[-math.ceil(len(curve) / 5) :]
        return float(np.mean([point["loss"] for point in last])) if last else math.inf

    found = {name: {rate: loss(name, rate) for rate in rates} for name in contenders}
    chosen = {
        name: dataclasses.replace(recipe, learning_rate=min(rates, key=found[name].__getitem__))
        for name, recipe in contenders.items()
    }
    losses = {
        name: {f"{rate:g}": each if math.isfinite(each) else None for rate, each in own.items()}
        for name, own in found.items()
    }
    return chosen, losses


def compared(
    contenders: Mapping[str, SequenceRecipe], folder: Path, seeds: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Train every contender with several seeds; losses, accuracies, curves and settings."""
    runs = {
        (name, seed): dataclasses.replace(recipe, seed=seed)
        for name, recipe in contenders.items()
        for seed in seeds
    }
    outcomes = run_all(runs.values(), folder)
    found: dict[str, dict[str, Any]] = {}
    for name, recipe in contenders.items():
        own = [outcomes[runs[name, seed]] for seed in seeds]
        settings = {**dataclasses.asdict(recipe), "data": None}
        known = [each for each in own if each["test_loss"] is not None]
        found[name] = {
            # Over seeds that did not diverge: inter-quartile means, with 95 % intervals.
            "diverged": len(own) - len(known),
            "mean": {
                key: inter_quartile_mean([e[key] for e in known]) if known else None for key in KEYS
            },
            "interval": {
                key: bootstrap([e[key] for e in known]) if known else None for key in KEYS
            },
            "outcomes": own,
            "recipe": settings,
            "seeds": [*seeds],
        }
    return found
