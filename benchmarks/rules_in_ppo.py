"""What the learning rule and the refresh of carries do in RecurrentPPO.

The rules "online", "truncated", "bptt" (a rollout is one chunk) and "spatial", and with "online"
carries that are swept anew before each epoch, corrected to first order before each gradient step,
or left as they were: on CartPole without velocities, POPGym's RepeatPrevious, and a T-maze of 100
cells. Chunks have 16 steps; all else is as in ``memory_tasks.py``, with one learning rate and other
seeds.

    python benchmarks/rules_in_ppo.py            45 minutes on two cores; resumes
    python benchmarks/rules_in_ppo.py --quick    under 60 seconds
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from memory_tasks import PROBLEMS, Problem, contenders, quick
from record import OUTCOMES, passing_folder, record
from returns import Training, compared

TASKS = ("CartPole", "RepeatPrevious", "T-maze 100")
CHUNK = 16
RATE = 1e-3
# What is chosen here, memory_tasks.py judges with other seeds.
FIRST_SEED = 100
VARIANTS: dict[str, dict[str, str]] = {
    "online": {},
    "online, corrected to first order": {"refresh": "first-order"},
    "online, no refresh": {"refresh": "none"},
    "truncated": {"rule": "truncated"},
    "bptt over the rollout": {"rule": "bptt"},
    "spatial": {"rule": "spatial"},
}


def variant(problem: Problem, rule: str = "online", refresh: str = "sweep") -> Training:
    """Our agent with another rule or refresh."""
    ours = contenders(problem)["skillrl"]
    changes = {
        "learning_rate": RATE,
        "chunk": problem.n_steps if rule == "bptt" else CHUNK,
        "refresh": refresh,
        "policy_kwargs": {**ours.settings["policy_kwargs"], "rule": rule},
    }
    return dataclasses.replace(ours, settings={**ours.settings, **changes})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "rules_in_ppo")
    options = parser.parse_args()
    problems = {name: PROBLEMS[name] for name in TASKS}
    if options.quick:
        options.seeds, options.outcomes = 1, passing_folder()
        problems = {name: quick(problems[name]) for name in TASKS[:2]}
    trainings: dict[Any, Training] = {
        (task, name): variant(problem, **changes)
        for task, problem in problems.items()
        for name, changes in VARIANTS.items()
    }
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    found = compared(trainings, options.outcomes, options.workers, seeds)
    record(
        "rules_in_ppo",
        {
            "tasks": {task: {name: found[task, name] for name in VARIANTS} for task in problems},
            "chunk": CHUNK,
        },
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
