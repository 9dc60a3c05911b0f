"""What each part of the recipe does on HalfCheetah: the recipe without it, several seeds.

Every skill takes 500,000 steps, in every variant.

python benchmarks/ablations_half_cheetah.py                     resumes where it was stopped
python benchmarks/ablations_half_cheetah.py --seeds 3 --skills 8 --runs runs/ablations
python benchmarks/ablations_half_cheetah.py --quick             under 60 seconds
"""

from __future__ import annotations

import dataclasses
from typing import Any

from comparison import figures, parse, parser, quick, run_all, seeds_of
from record import record
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.settings import Recipe

# Recipe fields, with dots, that differ from the recipe.
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "value reuse": {"transfer.reuse_value": True},
    "no feature reuse": {"transfer.reuse_features": False},
    "restarts": {"restarts.share": 0.5},
    "guide": {"guide.max_steps": 200},
    "no archive": {"samples.archived": 0},
    "noise in actions": {"samples.exploration": "scaled-noise", "samples.exploration_std": 1.0},
    "asks for all": {"samples.asks_for": ("all",)},
    "the paper's loop": {
        "parent": "last",
        "reward.steps": 300,
        "reward.batch_size": 171,
        "reward.max_fits": 1,
        "samples.asks_for": ("all",),
        "samples.exploration": "scaled-noise",
        "samples.exploration_std": 1.0,
        "transfer.head": "zero",
        "transfer.reuse_value": True,
        "agent.final_noise": 1.0,
    },
}


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with other values of some fields."""
    for name, value in changes.items():
        part, _, field = name.rpartition(".")
        if part:
            value = dataclasses.replace(getattr(recipe, part), **{field: value})
        recipe = dataclasses.replace(recipe, **{part or field: value})
    return recipe


def main() -> None:
    made = parser(__doc__, seeds=3, skills=8, runs="runs/ablations")
    made.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parse(made)
    recipe = dataclasses.replace(
        recipe_for("HalfCheetah-v5"),
        generations=options.skills,
        # All variants take as many steps: no skill ends early, and none is tried again.
        steps_per_skill=500_000,
        patience=0.0,
        attempts=1,
    )
    if options.quick:
        options.variants, recipe = ["recipe", "restarts"], quick(recipe)
    variants = {name: changed(recipe, VARIANTS[name]) for name in options.variants}
    runs = run_all(variants, options, dict.fromkeys(variants, seeds_of(options)))
    found = {name: figures(runs[name], variant) for name, variant in variants.items()}
    record("ablations_half_cheetah", {"variants": found}, quick=options.quick)


if __name__ == "__main__":
    main()
