"""Image classifiers of different seeds: what lies between them, before and after alignment.

Pairs of seeds are trained as in Benzing et al. 2022 (arXiv 2209.07509), aligned, and scored at 11
points of the path between them, with and without REPAIR; so are averaged initialisations: as they
are, permuted as the trained networks are, and permuted as those of the next pair are (the control).

- CIFAR-10 and MNIST with one hidden layer of 1,000 units, of which there are 10 pairs, and 5 of all
  others; of MNIST 10,000 images are there, of which every fifth is tested on;
- sweeps of the width with one layer, and of the depth with 512 units;
- three layers of 512 after 1,000 updates, aligned by activations, by weights, and by both;
- convolutional networks of half the paper's width, at a small and at a large learning rate;
  2,000 images are tested on.

    python benchmarks/permutation_supervised.py --data DIR     80 minutes on two cores; resumes
    python benchmarks/permutation_supervised.py --quick        under 60 seconds, on drawn images

DIR holds `cifar10` (train/CLASS/*.jpg and test, or binary batches) and `mnist` (IDX files).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from record import OUTCOMES, once, passing_folder, record
from skillrl.errors import DivergedError
from skillrl.images import read_images
from skillrl.permutation import barrier
from skillrl.permutation.recipes import STUDY_RECIPES, Method, StudyRecipe
from skillrl.permutation.study import (
    ALPHAS,
    Examples,
    aligned,
    control,
    curve,
    mean_and_error,
    measured,
    trained_pair,
)

MIDDLE = ALPHAS.index(0.5)
ENDS = (0, -1)


@dataclass(frozen=True)
class Setting:
    """One row of the results.

    Attributes:
        images: name of the images.
        recipe: of the networks.
        others: methods by which pairs are aligned besides the recipe's own.
        tested: test images of each class; all if None.
    """

    images: str
    recipe: StudyRecipe
    others: tuple[Method, ...] = ()
    tested: int | None = None


def settings() -> dict[str, Setting]:
    """All settings, by name."""
    dense, convolutional = STUDY_RECIPES["dense"], STUDY_RECIPES["convolutional"]
    replace = dataclasses.replace
    # What the claims are made of.
    main = replace(dense, pairs=10)
    found = {
        "CIFAR-10, 1 × 1,000": Setting("cifar10", main),
        "MNIST, 1 × 1,000": Setting("mnist", main),
    }
    for width in (64, 250, 2_000):
        found[f"CIFAR-10, 1 × {width:,}"] = Setting("cifar10", replace(dense, width=width))
    for depth in (1, 2, 3, 5):
        recipe = replace(dense, width=512, depth=depth)
        found[f"CIFAR-10, {depth} × 512"] = Setting("cifar10", recipe)
        found[f"MNIST, {depth} × 512"] = Setting("mnist", recipe)
    found["CIFAR-10, 3 × 512, 1,000 updates"] = Setting(
        "cifar10", replace(dense, width=512, depth=3, updates=1_000), ("weights", "both")
    )
    for rate in (1e-3, 1e-2):
        recipe = replace(convolutional, width=32, learning_rate=rate)
        name = f"CIFAR-10, convolutional, learning rate {rate:g}"
        found[name] = Setting("cifar10", recipe, ("both",), tested=200)
    return found


def with_pairs(setting: Setting, pairs: int) -> Setting:
    """The same setting with another number of pairs."""
    return dataclasses.replace(setting, recipe=dataclasses.replace(setting.recipe, pairs=pairs))


def quick_settings() -> dict[str, Setting]:
    """Two tiny ones."""
    recipe = dataclasses.replace(STUDY_RECIPES["dense"], width=20, updates=20, pairs=2)
    small = StudyRecipe("convolutional", width=4, updates=5, pairs=2)
    return {
        "drawn, 1 × 20": Setting("drawn", recipe, ("both",)),
        "drawn, convolutional": Setting("drawn", small),
    }


@functools.cache
def examples(folder: Path, images: str, tested: int | None) -> Examples:
    """The images of a setting; those that are drawn have a bright row for each class."""
    if images == "drawn":
        generator = np.random.default_rng(0)
        labels = np.arange(300) % 4
        pixels = generator.integers(0, 150, (300, 1, 8, 8)).astype(np.uint8)
        pixels[np.arange(300), 0, labels] += 100
        return Examples((pixels[:200], labels[:200]), (pixels[200:], labels[200:]))
    train, test = (
        read_images(folder / images, "train"),
        read_images(folder / images, "test", tested),
    )
    return Examples((train.pixels, train.labels), (test.pixels, test.labels))


@dataclass(frozen=True)
class Task:
    """A pair of a setting, and where its outcome is kept."""

    setting: Setting
    number: int
    data: Path
    outcomes: Path

    @property
    def title(self) -> str:
        recipe = self.setting.recipe
        size = f"{recipe.depth}x{recipe.width} {recipe.updates} {recipe.learning_rate:g}"
        return f"{self.setting.images} {recipe.network} {size} pair {self.number}"

    def examples(self) -> Examples:
        return examples(self.data, self.setting.images, self.setting.tested)


def run(task: Task) -> dict[str, Any]:
    """Train, align and score one pair, unless the folder knows what comes out."""
    settings = {**dataclasses.asdict(task.setting), "pair": task.number}
    # A pair is the same, however many there are.
    del settings["recipe"]["pairs"]
    return once(task.outcomes, task.title, settings, lambda: outcome_of(task))


def outcome_of(task: Task) -> dict[str, Any]:
    """Train, align and score one pair."""
    torch.set_num_threads(1)
    recipe, images = task.setting.recipe, task.examples()
    try:
        pair = trained_pair(recipe, images, task.number)
        outcome = dataclasses.asdict(measured(recipe, pair, images))
        a, b = pair.trained
        for method in task.setting.others:
            other = aligned(dataclasses.replace(recipe, method=method), pair, images).apply(b)
            for repaired in (False, True):
                name = f"aligned by {method}{', repaired' if repaired else ''}"
                path = curve(a, other, images, repaired=repaired)
                outcome["curves"][name] = dataclasses.asdict(path)
    except DivergedError as error:
        # A learning rate that is too high is a finding.
        outcome = {"diverged": str(error)}
    print(task.title, outcome.get("diverged", ""), flush=True)
    return outcome


def run_control(task: tuple[Task, Sequence[Sequence[int]]]) -> float:
    """Accuracy of a pair's averaged initialisations, permuted as another pair is."""
    torch.set_num_threads(1)
    pair, permutations = task
    return control(pair.setting.recipe, pair.examples(), pair.number, permutations)


def summary(outcomes: Sequence[dict[str, Any]], controls: Sequence[float]) -> dict[str, Any]:
    """Means and standard errors over pairs."""

    def over_pairs(values: Sequence[float] | np.ndarray) -> dict[str, float]:
        return dict(zip(("mean", "error"), mean_and_error(values), strict=True))

    def scores(name: str, figure: str) -> np.ndarray:
        return np.array([outcome["curves"][name][figure] for outcome in outcomes])

    plain = scores("plain", "accuracy")
    better = plain[:, ENDS].max(1)
    # The recipe's own method is the published matching.
    published = scores("aligned", "accuracy")[:, MIDDLE]
    initial = {
        name: np.array([outcome["initial"][name] for outcome in outcomes])
        for name in ("plain", "aligned")
    } | {"control": np.array(controls)}
    paths = {}
    for name in outcomes[0]["curves"]:
        accuracies = scores(name, "accuracy")
        paths[name] = {
            "middle": over_pairs(accuracies[:, MIDDLE]),
            "middle minus better end": over_pairs(accuracies[:, MIDDLE] - better),
            # Of the same pairs: errors of two means say little about their difference.
            "middle minus aligned": over_pairs(accuracies[:, MIDDLE] - published),
            "barrier of accuracy": over_pairs([barrier(each) for each in accuracies]),
            **{
                f"barrier of {figure}": over_pairs(
                    [barrier(each, losses=True) for each in scores(name, figure)]
                )
                for figure in ("loss", "tuned_loss")
            },
            **{
                figure: {"mean": means.tolist(), "error": errors.tolist()}
                for figure in ("accuracy", "loss", "tuned_loss")
                for means, errors in [np.array([*map(mean_and_error, scores(name, figure).T)]).T]
            },
        }
    return {
        "ends": over_pairs(plain[:, ENDS].mean(1)),
        "better end": over_pairs(better),
        "paths": paths,
        "initial": {name: over_pairs(values) for name, values in initial.items()},
        "initial, aligned minus control": over_pairs(initial["aligned"] - initial["control"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--data", type=Path, help="folder with cifar10 and mnist")
    parser.add_argument("--pairs", type=int, help="of every setting, in the place of its own")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "permutation_supervised")
    options = parser.parse_args()
    if not (options.quick or options.data):
        parser.error("--data names the folder with cifar10 and mnist")
    if options.pairs is not None and options.pairs < 2:
        parser.error("--pairs should be at least 2: the control is another pair")
    wanted = quick_settings() if options.quick else settings()
    if options.pairs is not None:
        wanted = {name: with_pairs(setting, options.pairs) for name, setting in wanted.items()}
    outcomes = passing_folder() if options.quick else options.outcomes
    tasks = {
        name: [
            Task(setting, number, options.data or Path(), outcomes)
            for number in range(setting.recipe.pairs)
        ]
        for name, setting in wanted.items()
    }
    found: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(2 if options.quick else options.jobs) as pool:
        # By images, which every process keeps in memory; convolutions, which take longest, first.
        order = sorted(
            (task for each in tasks.values() for task in each),
            key=lambda task: (task.setting.recipe.network, task.setting.images),
        )
        outcomes = dict(zip(order, pool.imap(run, order), strict=True))
        for name, setting in wanted.items():
            own = [outcomes[task] for task in tasks[name]]
            known = [number for number, each in enumerate(own) if "diverged" not in each]
            found[name] = {"diverged": len(own) - len(known), "pairs": own}
            if len(known) > 1:
                following = [*known[1:], known[0]]
                controls = pool.map(
                    run_control,
                    [
                        (tasks[name][one], own[other]["permutations"])
                        for one, other in zip(known, following, strict=True)
                    ],
                )
                found[name] |= summary([own[number] for number in known], controls)
                found[name]["controls"] = controls
            found[name]["recipe"] = dataclasses.asdict(setting.recipe)
    for each in found.values():
        # What the files of the pairs hold besides.
        each["pairs"] = [
            {key: value for key, value in pair.items() if key != "permutations"}
            for pair in each["pairs"]
        ]
    record("permutation_supervised", {"settings": found, "alphas": ALPHAS}, quick=options.quick)


if __name__ == "__main__":
    main()
