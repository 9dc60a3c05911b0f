"""Environment steps per second of recurrent PPO, end to end, against sb3-contrib's RecurrentPPO.

HalfCheetah and CartPole without velocities, 8 and 64 environments; actor and critic with a
recurrence each of 64 units, which are 128 numbers of state (of an LSTM two for each, of a linear
trace unit a complex one), equal rollouts, batches, epochs and networks behind the recurrence, and
one kernel for all parameters (fused Adam). All sides step the same environments, this package's
where it has its own, with the better number of torch threads for each; they run in turn, and the
ratio is that of the medians.

Each side learns from a rollout before it is timed, and then from eight: 1,024 steps of each
environment. Where an episode starts within a chunk, sb3-contrib walks along it step by step. In
HalfCheetah every environment does so once in these steps. CartPole's episodes are short, and the
policy is untrained: its rows are of sb3-contrib's slow path. Beside them stands Stable-Baselines3's
PPO without a memory, with equal networks but for the recurrence: what the same batches and epochs
take without one.

    python benchmarks/recurrent_throughput.py            about 20 minutes, on a quiet machine
    python benchmarks/recurrent_throughput.py --quick    under 60 seconds
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from sb3_contrib import RecurrentPPO as ContribRecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from record import record
from skillrl.agents import RecurrentPPO
from skillrl.envs import MaskVelocityVectorWrapper, SB3VecEnv, make_vec

ENVS = ("HalfCheetah-v5", "CartPole-v1")
SIDES = ("skillrl", "sb3_contrib", "without_memory")
STEPS, EPOCHS, BATCH, CHUNK = 128, 10, 256, 16
ROLLOUTS = 8
# Stable-Baselines3's epsilon, and one kernel for all parameters, which is our default.
ADAM = {"eps": 1e-5, "fused": True}


def make(env_id: str, num_envs: int) -> VecEnv:
    """Environments whose velocities are hidden."""
    envs = make_vec(env_id, num_envs=num_envs, autoreset_mode="SameStep")
    return VecMonitor(SB3VecEnv(MaskVelocityVectorWrapper(envs)))


def speed(side: str, env_id: str, num_envs: int, rollouts: int, threads: int) -> float:
    """Steps per second of acting and learning, after one rollout that is not timed."""
    torch.set_num_threads(threads)
    envs = make(env_id, num_envs)
    settings: dict[str, Any] = {
        "n_steps": STEPS,
        "batch_size": BATCH,
        "n_epochs": EPOCHS,
        "seed": 0,
        "device": "cpu",
    }
    agent: ContribRecurrentPPO | RecurrentPPO | PPO
    if side == "skillrl":
        memory: dict[str, Any] = {"state_size": 64, "encoder": (64,), "optimizer_kwargs": ADAM}
        agent = RecurrentPPO("MlpLruPolicy", envs, chunk=CHUNK, policy_kwargs=memory, **settings)
    elif side == "without_memory":
        agent = PPO("MlpPolicy", envs, policy_kwargs={"optimizer_kwargs": ADAM}, **settings)
    else:
        memory = {"lstm_hidden_size": 64, "optimizer_kwargs": ADAM}
        agent = ContribRecurrentPPO("MlpLstmPolicy", envs, policy_kwargs=memory, **settings)
    agent.learn(STEPS * num_envs)
    steps = rollouts * STEPS * num_envs
    started = time.perf_counter()
    agent.learn(steps, reset_num_timesteps=False)
    seconds = time.perf_counter() - started
    envs.close()
    return steps / seconds


def compared(env_id: str, num_envs: int, rollouts: int, rounds: int) -> dict[str, Any]:
    """All sides in turn, each with the number of threads with which one rollout is faster."""
    threads = {
        side: max((1, 2), key=lambda number: speed(side, env_id, num_envs, 1, number))
        for side in SIDES
    }
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, own in speeds.items():
            own.append(speed(side, env_id, num_envs, rollouts, threads[side]))
    medians = {side: statistics.median(own) for side, own in speeds.items()}
    return {
        "vs_sb3_contrib": medians["skillrl"] / medians["sb3_contrib"],
        "steps_per_second": medians,
        "raw": speeds,
        "threads": threads,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    quick = parser.parse_args().quick
    envs, sizes, rollouts, rounds = (
        (ENVS[1:], (8,), 1, 1) if quick else (ENVS, (8, 64), ROLLOUTS, 3)
    )
    figures = {
        f"{env_id}, {num_envs} environments": compared(env_id, num_envs, rollouts, rounds)
        for env_id in envs
        for num_envs in sizes
    }
    record(
        "recurrent_throughput",
        {
            "vs_sb3_contrib": {name: each["vs_sb3_contrib"] for name, each in figures.items()},
            "settings": figures,
            "rollouts": rollouts,
            "rounds": rounds,
            "n_steps": STEPS,
            "n_epochs": EPOCHS,
            "batch_size": BATCH,
            "chunk": CHUNK,
        },
        quick=quick,
    )


if __name__ == "__main__":
    main()
