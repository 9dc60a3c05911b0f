"""Environment steps per second of recurrent PPO, end to end, against sb3-contrib's RecurrentPPO.

HalfCheetah and CartPole without velocities, 8 and 64 environments; actor and critic with a
recurrence each of 64 units, which are 128 numbers of state (of an LSTM two for each, of an LRU a
complex one), equal rollouts, batches, epochs and networks behind the recurrence. Both sides step
the same environments, this package's where it has its own, with the better number of torch threads
for each; they run in turn, and the ratio is that of the medians.

    python benchmarks/recurrent_throughput.py            about 10 minutes, on a quiet machine
    python benchmarks/recurrent_throughput.py --quick    under 60 seconds
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from sb3_contrib import RecurrentPPO as ContribRecurrentPPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from record import record
from skillrl.agents import RecurrentPPO
from skillrl.envs import MaskVelocityVectorWrapper, SB3VecEnv, make_vec

ENVS = ("HalfCheetah-v5", "CartPole-v1")
STEPS, EPOCHS, BATCH, CHUNK = 128, 10, 256, 16


def make(env_id: str, num_envs: int) -> VecEnv:
    """Environments whose velocities are hidden."""
    envs = make_vec(env_id, num_envs=num_envs, autoreset_mode="SameStep")
    return VecMonitor(SB3VecEnv(MaskVelocityVectorWrapper(envs)))


def speed(side: str, env_id: str, num_envs: int, steps: int, threads: int) -> float:
    """Steps per second of learning, all of it counted but the making of the agent."""
    torch.set_num_threads(threads)
    envs = make(env_id, num_envs)
    settings: dict[str, Any] = {
        "n_steps": STEPS,
        "batch_size": BATCH,
        "n_epochs": EPOCHS,
        "seed": 0,
        "device": "cpu",
    }
    agent: ContribRecurrentPPO | RecurrentPPO
    if side == "skillrl":
        memory: dict[str, Any] = {"state_size": 64, "encoder": (64,)}
        agent = RecurrentPPO("MlpLruPolicy", envs, chunk=CHUNK, policy_kwargs=memory, **settings)
    else:
        memory = {"lstm_hidden_size": 64}
        agent = ContribRecurrentPPO("MlpLstmPolicy", envs, policy_kwargs=memory, **settings)
    started = time.perf_counter()
    agent.learn(steps)
    seconds = time.perf_counter() - started
    envs.close()
    return agent.num_timesteps / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    quick = parser.parse_args().quick
    envs, sizes, rounds = (ENVS[1:], (8,), 1) if quick else (ENVS, (8, 64), 3)
    figures: dict[str, Any] = {}
    for env_id in envs:
        for num_envs in sizes:
            least = STEPS * num_envs
            trial = {
                (side, threads): speed(side, env_id, num_envs, least, threads)
                for side in ("skillrl", "sb3_contrib")
                for threads in (1, 2)
            }
            threads = {
                side: max((1, 2), key=lambda n, side=side: trial[side, n])  # type: ignore[misc]
                for side in ("skillrl", "sb3_contrib")
            }
            speeds: dict[str, list[float]] = {side: [] for side in threads}
            for _ in range(rounds):
                for side, own in speeds.items():
                    steps = least * (8 if side == "skillrl" else 2)
                    own.append(speed(side, env_id, num_envs, steps, threads[side]))
            medians = {side: statistics.median(own) for side, own in speeds.items()}
            figures[f"{env_id}, {num_envs} environments"] = {
                "vs_sb3_contrib": medians["skillrl"] / medians["sb3_contrib"],
                "steps_per_second": medians,
                "raw": speeds,
                "threads": threads,
            }
    record(
        "recurrent_throughput",
        {
            "vs_sb3_contrib": {name: each["vs_sb3_contrib"] for name, each in figures.items()},
            "settings": figures,
            "n_steps": STEPS,
            "n_epochs": EPOCHS,
            "batch_size": BATCH,
            "chunk": CHUNK,
        },
        quick=quick,
    )


if __name__ == "__main__":
    main()
