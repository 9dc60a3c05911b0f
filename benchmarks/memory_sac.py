"""Returns of SAC with and without velocities, and of recurrent SAC without, at equal steps.

Stable-Baselines3's SAC sees the velocities, and does not; this package's RecurrentSAC does not. All
make as many gradient steps as environment steps, of 256 transitions each, with the same discount
and networks of two layers of 256 units, in front of which RecurrentSAC's memory has an encoder and
a recurrent layer of 64; each has its own better learning rate of two, found by a shorter training
with another seed. Returns are those of the trained policy without exploration.

    python benchmarks/memory_sac.py            about 5 hours on two cores; resumes
    python benchmarks/memory_sac.py --quick    under 60 seconds
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from record import OUTCOMES, passing_folder, record
from returns import Task, Training, compared, searched

RATES = (3e-4, 1e-3)
SEARCH_SHARE = 0.5
GAMMA = 0.99
# Environment steps.
TASKS = {"Pendulum-v1": 20_000, "HalfCheetah-v5": 30_000}


def contenders(env: str, steps: int, episodes: int) -> dict[tuple[str, str], Training]:
    """The agents that are compared on a task."""
    seen, hidden = Task(env), Task(env, masked=True)
    agents: dict[str, tuple[Task, str]] = {
        "SAC, velocities seen": (seen, "SAC"),
        "SAC": (hidden, "SAC"),
        "skillrl RecurrentSAC": (hidden, "skillrl RecurrentSAC"),
    }
    # Transitions, or sequences of 16.
    sizes = {"SAC": 256, "skillrl RecurrentSAC": 256 // 16}
    return {
        (env, name): Training(
            *(task, agent, {"learning_starts": 1_000, "batch_size": sizes[agent], "gamma": GAMMA}),
            *(steps, 1, episodes),
        )
        for name, (task, agent) in agents.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "memory_sac")
    options = parser.parse_args()
    tasks, episodes = TASKS, 20
    if options.quick:
        options.seeds, options.outcomes = 1, passing_folder()
        tasks, episodes = {"Pendulum-v1": 1_050}, 2
    found: dict[str, Any] = {}
    trials: list[dict[str, Any]] = []
    for env, steps in tasks.items():
        trainings = contenders(env, steps, episodes)
        if not options.quick:
            trainings, tried = searched(
                trainings, options.outcomes, options.workers, rates=RATES, share=SEARCH_SHARE
            )
            trials += tried
        outcomes = compared(trainings, options.outcomes, options.workers, range(options.seeds))
        found[env] = {name: outcome for (_, name), outcome in outcomes.items()}
    record(
        "memory_sac",
        {"tasks": found, "search": {"rates": RATES, "share": SEARCH_SHARE, "trials": trials}},
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
