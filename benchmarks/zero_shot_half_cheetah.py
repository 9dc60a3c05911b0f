"""PPO on HalfCheetah's own reward until it earns what the best discovered skill does.

python benchmarks/zero_shot_half_cheetah.py --runs runs/half-cheetah/neural-rewards
python benchmarks/zero_shot_half_cheetah.py --quick             under 60 seconds
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from pathlib import Path
from typing import Any

from comparison import quick
from record import OUTCOMES, once, passing_folder, record
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.run import discover
from skillrl.discovery.zero_shot import steps_to_match


def match(task: tuple[Path, int, Path]) -> dict[str, Any]:
    """What PPO takes to match the best skill of one run."""
    folder, at_most, outcomes = task
    library = SkillLibrary(folder)

    def find() -> dict[str, Any]:
        found = steps_to_match(library, at_most=at_most, seed=library.seed, num_threads=1)
        return {"seed": library.seed, **dataclasses.asdict(found)}

    recipe = dataclasses.asdict(library.recipe)
    settings = {"recipe": recipe, "seed": library.seed, "at_most": at_most}
    return once(outcomes, f"seed {library.seed}", settings, find)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--runs", type=Path, default=Path("runs/half-cheetah/neural-rewards"))
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "zero_shot_half_cheetah")
    parser.add_argument("--steps", type=int, default=2_000_000, help="after which PPO is given up")
    options = parser.parse_args()
    if options.quick:
        options.runs = options.outcomes = passing_folder()
        options.steps = 20_000
        recipe = dataclasses.replace(quick(recipe_for("HalfCheetah-v5")), generations=1)
        discover(recipe, options.runs / "seed-0")
    folders = sorted(options.runs.glob("seed-*"))
    tasks = [(folder, options.steps, options.outcomes) for folder in folders]
    with multiprocessing.get_context("spawn").Pool(multiprocessing.cpu_count()) as pool:
        matches = pool.map(match, tasks, chunksize=1)
    record("zero_shot_half_cheetah", {"matches": matches}, quick=options.quick)


if __name__ == "__main__":
    main()
