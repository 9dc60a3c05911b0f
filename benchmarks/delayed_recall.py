"""Memory that outlives the chunk: a cue, 1,000 steps of noise, and the question what it was.

With chunks of 16 steps the rule "truncated" learns from the last chunk alone; "online" carries
forward what the cue's chunk owes the parameters.

    python benchmarks/delayed_recall.py                  about 20 minutes; resumes
    python benchmarks/delayed_recall.py --quick          under 60 seconds, a delay of 100
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from record import OUTCOMES, passing_folder, record
from sequences import compared
from skillrl.recurrent import Rule, SequenceRecipe, sequence_recipe_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "delayed_recall")
    options = parser.parse_args()
    base = sequence_recipe_for("recall")
    if options.quick:
        options.seeds, options.outcomes = 1, passing_folder()
        base = dataclasses.replace(base, length=100, horizon=100, updates=50)
    rules: tuple[Rule, ...] = ("online", "truncated", "one_step", "spatial")
    contenders: dict[str, SequenceRecipe] = {
        rule: dataclasses.replace(base, rule=rule) for rule in rules
    }
    contenders["online, r_min 0.9"] = dataclasses.replace(
        contenders["online"], horizon=None, r_min=0.9
    )
    record(
        "delayed_recall",
        {"contenders": compared(contenders, options.outcomes, options.seeds)},
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
