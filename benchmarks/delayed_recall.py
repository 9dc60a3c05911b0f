"""Memory that outlives the chunk: a cue, 1,000 steps of noise, and the question what it was.

With chunks of 16 steps the rule "truncated" learns from the last chunk alone; "online" carries
forward what the cue's chunk owes the parameters. At first all states keep a part of the cue
(horizon=1,000), mixed with noise as large as itself at every step: "recurrence untrained" is what
can be read from them as they are. With r_min=0.99 few do, and with r_min=0.9 none. The learning
rate of each is chosen by the same search with a seed of its own.

    python benchmarks/delayed_recall.py                  about 2 hours; resumes
    python benchmarks/delayed_recall.py --quick          under 60 seconds, a delay of 100
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from record import OUTCOMES, passing_folder, record
from sequences import LEARNING_RATES, compared, searched
from skillrl.recurrent import SequenceRecipe, sequence_recipe_for

CONTENDERS: dict[str, dict[str, Any]] = {
    "online": {},
    "truncated": {"rule": "truncated"},
    "one_step": {"rule": "one_step"},
    "spatial": {"rule": "spatial"},
    "recurrence untrained": {"rule": "truncated", "recurrent_share": 0.0},
    "online, r_min 0.99": {"horizon": None, "r_min": 0.99},
    "truncated, r_min 0.99": {"rule": "truncated", "horizon": None, "r_min": 0.99},
    "online, r_min 0.9": {"horizon": None, "r_min": 0.9},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "delayed_recall")
    options = parser.parse_args()
    base = sequence_recipe_for("recall")
    rates: tuple[float, ...] = LEARNING_RATES
    if options.quick:
        options.seeds, options.outcomes, rates = 1, passing_folder(), (3e-3,)
        base = dataclasses.replace(base, length=100, horizon=100, updates=20)
    contenders: dict[str, SequenceRecipe] = {
        name: dataclasses.replace(base, **own) for name, own in CONTENDERS.items()
    }
    search = {"updates": base.updates // 2}
    chosen, losses = searched(contenders, options.outcomes, search=search, rates=rates)
    # Others than those that the recipe was tried with.
    seeds = range(10, 10 + options.seeds)
    record(
        "delayed_recall",
        {
            "contenders": compared(chosen, options.outcomes, seeds),
            "chance": 0.5,
            "search": {**search, "losses": losses},
        },
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
