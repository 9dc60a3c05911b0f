"""Agent steps per second of Montezuma's Revenge, against what else steps Atari's games.

32 games on two threads, or processes, four frames an action, a life lost ends an episode: skillrl's
AtariVectorEnv in threads and in processes whose states can be saved, ALE's own vector environment
alone, and EnvPool. All take the same stream of random actions in turn, again and again, and a
ratio is the median of those within one turn. ALE's own and EnvPool return float32 or integer
rewards and infos as they are; EnvPool goes on with the same game when a life is lost, and so
emulates fewer resets.

Then acting (the vector environment with a policy's actions), and the whole loop of PPO on the
game's own reward against Stable-Baselines3's with its Atari wrappers: equal environments, rollout,
batch, epochs and network, whose convolutions are ours in bfloat16 where the CPU is made for it;
each with the better of one and two torch threads, Stable-Baselines3 with the faster of its two
vector environments, which a trial before the comparison decides. Beside them the loop of discovery,
whose reward is a network, too; the same in processes, which restarts from saved states need; and
that of the recipe, in processes, too, because it skips what follows a death.

    python benchmarks/atari_throughput.py            about 15 minutes on two cores
    python benchmarks/atari_throughput.py --quick    under 60 seconds
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import ale_py
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack
from torch import nn

from record import record
from skillrl.agents import SkillPPO
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.settings import Recipe
from skillrl.discovery.training import make_agent, make_envs
from skillrl.envs.atari import AtariVectorEnv
from skillrl.rewards import NeuralReward

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


class PlainConvolutions(BaseFeaturesExtractor):
    """The layers of ``skillrl.agents.features.ConvolvedImage`` as one would write them."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 256)
        self.layers = nn.Sequential(
            nn.Conv2d(4, 16, 8, 4),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 9 * 9, 256),
            nn.ReLU(),
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


def our_agent(
    recipe: Recipe, reward: NeuralReward | None = None, saves_states: bool = False
) -> SkillPPO:
    envs = make_envs(recipe, NUM_ENVS, reward, NUM_THREADS, saves_states)
    agent = make_agent(recipe, envs)
    assert isinstance(agent, SkillPPO)
    agent.start_from_reset(SEED)
    return agent


def their_agent(recipe: Recipe, kind: type[DummyVecEnv] | type[SubprocVecEnv]) -> PPO:
    settings = recipe.agent
    envs = VecFrameStack(
        make_atari_env(
            "MontezumaRevengeNoFrameskip-v4",
            NUM_ENVS,
            seed=SEED,
            wrapper_kwargs={"clip_reward": False},
            vec_env_cls=kind,
        ),
        n_stack=4,
    )
    return PPO(
        "CnnPolicy",
        envs,
        learning_rate=settings.learning_rate,
        n_steps=settings.n_steps,
        batch_size=settings.batch_size,
        n_epochs=settings.n_epochs,
        gamma=settings.gamma,
        ent_coef=settings.ent_coef,
        policy_kwargs={
            "features_extractor_class": PlainConvolutions,
            "net_arch": list(settings.hidden),
            "activation_fn": nn.SiLU,
        },
        device="cpu",
    )


def acting(agent: SkillPPO, seconds: float) -> float:
    """Steps of one game per second with the agent's own actions."""
    envs, done = agent.get_env(), 0
    assert envs is not None
    observations = envs.reset()
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        actions, _ = agent.predict(observations)  # type: ignore[arg-type]
        observations = envs.step(actions)[0]
        done += 1
    return done * NUM_ENVS / (time.perf_counter() - started)


def learning(agent: PPO, rollouts: int, threads: int) -> float:
    """Steps of one game per second of rollouts and updates."""
    torch.set_num_threads(threads)
    steps = rollouts * agent.n_steps * NUM_ENVS
    started = time.perf_counter()
    agent.learn(steps, reset_num_timesteps=False)
    return steps / (time.perf_counter() - started)


def loops(quick: bool) -> dict[str, Any]:
    """Steps per second of acting and of whole loops."""
    recipe = recipe_for("skillrl/MontezumaRevenge-v5")
    if quick:
        agent = dataclasses.replace(recipe.agent, n_steps=8, batch_size=128, n_epochs=1)
        recipe = dataclasses.replace(recipe, agent=agent)
    until_death = dataclasses.replace(
        recipe, env_kwargs={"max_episode_steps": recipe.env_kwargs["max_episode_steps"]}
    )
    reward = NeuralReward((4, 84, 84), "image", target=recipe.target, hidden=recipe.reward.hidden)
    agents: dict[str, PPO] = {
        "skillrl": our_agent(until_death),
        "discovery": our_agent(until_death, reward),
        "discovery, processes": our_agent(until_death, reward, saves_states=True),
        "discovery, recipe": our_agent(recipe, reward),
        "sb3, DummyVecEnv": their_agent(recipe, DummyVecEnv),
    }
    if not quick:
        agents["sb3, SubprocVecEnv"] = their_agent(recipe, SubprocVecEnv)
    for each in agents.values():
        learning(each, 1, 1)  # the first updates of all are slower
    trial = {
        (name, threads): learning(agent, 1, threads)
        for name, agent in agents.items()
        for threads in ((2,) if quick else (1, 2))
    }
    theirs = max((key for key in trial if key[0].startswith("sb3")), key=lambda key: trial[key])
    chosen = {"sb3": theirs}
    for name in (name for name in agents if not name.startswith("sb3")):
        chosen[name] = max((k for k in trial if k[0] == name), key=lambda key: trial[key])
    speeds: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(1 if quick else 3):
        for name, (key, threads) in chosen.items():
            speeds[name].append(learning(agents[key], 1 if quick else 2, threads))
    ours = agents["skillrl"]
    assert isinstance(ours, SkillPPO)
    torch.set_num_threads(chosen["skillrl"][1])
    medians = {name: statistics.median(each) for name, each in speeds.items()}
    found = {
        "vs_sb3": medians["skillrl"] / medians["sb3"],
        "discovery_vs_sb3": medians["discovery"] / medians["sb3"],
        "discovery_processes_vs_threads": medians["discovery, processes"] / medians["discovery"],
        "discovery_recipe_vs_sb3": medians["discovery, recipe"] / medians["sb3"],
        "loop_steps_per_second": medians,
        "acting_steps_per_second": acting(ours, 2.0 if quick else 20.0),
        "loop_raw": speeds,
        "loop_chosen": {name: list(key) for name, key in chosen.items()},
    }
    for each in agents.values():
        envs = each.get_env()
        assert envs is not None
        envs.close()
    return found


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
    turns, seconds = (1, 1.0) if quick else (10, 2.0)
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
            **loops(quick),
            "turns": turns,
            "seconds": seconds,
            "seeds": [SEED],
        },
        quick=quick,
    )


if __name__ == "__main__":
    main()
