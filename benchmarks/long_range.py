"""ListOps, sequential CIFAR and IMDB bytes: all rules, at a size that two cores can train.

Two blocks of 64 components with 32 complex states, updates of 32 sequences, and a part of the data:
2,400 updates on 8,000 expressions of 100 to 400 tokens and 800 to test on; 600 on 10,000 of
CIFAR-10's 50,000 images and all of its test images, and on 4,000 of IMDB's 25,000 reviews, as many
to test on, the first 1,024 bytes of each. `--full` has the sizes, epochs and data of Zucchet et al.
2023 instead, for a GPU (`--device cuda`).

Answers are a mean over all steps: in chunks each learns from the answer so far, by "bptt" from the
whole one.

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

import torch
from torch import Tensor

from record import OUTCOMES, passing_folder, record
from sequences import compared, searched
from skillrl.recurrent import SequenceRecipe, sequence_recipe_for
from skillrl.recurrent.tasks import ListOps
from skillrl.recurrent.tasks.task import Batch
from skillrl.recurrent.training import make_task

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
}
PARTS: dict[str, dict[str, Any]] = {
    # Some seeds begin to learn after 600 updates alone.
    "listops": {**SMALL, "sequences": 8_000, "length": 400, "updates": 2_400},
    "images": {**SMALL, "sequences": 1_000, "updates": 600},
    "reviews": {**SMALL, "sequences": 2_000, "length": 1_024, "updates": 600},
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
    """All rules on one task, each with its best learning rate."""
    if options.quick:
        tiny: dict[str, Any] = {"updates": 3, "sequences": 100, "batch_size": 4}
        if next(iter(contenders.values())).task != "images":
            tiny["length"] = 100
        contenders = {rule: dataclasses.replace(r, **tiny) for rule, r in contenders.items()}
        return {"contenders": compared(contenders, passing_folder(), range(1))}
    first = next(iter(contenders.values()))
    search = {"updates": first.updates // 4}
    chosen, losses = searched(contenders, options.outcomes, search=search)
    task = make_task(first)
    return {
        "contenders": compared(chosen, options.outcomes, range(options.seeds)),
        "chance": task.chance,
        "root alone": by_root(task) if isinstance(task, ListOps) else None,
        "search": {**search, "losses": losses},
    }


def by_root(task: ListOps) -> float:
    """Accuracy on the test set of who knows an expression's first token alone."""
    counts = torch.zeros(task.input_size, task.output_size)
    for batch in task.batches("train", 100, seed=0):
        counts.index_put_((_roots(batch), batch.targets), torch.tensor(1.0), accumulate=True)
    likeliest, right = counts.argmax(1), []
    for batch in task.batches("test", 100, seed=0):
        right.append(likeliest[_roots(batch)] == batch.targets)
    return float(torch.cat(right).float().mean())


def _roots(batch: Batch) -> Tensor:
    """The first token of each expression."""
    assert batch.starts is not None  # they are of different lengths
    begins = batch.starts.int().argmax(0)
    return batch.values.gather(0, begins[None])[0].long()


if __name__ == "__main__":
    main()
