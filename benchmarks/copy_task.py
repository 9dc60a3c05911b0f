"""The copy task: learning rules and architectures at the size of Zucchet et al. 2023.

Four blocks of 128 components, 64 complex states each; recurrent trace units, a dense linear RNN and
a GRU of about as many parameters. The learning rate of each is chosen by the same search in shorter
trainings with a seed of its own; then several seeds. Beside it, with one seed: the smallest
eigenvalue at the start, and the depth.

    python benchmarks/copy_task.py                       resumes where it was stopped
    python benchmarks/copy_task.py --updates 10000      as many as in the paper
    python benchmarks/copy_task.py --quick               under 60 seconds
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

from record import OUTCOMES, passing_folder, record
from sequences import LEARNING_RATES, compared, searched
from skillrl.recurrent import sequence_recipe_for

# As many steps as a sequence has: of rules that cut at every step anyway.
WHOLE = 40
# All have about 270,000 parameters.
LINEAR_RTU: dict[str, Any] = {"layer": "linear-rtu", "rule": "online", "state_size": 85}
NONLINEAR_RTU: dict[str, Any] = {"layer": "nonlinear-rtu", "rule": "online", "state_size": 85}
CONTENDERS: dict[str, dict[str, Any]] = {
    "LRU, online, chunks of 1": {"rule": "online", "chunk": 1},
    "LRU, online, chunks of 16": {"rule": "online", "chunk": 16},
    "LRU, truncated, chunks of 16": {"rule": "truncated", "chunk": 16},
    "LRU, one_step": {"rule": "one_step", "chunk": WHOLE},
    "LRU, spatial": {"rule": "spatial", "chunk": WHOLE},
    "LRU, bptt": {"rule": "bptt"},
    "linear RTU, online, chunks of 1": {**LINEAR_RTU, "chunk": 1},
    "linear RTU, online, chunks of 16": {**LINEAR_RTU, "chunk": 16},
    "non-linear RTU, online, chunks of 1": {**NONLINEAR_RTU, "chunk": 1},
    "non-linear RTU, online, chunks of 16": {**NONLINEAR_RTU, "chunk": 16},
    "linear RNN, truncated, chunks of 16": {
        "layer": "linear-rnn",
        "rule": "truncated",
        "chunk": 16,
        "width": 146,
    },
    "linear RNN, snap1": {"layer": "linear-rnn", "rule": "snap1", "width": 146},
    "linear RNN, bptt": {"layer": "linear-rnn", "rule": "bptt", "width": 146},
    "GRU, snap1": {"layer": "gru", "rule": "snap1", "state_size": 91, "width": 91},
    "GRU, truncated, chunks of 16": {
        "layer": "gru",
        "rule": "truncated",
        "chunk": 16,
        "state_size": 91,
        "width": 91,
    },
    "GRU, bptt": {"layer": "gru", "rule": "bptt", "state_size": 91, "width": 91},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=1_000, help="the paper has 10,000")
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "copy_task")
    options = parser.parse_args()
    base = dataclasses.replace(sequence_recipe_for("copy"), updates=options.updates)
    contenders = {name: dataclasses.replace(base, **c) for name, c in CONTENDERS.items()}
    rates: tuple[float, ...] = (*LEARNING_RATES, 3e-2)
    search: dict[str, Any] = {"updates": options.updates // 5}
    if options.quick:
        options.seeds, options.outcomes, rates = 1, passing_folder(), (3e-3,)
        small: dict[str, Any] = {
            "updates": 4,
            "batch_size": 4,
            "length": 5,
            "depth": 2,
            "sequences": 100,
        }
        contenders = {name: dataclasses.replace(r, **small) for name, r in contenders.items()}
        base, search = dataclasses.replace(base, **small), {}
    chosen, losses = searched(contenders, options.outcomes, search=search, rates=rates)
    online = chosen["LRU, online, chunks of 16"]
    bptt = chosen["LRU, bptt"]
    swept: dict[str, tuple[Any, ...]] = {
        "r_min": (0.0, 0.5, 0.75, 0.9),
        "depth": (1, 2, 3, 4, 5),
    }
    sweeps = {
        f"{rule}, {field} {value}": dataclasses.replace(recipe, **{field: value})
        for rule, recipe in (("online, chunks of 16", online), ("bptt", bptt))
        for field, values in swept.items()
        for value in values
    }
    record(
        "copy_task",
        {
            "contenders": compared(chosen, options.outcomes, range(options.seeds)),
            "sweeps": compared(sweeps, options.outcomes, range(1)),
            "untrained loss": math.log(2),
            "search": {**search, "losses": losses},
        },
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
