"""An ordinary agent that chooses among discovered skills, against one that learns from scratch.

The task: HalfCheetah runs to a flag 8 m ahead, then to one 8 m behind where it began, and so on.
The reward is the distance by which it comes nearer, in metres, or 1 at each flag that it reaches
and nothing before; observations end with the flag's distance. Both sides are Stable-Baselines3's
PPO with the same number of the environment's steps, on observations and rewards normalised by
running statistics; one acts by skills of 16 steps each, the other by torques, with PPO's default
settings. The side with skills has 512 actions an update in the place of 2,048, because it takes 16
times fewer, and its discount of 0.99 is an action's. Returns are those of both sides without noise.
The skills were discovered without the task, in one run; its steps are recorded beside, and are not
counted.

    python benchmarks/skill_actions.py --run runs/half-cheetah/neural-rewards/seed-11
    python benchmarks/skill_actions.py --quick             under 60 seconds
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize, sync_envs_normalization

from comparison import all_steps, quick
from intervals import bootstrap, inter_quartile_mean
from record import OUTCOMES, once, passing_folder, record
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.run import discover
from skillrl.envs import SkillActionWrapper

FLAG = 8.0
STEPS = 16
NUM_ENVS = 8
# Actions between two updates: PPO's default from scratch, fewer by skills.
ROLLOUTS = {"skills": 512, "scratch": 2_048}
# Environment steps after which both have made whole updates: an update by skills takes four times
# as many as one from scratch.
ROUND = ROLLOUTS["skills"] * STEPS
SIDES = ("skills", "scratch")
REWARDS = ("distance", "flags")


class Shuttle(gym.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """HalfCheetah that is to run to and fro between two flags."""

    def __init__(self, env: gym.Env[Any, Any], reward: str) -> None:
        super().__init__(env)
        self.reward = reward
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (18,), np.float64)

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin with the flag ahead."""
        observation, info = self.env.reset(**kwargs)
        self.flag = FLAG
        self.distance = self._distance()
        return self._observe(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Return the metres by which the flag has come nearer, or whether it is reached."""
        observation, _, terminated, truncated, info = self.env.step(action)
        nearer = abs(self.distance) - abs(self._distance())
        self.distance = self._distance()
        reached = self.distance * np.sign(self.flag) <= 0
        if reached:
            self.flag = -self.flag
            self.distance = self._distance()
        reward = nearer if self.reward == "distance" else float(reached)
        return self._observe(observation), reward, terminated, truncated, info

    def _distance(self) -> float:
        return float(self.flag - self.unwrapped.data.qpos[0])  # type: ignore[attr-defined]

    def _observe(self, observation: np.ndarray) -> np.ndarray:
        return np.append(observation, self.distance)


def without_flag(observation: np.ndarray) -> np.ndarray:
    """Return what the skills have learnt to observe."""
    return observation[:-1]


@dataclass(frozen=True)
class Task:
    """One agent to train."""

    reward: str
    side: str
    seed: int
    run: Path
    marks: tuple[int, ...]
    """Environment steps after which it is evaluated."""
    episodes: int
    """Of an evaluation."""
    outcomes: Path


def learn(task: Task) -> list[float]:
    """Train one agent, unless its returns are known, and return them: one for each mark."""
    settings: dict[str, Any] = {"side": task.side, "seed": task.seed, "marks": task.marks}
    settings |= {"reward": task.reward}
    if task.side == "skills":
        library = SkillLibrary(task.run)
        settings |= {"recipe": dataclasses.asdict(library.recipe), "run": library.seed}
    title = f"{task.reward} {task.side} seed {task.seed}"
    found = once(task.outcomes, title, settings, lambda: {"returns": returns_of(task)})
    returns: list[float] = found["returns"]
    return returns


def returns_of(task: Task) -> list[float]:
    """Train one agent and return what it earns at each mark."""
    torch.set_num_threads(1)

    def make() -> gym.Env[Any, Any]:
        env: gym.Env[Any, Any] = Shuttle(gym.make("HalfCheetah-v5"), task.reward)
        if task.side == "skills":
            skills = [skill.policy for skill in SkillLibrary(task.run)]
            env = SkillActionWrapper(env, skills, STEPS, without_flag)
        return env

    per_action = STEPS if task.side == "skills" else 1
    n_steps = ROLLOUTS[task.side] // NUM_ENVS
    envs = VecNormalize(make_vec_env(make, NUM_ENVS, seed=task.seed))
    judged = VecNormalize(
        make_vec_env(make, NUM_ENVS, seed=task.seed + 1_000), training=False, norm_reward=False
    )
    agent = PPO("MlpPolicy", envs, n_steps=n_steps, batch_size=64, seed=task.seed, device="cpu")
    returns = []
    for mark in task.marks:
        agent.learn(mark // per_action - agent.num_timesteps, reset_num_timesteps=False)
        sync_envs_normalization(envs, judged)
        earned, _ = evaluate_policy(agent, judged, task.episodes)
        returns.append(float(np.mean(earned)))
    return returns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/half-cheetah/neural-rewards/seed-11")
    )
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES / "skill_actions")
    parser.add_argument("--rewards", nargs="+", choices=REWARDS, default=list(REWARDS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=128, help=f"of {ROUND:,} steps each")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.rounds, options.run = 1, 2, quick_run()
        options.outcomes = passing_folder()
    shares = (1.0,) if options.quick else (0.1, 0.3, 1.0)
    marks = tuple(math.ceil(options.rounds * share) * ROUND for share in shares)
    tasks = [
        Task(reward, side, seed, options.run, marks, 1 if options.quick else 16, options.outcomes)
        for reward in options.rewards
        for seed in range(options.seeds)
        for side in SIDES
    ]
    jobs = multiprocessing.cpu_count()
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        returns = dict(zip(tasks, pool.map(learn, tasks, chunksize=1), strict=True))
    library = SkillLibrary(options.run)
    figures: dict[str, Any] = {"seeds": list(range(options.seeds)), "marks": marks}
    figures["steps of discovery"] = sum(
        all_steps(dataclasses.asdict(skill.record)) for skill in library
    )
    figures["rewards"] = {
        reward: {
            side: summary(
                [each for t, each in returns.items() if (t.reward, t.side) == (reward, side)], marks
            )
            for side in SIDES
        }
        for reward in options.rewards
    }
    figures["skills_run"] = str(options.run)
    record("skill_actions", figures, quick=options.quick)


def summary(by_seed: Sequence[Sequence[float]], marks: Sequence[int]) -> dict[str, Any]:
    """Returns at some numbers of steps, by seed, and their inter-quartile means with intervals."""
    columns = zip(*by_seed, strict=True)
    returns = {str(mark): [*column] for mark, column in zip(marks, columns, strict=True)}
    return {
        "returns": returns,
        "mean": {mark: inter_quartile_mean(each) for mark, each in returns.items()},
        "interval": {mark: bootstrap(each) for mark, each in returns.items()},
    }


def quick_run() -> Path:
    """Two skills that were hardly trained."""
    folder = passing_folder() / "run"
    discover(dataclasses.replace(quick(recipe_for("HalfCheetah-v5")), generations=2), folder)
    return folder


if __name__ == "__main__":
    main()
