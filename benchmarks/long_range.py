"""ListOps, sequential CIFAR and IMDB bytes: all rules, at a size that two cores can train.

Two blocks of 64 components with 32 complex states, and a part of the data, as recorded; `--full`
has the sizes, epochs and data of Zucchet et al. 2023 instead, for a GPU (`--device cuda`).

    python benchmarks/long_range.py --data DIR           resumes where it was stopped
    python benchmarks/long_range.py --data DIR --full --device cuda
    python benchmarks/long_range.py --quick              under 60 seconds, ListOps only

DIR holds `images` (train/CLASS/*.jpg and test) and `reviews` (train/{pos,neg}/*.txt and test).
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from record import OUTCOMES, passing_folder, record
from sequences import compared, searched
from skillrl.recurrent import SequenceRecipe, sequence_recipe_for

RULES: dict[str, dict[str, Any]] = {
    "online, chunks of 32": {"rule": "online", "chunk": 32},
    "truncated, chunks of 32": {"rule": "truncated", "chunk": 32},
    "one_step": {"rule": "one_step", "chunk": 32},
    "spatial": {"rule": "spatial", "chunk": 32},
    "bptt": {"rule": "bptt"},
}
# What two cores can train in minutes: sizes, and the share of the data.
SMALL: dict[str, Any] = {
    "width": 64,
    "state_size": 32,
    "depth": 2,
    "batch_size": 32,
    "updates": 600,
}
PARTS: dict[str, dict[str, Any]] = {
    "listops": {**SMALL, "sequences": 8_000, "length": 400},
    "images": {**SMALL, "sequences": 1_000},
    "reviews": {**SMALL, "sequences": 2_000, "length": 1_024},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--full", action="store_true", help="the paper's settings")
    parser.add_argument("--data", type=Path, help="folder with images and reviews")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "long_range")
    options = parser.parse_args()
    names = ["listops", *(n for n in ("images", "reviews") if options.data)]
    found: dict[str, Any] = {}
    for name in names:
        base = dataclasses.replace(sequence_recipe_for(name), device=options.device)
        if not options.full:
            base = dataclasses.replace(base, **PARTS[name])
        if name != "listops":
            base = dataclasses.replace(base, data=str(options.data / name))
        contenders = {rule: dataclasses.replace(base, **own) for rule, own in RULES.items()}
        found[name] = compare(contenders, options)
    record("long_range", {"tasks": found, "paper's settings": options.full}, quick=options.quick)


def compare(contenders: dict[str, SequenceRecipe], options: argparse.Namespace) -> dict[str, Any]:
    """All rules on one task, each with the better of two learning rates."""
    if options.quick:
        tiny: dict[str, Any] = {"updates": 3, "sequences": 100, "batch_size": 4}
        if next(iter(contenders.values())).task != "images":
            tiny["length"] = 100
        contenders = {rule: dataclasses.replace(r, **tiny) for rule, r in contenders.items()}
        return compared(contenders, passing_folder(), 1)
    updates = next(iter(contenders.values())).updates
    search = {"updates": updates // 4}
    chosen = searched(contenders, options.outcomes, search=search, rates=(1e-3, 4e-3))
    return compared(chosen, options.outcomes, options.seeds)


if __name__ == "__main__":
    main()
