"""Returns of recurrent PPO on tasks that need memory, at equal environment steps.

This package's RecurrentPPO (online, carries swept anew each epoch), sb3-contrib's (LSTM), and
Stable-Baselines3's PPO without memory, on control tasks whose velocities are hidden, three games of
POPGym, and T-mazes. Our agent's memory is the linear trace unit that it has by itself, and an LRU
to compare with; in T-mazes an LRU with a gain of its own, and there the rule is "truncated", too,
with the same chunks of 32 steps. On each task all agents have the same environments, rollouts,
batches, epochs, discount, λ and entropy coefficient, and 64 recurrent units, which are 128 numbers
of state; in T-mazes learning rates fall to zero, and units remember from the beginning for up to
three times the corridor's length (an LSTM's by the forget gates of chrono initialisation). Each has
its own better learning rate of two, found by a shorter training with another seed. Returns are
those of the trained policy without exploration.

    python benchmarks/memory_tasks.py                    about 5 hours on two cores; resumes
    python benchmarks/memory_tasks.py --tasks T-maze*    some of them, which are not recorded
    python benchmarks/memory_tasks.py --quick            under 60 seconds
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import OUTCOMES, passing_folder, record
from returns import Task, Training, compared, searched

RATES = (3e-4, 1e-3)
# Of the steps of a training those of a trial.
SEARCH_SHARE = 0.5
CHUNK = 32
UNITS = 64
# Share of an input that units take in which remember for long; half of it an LSTM's input gates let
# in.
GAIN = 0.3
# One task of each kind.
QUICK = ("CartPole", "RepeatPrevious", "T-maze 10")


@dataclass(frozen=True)
class Problem:
    """A task, and what all agents have in common on it."""

    task: Task
    steps: int
    n_steps: int = 128
    """Of each environment a rollout."""
    batch_size: int = 1_024
    n_epochs: int = 10
    gamma: float = 0.99
    gae_lambda: float = 0.95
    ent_coef: float = 0.0
    decayed: bool = False
    """Whether learning rates fall to zero."""
    num_envs: int = 16
    episodes: int = 50
    """Of the evaluation."""
    horizon: int | None = None
    """Steps that recurrent layers remember from the beginning; None for their usual beginning."""
    truncated: bool = False
    """Whether truncation is compared."""


def hidden(env: str) -> Task:
    """A task whose velocities are hidden."""
    return Task(env, masked=True, normalized=True)


def popgym(game: str) -> Task:
    """A game of POPGym (Morad et al. 2023, arXiv 2303.01859)."""
    return Task(f"popgym:popgym-{game}Easy-v0", flattened=True)


def maze(length: int, **changes: Any) -> Problem:
    """A T-maze (Bakker 2002), whose one reward comes at the end."""
    return Problem(
        # Normalised, signs are far from what the corridor shows, which is nearly zero and adds up
        # to nothing. A walk at random takes four times as long as the shortest way.
        Task("skillrl/TMaze-v0", {"length": length}, normalized=True, staggered=4 * length),
        gamma=0.999,
        ent_coef=0.01,
        decayed=True,
        horizon=3 * length,
        truncated=True,
        **changes,
    )


PROBLEMS = {
    "CartPole": Problem(hidden("CartPole-v1"), 100_000, num_envs=8, batch_size=512),
    "Pendulum": Problem(hidden("Pendulum-v1"), 150_000, gamma=0.9),
    "HalfCheetah": Problem(hidden("HalfCheetah-v5"), 200_000, episodes=16),
    "Hopper": Problem(hidden("Hopper-v5"), 200_000, episodes=16),
    "RepeatPrevious": Problem(popgym("RepeatPrevious"), 300_000),
    "CountRecall": Problem(popgym("CountRecall"), 300_000),
    "Autoencode": Problem(popgym("Autoencode"), 300_000),
    "T-maze 10": maze(10, steps=100_000, batch_size=512),
    # In a longer corridor as many ends are seen by more environments.
    "T-maze 100": maze(100, steps=300_000, num_envs=32, batch_size=4_096),
    "T-maze 1000": maze(1_000, steps=3_000_000, num_envs=256, batch_size=16_384, episodes=128),
}


def contenders(problem: Problem) -> dict[str, Training]:
    """The agents that are compared on a task."""
    names = ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "ent_coef")
    common = {name: getattr(problem, name) for name in names} | {"learning_rate": RATES[0]}
    adam = {"optimizer_kwargs": {"eps": 1e-5, "fused": True}}
    horizon = {} if problem.horizon is None else {"horizon": problem.horizon}
    # By the usual gain, a trace unit's only one, the more of what comes in is kept out, the longer
    # it is remembered.
    lasting = {"cell": "lru", "cell_kwargs": {**horizon, "gain": GAIN}} if horizon else {}

    def ours(rule: str = "online", **cell: Any) -> dict[str, Any]:
        memory = {"state_size": UNITS, "rule": rule, **(cell or lasting), **adam}
        return {"chunk": CHUNK, "refresh": "sweep", "policy_kwargs": memory}

    lstm = {"policy_kwargs": {"lstm_hidden_size": UNITS, **adam}, **horizon}
    agents: dict[str, tuple[str, dict[str, Any]]] = {
        "skillrl": ("skillrl RecurrentPPO", ours()),
        "sb3-contrib": ("sb3-contrib RecurrentPPO", lstm),
        "memoryless": ("PPO", {"policy_kwargs": adam}),
    }
    if not lasting:
        agents["lru"] = ("skillrl RecurrentPPO", ours(cell="lru"))
    if problem.truncated:
        agents["truncated"] = ("skillrl RecurrentPPO", ours("truncated"))
    return {
        name: Training(
            *(problem.task, agent, {**common, **own}),
            *(problem.steps, problem.num_envs, problem.episodes),
            decayed=problem.decayed,
        )
        for name, (agent, own) in agents.items()
    }


def quick(problem: Problem) -> Problem:
    """A task that takes seconds."""
    return dataclasses.replace(
        problem, steps=512, n_steps=64, batch_size=128, num_envs=4, n_epochs=1, episodes=4
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument("--tasks", default="*", help="pattern of names; others are left out")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "memory_tasks")
    options = parser.parse_args()
    problems = {name: p for name, p in PROBLEMS.items() if fnmatch.fnmatch(name, options.tasks)}
    if options.quick:
        options.seeds, options.outcomes = 1, passing_folder()
        problems = {name: quick(problems[name]) for name in QUICK if name in problems}
    trainings = {
        (task, agent): training
        for task, problem in problems.items()
        for agent, training in contenders(problem).items()
    }
    trials: list[dict[str, Any]] = []
    if not options.quick:
        trainings, trials = searched(
            trainings, options.outcomes, options.workers, rates=RATES, share=SEARCH_SHARE
        )
    found = compared(trainings, options.outcomes, options.workers, range(options.seeds))
    record(
        "memory_tasks",
        {
            "tasks": {
                task: {agent: found[name, agent] for name, agent in found if name == task}
                for task in problems
            },
            "search": {"rates": RATES, "share": SEARCH_SHARE, "trials": trials},
        },
        quick=options.quick or options.tasks != "*",
    )


if __name__ == "__main__":
    main()
