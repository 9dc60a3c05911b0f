"""Trainings that are compared by the returns of what was learnt, each kept in a file of its own.

A training is an agent on an environment with a number of steps and a seed. Two run side by side, a
torch thread each.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import FlattenObservation
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize
from torch import nn

from intervals import bootstrap, inter_quartile_mean
from record import once
from skillrl.agents import RecurrentPPO, RecurrentSAC
from skillrl.envs import MaskVelocityVectorWrapper, SB3VecEnv, make_vec

# The seed of trainings that only choose settings.
SEARCH_SEED = 1_000
# Points of a curve of training returns.
POINTS = 20


class Staggered(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose first episode is cut after a random number of steps.

    Long episodes of equal length would end all at once, and most rollouts would see no end.
    """

    def __init__(self, env: gym.Env[Any, Any], within: int) -> None:
        super().__init__(env)
        self._within, self._left = within, -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        # Once: later episodes count down from below zero.
        self._left = int(self.np_random.integers(self._within)) + 1 if self._within else -1
        self._within = 0
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._left -= 1
        return observation, reward, terminated, truncated or self._left == 0, info


@dataclass(frozen=True)
class Task:
    """Environments, and what is done to what they show; the same for all agents."""

    env: str
    arguments: dict[str, Any] = field(default_factory=dict)
    masked: bool = False
    """Whether velocities are hidden."""
    flattened: bool = False
    """Whether observations that are no vectors become some, numbers that count things one-hot."""
    normalized: bool = False
    """Whether observations and rewards are normalised by running statistics."""
    staggered: int = 0
    """Steps within which each environment's first episode is cut, so that they end at any time."""

    def make_vec(
        self, num_envs: int, autoreset_mode: AutoresetMode | str = "SameStep"
    ) -> VectorEnv[Any, Any, Any]:
        """Make vector environments."""
        more: dict[str, Any] = dict(self.arguments)
        if self.flattened:
            # Gymnasium's checker warns of popgym's infos, which are not used here.
            more |= {"wrappers": [FlattenObservation], "disable_env_checker": True}
        if self.staggered:
            wrapper = partial(Staggered, within=self.staggered)
            more["wrappers"] = [*more.get("wrappers", []), wrapper]
        envs = make_vec(self.env, num_envs, num_threads=1, autoreset_mode=autoreset_mode, **more)
        return MaskVelocityVectorWrapper(envs) if self.masked else envs

    def make(self, num_envs: int) -> VecEnv:
        """Make environments for Stable-Baselines3, which report the returns of their episodes."""
        return VecMonitor(SB3VecEnv(self.make_vec(num_envs), info_keys=()))


@dataclass(frozen=True)
class Training:
    """One training."""

    task: Task
    agent: str
    """A key of ``AGENTS``."""
    settings: dict[str, Any]
    """The agent's keyword arguments."""
    steps: int
    """Of all environments together."""
    num_envs: int
    episodes: int
    """Without exploration, after the training."""
    decayed: bool = False
    """Whether the learning rate falls linearly to zero."""
    seed: int = 0


def _contrib_ppo(envs: VecEnv, horizon: int | None = None, **settings: Any) -> BaseAlgorithm:
    from sb3_contrib import RecurrentPPO as ContribRecurrentPPO

    agent = ContribRecurrentPPO("MlpLstmPolicy", envs, **settings)
    if horizon is not None:
        for module in agent.policy.modules():
            if isinstance(module, nn.LSTM):
                remember(module, horizon)
    return agent


@torch.no_grad()
def remember(lstm: nn.LSTM, horizon: int) -> None:
    """Let an LSTM's units forget after up to ``horizon`` steps at first.

    Source: chrono initialisation (Tallec & Ollivier 2018, arXiv 1804.11188, equation 16). It would
    close the input gates as far as the forget gates are open, with which nothing was learnt in a
    T-maze of 100 steps; here they stay half open.
    """
    size = lstm.hidden_size
    forget = torch.log(torch.empty(size).uniform_(1, horizon - 1))
    # Gates: input, forget, cell, output; of two biases that are added, one is zero.
    lstm.get_parameter("bias_ih_l0")[size : 2 * size] = forget
    lstm.get_parameter("bias_hh_l0")[size : 2 * size] = 0.0


AGENTS: dict[str, Callable[..., BaseAlgorithm]] = {
    "skillrl RecurrentPPO": lambda envs, **s: RecurrentPPO("MlpLruPolicy", envs, **s),
    "sb3-contrib RecurrentPPO": _contrib_ppo,
    "PPO": lambda envs, **s: PPO("MlpPolicy", envs, **s),
    "skillrl RecurrentSAC": lambda envs, **s: RecurrentSAC("MlpLruPolicy", envs, **s),
    "SAC": lambda envs, **s: SAC("MlpPolicy", envs, **s),
}


class _Returns(BaseCallback):
    """Keeps the returns of training episodes, and when they ended."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.episodes.append((self.num_timesteps, info["episode"]["r"]))
        return True

    def curve(self, steps: int) -> list[list[float]]:
        """Mean returns of the episodes that ended in each part of the training."""
        parts: dict[int, list[float]] = {}
        for at, value in self.episodes:
            parts.setdefault(min(POINTS, -(-at * POINTS // steps)), []).append(value)
        return [[part * steps // POINTS, float(np.mean(v))] for part, v in sorted(parts.items())]


def train(training: Training) -> dict[str, Any]:
    """Train, and return the mean return without exploration, the curve and the duration."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    plain = training.task.make(training.num_envs)
    envs = plain
    if training.task.normalized:
        envs = VecNormalize(plain, gamma=training.settings["gamma"])
    settings = {"seed": training.seed, "device": "cpu", **training.settings}
    if training.decayed:
        settings["learning_rate"] = LinearSchedule(settings["learning_rate"], 0.0, 1.0)
    agent = AGENTS[training.agent](envs, **settings)
    returns = _Returns()
    agent.learn(training.steps, callback=returns)
    trained = time.perf_counter() - started
    if isinstance(envs, VecNormalize):
        envs.training = envs.norm_reward = False
    envs.seed(training.seed + 10_000)
    found: Any = evaluate_policy(agent, envs, training.episodes, return_episode_rewards=True)[0]
    envs.close()
    return {
        "return": float(np.mean(found)),
        "returns": [round(float(each), 4) for each in found],
        "curve": returns.curve(training.steps),
        "seconds": {"training": trained, "evaluation": time.perf_counter() - started - trained},
    }


Job = tuple[str, Training, Path]


def run_all(
    trainings: Mapping[Any, Training], folder: Path, workers: int
) -> dict[Any, dict[str, Any]]:
    """Do every training once, unless the folder knows what comes out.

    Args:
        trainings: by names, which are of strings and numbers.
        folder: of the files.
        workers: that train side by side.
    """
    jobs: Iterable[Job] = [(_title(name), each, folder) for name, each in trainings.items()]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return dict(zip(trainings, pool.imap(_run, jobs), strict=True))


def _title(name: Any) -> str:
    return ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _run(job: Job) -> dict[str, Any]:
    title, training, folder = job

    def find() -> dict[str, Any]:
        outcome = train(training)
        seconds = sum(outcome["seconds"].values())
        print(f"{title}: return {outcome['return']:.3f}, {seconds:.0f} s", flush=True)
        return outcome

    return once(folder, title, dataclasses.asdict(training), find)


def searched(
    contenders: Mapping[Any, Training],
    folder: Path,
    workers: int,
    *,
    rates: Sequence[float],
    share: float,
) -> tuple[dict[Any, Training], list[dict[str, Any]]]:
    """Choose each contender's learning rate, by a seed that is not among the recorded ones.

    Args:
        contenders: trainings by names.
        folder: of the files.
        workers: that train side by side.
        rates: that are tried.
        share: of the steps that a trial has.

    Returns:
        The contenders with the rate whose trial ended with the highest return of the training's
        last quarter, and all trials.
    """

    def name_of(name: Any, rate: float) -> tuple[Any, ...]:
        return (*(name if isinstance(name, tuple) else (name,)), "rate", rate)

    trials = {
        name_of(name, rate): dataclasses.replace(
            each,
            seed=SEARCH_SEED,
            steps=int(each.steps * share),
            settings={**each.settings, "learning_rate": rate},
        )
        for name, each in contenders.items()
        for rate in rates
    }
    outcomes = run_all(trials, folder, workers)

    def score(name: Any, rate: float) -> float:
        trial = name_of(name, rate)
        curve = outcomes[trial]["curve"]
        # Where no episode ended in the last quarter, by the last that did before.
        last = [value for at, value in curve if at > 0.75 * trials[trial].steps]
        last = last or [value for _, value in curve[-1:]]
        return float(np.mean(last)) if last else -np.inf

    chosen = {
        name: dataclasses.replace(
            each,
            settings={
                **each.settings,
                "learning_rate": max(rates, key=lambda rate: score(name, rate)),
            },
        )
        for name, each in contenders.items()
    }
    kept = [
        {"trial": _title(name), "steps": trials[name].steps, "curve": outcome["curve"]}
        for name, outcome in outcomes.items()
    ]
    return chosen, kept


def compared(
    contenders: Mapping[Any, Training], folder: Path, workers: int, seeds: Sequence[int]
) -> dict[Any, dict[str, Any]]:
    """Train every contender with some seeds: returns by seed, mean, interval, curves, settings.

    Of fewer than four seeds the inter-quartile mean is the mean.
    """

    def name_of(name: Any, seed: int) -> tuple[Any, ...]:
        return (*(name if isinstance(name, tuple) else (name,)), "seed", seed)

    # Every contender's first seed comes first: a comparison that is stopped knows something of all.
    runs = {
        name_of(name, seed): dataclasses.replace(each, seed=seed)
        for seed in seeds
        for name, each in contenders.items()
    }
    outcomes = run_all(runs, folder, workers)
    found = {}
    for name, each in contenders.items():
        own = [outcomes[name_of(name, seed)] for seed in seeds]
        values = [outcome["return"] for outcome in own]
        found[name] = {
            "mean": inter_quartile_mean(values),
            "interval": bootstrap(values),
            "returns": values,
            "seeds": list(seeds),
            "curves": [outcome["curve"] for outcome in own],
            "minutes": sum(sum(outcome["seconds"].values()) for outcome in own) / 60,
            "training": dataclasses.asdict(each),
        }
    return found
