"""Steps per second of a whole generation, against Stable-Baselines3's PPO.

One generation of skillrl (samples, fitting of the reward, training with the learned reward, and
evaluation) against the same number of steps of Stable-Baselines3's PPO on the task's own reward,
with equal networks, environments, rollout, batch and epochs. Stable-Baselines3 runs with the
faster of its two vector environments and the better of one and two torch threads, which a trial
before the comparison decides. Both sides run in turn, and the ratio is that of the medians.

    python benchmarks/discovery_throughput.py            about 10 minutes on two cores
    python benchmarks/discovery_throughput.py --quick    under 60 seconds
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

# As the command line sets it, for both sides.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from torch import nn

from record import record
from skillrl.agents import SkillPPO
from skillrl.discovery.loop import Discovery
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.run import discover
from skillrl.discovery.settings import Recipe
from skillrl.envs import MujocoVectorEnv
from skillrl.envs.make import make_single
from skillrl.rewards import NeuralReward

ENV = "HalfCheetah-v5"
VEC_ENVS: dict[str, type[DummyVecEnv] | type[SubprocVecEnv]] = {
    "DummyVecEnv": DummyVecEnv,
    "SubprocVecEnv": SubprocVecEnv,
}


class Stopwatch:
    """Seconds spent in methods, less those in other methods that are timed too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            part = self._running[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now

    def watch(self, stack: ExitStack, part: str, owner: type, name: str) -> None:
        """Time the method ``name`` of ``owner`` as ``part``, until ``stack`` is closed."""
        inner = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._running.append(part)
            try:
                return inner(*args, **kwargs)
            finally:
                self._switch()
                self._running.pop()

        setattr(owner, name, outer)
        stack.callback(setattr, owner, name, inner)


# What a generation's time goes to; what a method does inside of another one counts once.
PARTS: dict[str, tuple[type, str]] = {
    "samples, fit, evaluation and the rest": (Discovery, "run"),
    "acting": (SkillPPO, "collect_rollouts"),
    "physics": (MujocoVectorEnv, "step"),
    "learned reward": (NeuralReward, "reward"),
    "updates": (SkillPPO, "train"),
}


def ours(recipe: Recipe, seed: int) -> tuple[int, float, dict[str, float]]:
    """Return one generation's steps, those per second, all of it counted, and shares of time."""
    recipe = dataclasses.replace(recipe, generations=1, attempts=1)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for part, (owner, name) in PARTS.items():
            watch.watch(stack, part, owner, name)
        started = time.perf_counter()
        library = discover(recipe, Path(folder) / "run", seed=seed)
        seconds = time.perf_counter() - started
        steps = library[0].record.steps
    shares = {part: watch.seconds[part] / seconds for part in PARTS}
    return steps, steps / seconds, shares


def theirs(recipe: Recipe, steps: int, seed: int, vec_env: str, threads: int) -> float:
    """Return the steps per second of Stable-Baselines3's PPO."""
    settings = recipe.agent
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # A function, so that MuJoCo's warnings do not flood the terminal.
        env = make_vec_env(
            partial(make_single, ENV), settings.num_envs, seed=seed, vec_env_cls=VEC_ENVS[vec_env]
        )
        # Not counted: starting the environments, which takes processes seconds.
        started = time.perf_counter()
        agent = PPO(
            "MlpPolicy",
            env,
            learning_rate=settings.learning_rate,
            n_steps=settings.n_steps,
            batch_size=settings.batch_size,
            n_epochs=settings.n_epochs,
            gamma=settings.gamma,
            policy_kwargs={"net_arch": list(settings.hidden), "activation_fn": nn.SiLU},
            device="cpu",
            seed=seed,
        )
        agent.learn(steps)
        env.close()
        return agent.num_timesteps / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    quick = parser.parse_args().quick
    recipe = recipe_for(ENV)
    repetitions = 1 if quick else 3
    if quick:
        recipe = dataclasses.replace(recipe, steps_per_skill=100_000)
    their_steps, trial_steps = (50_000, 8_192) if quick else (300_000, 40_960)

    trials = {
        (name, threads): theirs(recipe, trial_steps, 0, name, threads)
        for name in VEC_ENVS
        for threads in (1, 2)
    }
    fastest = max(trials, key=lambda key: trials[key])
    speeds: dict[str, list[float]] = {"skillrl": [], "stable_baselines3": []}
    shares: list[dict[str, float]] = []
    our_steps: list[int] = []
    for seed in range(repetitions):
        steps, speed, shares_of_time = ours(recipe, seed)
        our_steps.append(steps)
        shares.append(shares_of_time)
        speeds["skillrl"].append(speed)
        speeds["stable_baselines3"].append(theirs(recipe, their_steps, seed, *fastest))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    record(
        "discovery_throughput",
        {
            "vs_sb3": medians["skillrl"] / medians["stable_baselines3"],
            "steps_per_second": medians,
            "raw": speeds,
            "shares": {part: statistics.mean(each[part] for each in shares) for part in PARTS},
            "steps": {"skillrl": our_steps, "stable_baselines3": their_steps},
            "stable_baselines3": {"vec_env": fastest[0], "threads": fastest[1]},
            "trials": {f"{name}, {threads} threads": v for (name, threads), v in trials.items()},
            "environment": ENV,
            "recipe": dataclasses.asdict(recipe.agent),
            "seeds": list(range(repetitions)),
        },
        quick=quick,
    )


if __name__ == "__main__":
    main()
