"""Environment steps per second of MujocoVectorEnv, against what else steps MuJoCo tasks.

64 environments on two threads, against Gymnasium's SyncVectorEnv and AsyncVectorEnv, EnvPool, and
bare ``mujoco.batch.Batch``. All take the same stream of random actions and reset environments
whose episode has ended; bare Batch is reset by the task's rule, and computes nothing else. The
contenders run in turn, again and again, and a ratio is the median of those within one turn.
Gymnasium's two run with the number of environments that a trial before finds fastest, and without
the environment checker; so does EnvPool with the batch size of its asynchronous mode, which steps
whichever environments are ready, and which is compared beside its synchronous mode.

    python benchmarks/env_throughput.py            about 5 minutes on two cores
    python benchmarks/env_throughput.py --quick    under 60 seconds
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from mujoco.batch import Batch

from record import record
from skillrl.envs import MujocoVectorEnv
from skillrl.envs.mujoco.model import quiet_loading

try:
    import envpool
except ImportError as error:
    raise SystemExit(
        "This benchmark compares with EnvPool, which is not installed: "
        f"pip install 'skillrl[benchmarks]' ({error})."
    ) from error

IDS = ("HalfCheetah-v5", "Ant-v5", "Humanoid-v5")
NUM_ENVS, NUM_THREADS = 64, 2
SEED = 0
SYNC_COUNTS, ASYNC_COUNTS = (1, 8, 64), (2, 8, 64)
ENVPOOL_BATCHES = (8, 16, 32)
# Heights of the torso outside of which an episode ends, as in the tasks.
HEALTHY_HEIGHT = {"HalfCheetah-v5": (-np.inf, np.inf), "Ant-v5": (0.2, 1.0), "Humanoid-v5": (1, 2)}
NOISE = {"HalfCheetah-v5": 0.1, "Ant-v5": 0.1, "Humanoid-v5": 0.01}

Step = Callable[[np.ndarray], Any]


class Contender:
    """One side: a number of environments that are stepped together.

    Args:
        num_envs: how many.
        step: steps them all, with one row of actions each.
        close: releases them.
        action_type: the type of number that ``step`` takes without converting it.
    """

    def __init__(
        self, num_envs: int, step: Step, close: Callable[[], Any], action_type: type = np.float32
    ) -> None:
        self.num_envs, self.step, self.close = num_envs, step, close
        self.action_type = action_type

    def speed(self, actions: np.ndarray, seconds: float) -> float:
        """Steps of one environment per second, over ``seconds`` or a little longer."""
        batches: np.ndarray = actions.astype(self.action_type)
        batches = batches.reshape(-1, self.num_envs, actions.shape[1])
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            self.step(batches[done % len(batches)])
            done += 1
        return done * self.num_envs / (time.perf_counter() - started)


def skillrl(id: str) -> Contender:
    envs = MujocoVectorEnv(id, NUM_ENVS, num_threads=NUM_THREADS)
    envs.reset(seed=SEED)
    return Contender(NUM_ENVS, envs.step, envs.close)


def single(id: str) -> gym.Env:
    with quiet_loading():
        return gym.make(id, disable_env_checker=True)


def gymnasiums(kind: type[SyncVectorEnv | AsyncVectorEnv], id: str, num_envs: int) -> Contender:
    envs = kind([partial(single, id)] * num_envs)
    envs.reset(seed=SEED)
    return Contender(num_envs, envs.step, envs.close)


def envpools(id: str) -> Contender:
    envs = envpool.make_gymnasium(id, num_envs=NUM_ENVS, num_threads=NUM_THREADS, seed=SEED)
    envs.reset()
    return Contender(NUM_ENVS, envs.step, envs.close, np.float64)


def envpools_async(id: str, batch_size: int) -> Contender:
    envs = envpool.make_gymnasium(
        id, num_envs=NUM_ENVS, batch_size=batch_size, num_threads=NUM_THREADS, seed=SEED
    )
    envs.async_reset()

    def step(actions: np.ndarray) -> None:
        *_, infos = envs.recv()
        envs.send(actions, infos["env_id"])

    return Contender(batch_size, step, envs.close, np.float64)


def bare_batch(id: str) -> Contender:
    """Batch with the task's resets, and nothing else."""
    envs = MujocoVectorEnv(id)
    model, task = envs.model, envs.task
    batch = Batch(model, NUM_ENVS, NUM_THREADS)
    qpos, qvel, ctrl = batch.bind("qpos"), batch.bind("qvel"), batch.bind("ctrl")
    low, high = HEALTHY_HEIGHT[id]
    random = np.random.default_rng(SEED)
    elapsed = np.zeros(NUM_ENVS, np.int64)
    finished = np.ones(NUM_ENVS, np.bool_)

    def step(actions: np.ndarray) -> None:
        nonlocal finished
        resets = np.flatnonzero(finished)
        ctrl[:] = actions
        batch.step(None if len(resets) == 0 else ~finished, nstep=task.frame_skip)
        elapsed[:] += 1
        if len(resets):
            batch.reset(resets, stage=0)
            qpos[resets] = model.qpos0 + random.uniform(
                -NOISE[id], NOISE[id], (len(resets), model.nq)
            )
            qvel[resets] = NOISE[id] * random.standard_normal((len(resets), model.nv))
            batch.forward(resets)
            elapsed[resets] = 0
        height = qpos[:, 2]
        finished = (height < low) | (height > high) | (elapsed >= task.max_episode_steps)

    return Contender(NUM_ENVS, step, lambda: None)


def fastest(
    make: Callable[[int], Contender], counts: tuple[int, ...], actions: np.ndarray, seconds: float
) -> tuple[Contender, dict[int, float]]:
    """The contender with the count at which it is fastest, and the speeds of all counts."""
    speeds = {}
    for count in counts:
        trial = make(count)
        trial.speed(actions, seconds / 4)
        speeds[count] = trial.speed(actions, seconds)
        trial.close()
    return make(max(counts, key=lambda count: speeds[count])), speeds


def compare(id: str, turns: int, seconds: float, quick: bool) -> dict[str, Any]:
    """All contenders in turn on one task."""
    space = single(id).action_space
    assert isinstance(space, gym.spaces.Box)
    random = np.random.default_rng(SEED)
    actions = random.uniform(space.low, space.high, (64 * NUM_ENVS, *space.shape))
    tried: dict[str, tuple[Callable[[int], Contender], tuple[int, ...]]] = {
        "sync": (partial(gymnasiums, SyncVectorEnv, id), (8,) if quick else SYNC_COUNTS),
        "async": (partial(gymnasiums, AsyncVectorEnv, id), (8,) if quick else ASYNC_COUNTS),
        "envpool_async": (partial(envpools_async, id), (32,) if quick else ENVPOOL_BATCHES),
    }
    contenders = {"skillrl": skillrl(id), "envpool": envpools(id), "batch": bare_batch(id)}
    trials = {}
    for name, (make, counts) in tried.items():
        contenders[name], trials[name] = fastest(make, counts, actions, seconds)
    for contender in contenders.values():
        contender.speed(actions, seconds / 2)  # past the first, equal steps of all episodes
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, contender in contenders.items():
            speeds[name].append(contender.speed(actions, seconds))
    for contender in contenders.values():
        contender.close()
    return {
        "speeds": speeds,
        "num_envs": {name: contender.num_envs for name, contender in contenders.items()},
        "trials": trials,
    }


def ratio(speeds: dict[str, list[float]], other: str) -> float:
    pairs = zip(speeds["skillrl"], speeds[other], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    quick = parser.parse_args().quick
    turns, seconds = (5, 0.4) if quick else (15, 1.0)
    results = {}
    for id in IDS:
        results[id] = compare(id, turns, seconds, quick)
        medians = {k: statistics.median(v) for k, v in results[id]["speeds"].items()}
        print(f"{id}: " + ", ".join(f"{name} {speed:,.0f}" for name, speed in medians.items()))

    def ratios(other: str) -> dict[str, float]:
        return {id: ratio(result["speeds"], other) for id, result in results.items()}

    record(
        "env_throughput",
        {
            "vs_sync": ratios("sync"),
            "vs_async": ratios("async"),
            "vs_envpool": ratios("envpool"),
            "vs_envpool_async": ratios("envpool_async"),
            "share_of_batch": ratios("batch"),
            "steps_per_second": {
                id: {name: statistics.median(v) for name, v in result["speeds"].items()}
                for id, result in results.items()
            },
            "raw": {id: result["speeds"] for id, result in results.items()},
            "num_envs": {id: result["num_envs"] for id, result in results.items()},
            "trials": {id: result["trials"] for id, result in results.items()},
            "num_threads": NUM_THREADS,
            "seconds": seconds,
            "turns": turns,
            "seeds": [SEED],
        },
        quick=quick,
    )


if __name__ == "__main__":
    main()
