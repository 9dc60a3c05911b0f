"""Agent steps per second of Montezuma's Revenge, against what else steps Atari's games.

32 games on two threads, or processes, four frames an action, a life lost ends an episode: skillrl's
AtariVectorEnv in threads and in processes whose states can be saved, ALE's own vector environment
alone, and EnvPool. All take the same stream of random actions in turn, again and again, and a
ratio is the median of those within one turn. ALE's own and EnvPool return float32 or integer
rewards and infos as they are; EnvPool goes on with the same game when a life is lost, and so
emulates fewer resets.

    python benchmarks/atari_throughput.py            about 2 minutes on two cores
    python benchmarks/atari_throughput.py --quick    under 60 seconds
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import ale_py
import numpy as np

from record import record
from skillrl.envs.atari import AtariVectorEnv

try:
    import envpool
except ImportError as error:
    raise SystemExit(
        "This benchmark compares with EnvPool, which is not installed: "
        f"pip install 'skillrl[benchmarks]' ({error})."
    ) from error

GAME, NUM_ENVS, NUM_THREADS = "montezuma_revenge", 32, 2
NUM_ACTIONS = 18
SEED = 0


def ours(saves_states: bool) -> Any:
    envs = AtariVectorEnv(
        GAME,
        NUM_ENVS,
        num_threads=NUM_THREADS,
        autoreset_mode="SameStep",
        saves_states=saves_states,
    )
    envs.reset(seed=SEED)
    return envs


def ales() -> Any:
    envs: Any = ale_py.AtariVectorEnv(
        GAME,
        NUM_ENVS,
        num_threads=NUM_THREADS,
        autoreset_mode="SameStep",
        episodic_life=True,
        use_fire_reset=False,
        reward_clipping=False,
    )
    envs.reset(seed=SEED)
    return envs


def envpools() -> Any:
    envs = envpool.make_gymnasium(
        "MontezumaRevenge-v5",
        num_envs=NUM_ENVS,
        num_threads=NUM_THREADS,
        seed=SEED,
        episodic_life=True,
        use_fire_reset=False,
        reward_clip=False,
        repeat_action_probability=0.0,
    )
    envs.reset()
    return envs


CONTENDERS: dict[str, Callable[[], Any]] = {
    "threads": lambda: ours(saves_states=False),
    "processes": lambda: ours(saves_states=True),
    "ale": ales,
    "envpool": envpools,
}


def speed(envs: Any, actions: np.ndarray, seconds: float) -> float:
    """Steps of one game per second, over ``seconds`` or a little longer."""
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        envs.step(actions[done % len(actions)])
        done += 1
    return done * NUM_ENVS / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    quick = parser.parse_args().quick
    turns, seconds = (3, 1.0) if quick else (10, 2.0)
    actions = np.random.default_rng(SEED).integers(0, NUM_ACTIONS, (512, NUM_ENVS))
    envs = {name: make() for name, make in CONTENDERS.items()}
    for each in envs.values():
        speed(each, actions, seconds)  # past the first, equal steps of all episodes
    speeds: dict[str, list[float]] = {name: [] for name in envs}
    for _ in range(turns):
        for name, each in envs.items():
            speeds[name].append(speed(each, actions, seconds))
    for each in envs.values():
        each.close()
    medians = {name: statistics.median(each) for name, each in speeds.items()}
    print(", ".join(f"{name} {median:,.0f}" for name, median in medians.items()))

    def ratio(one: str, other: str) -> float:
        pairs = zip(speeds[one], speeds[other], strict=True)
        return statistics.median(a / b for a, b in pairs)

    record(
        "atari_throughput",
        {
            "env_vs_envpool": ratio("threads", "envpool"),
            "env_share_of_ale": ratio("threads", "ale"),
            "processes_vs_threads": ratio("processes", "threads"),
            "env_steps_per_second": medians,
            "raw": speeds,
            "game": GAME,
            "num_envs": NUM_ENVS,
            "num_threads": NUM_THREADS,
            "turns": turns,
            "seconds": seconds,
            "seeds": [SEED],
        },
        quick=quick,
    )


if __name__ == "__main__":
    main()
