"""One seed of an ordinary training: its environments, its agent, and the files it leaves.

::

    seed-000/agent.zip           the agent at the end, in Stable-Baselines3's format
             normalizer.npz      statistics of its observations and rewards, if they are normalised
             best.zip            the agent at its best evaluation
             evaluations.json    steps, returns and lengths of all evaluations
             checkpoint.zip      where a training that was stopped goes on
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecNormalize, sync_envs_normalization

from skillrl.agents.from_recipe import make_agent, make_envs
from skillrl.agents.normalizer import Normalizer
from skillrl.agents.recipes import TrainRecipe
from skillrl.agents.sequence_replay import SequenceReplayBuffer
from skillrl.agents.zip_files import restore_agent, save_agent
from skillrl.errors import DamagedFileError, DivergedError, RunStopped
from skillrl.files import read_json, write_json

CHECKPOINT_INTERVAL = 60.0
"""Seconds between two checkpoints."""

# Evaluations begin at the same resets, which no training does.
_EVALUATION_SEED = 1_000_000


@dataclass(frozen=True)
class Evaluation:
    """What an agent earned without noise."""

    steps: int
    """Environment steps of training before it."""
    returns: list[float]
    """Undiscounted sums of rewards, one an episode."""
    lengths: list[int]
    """Steps of these episodes."""

    @property
    def mean(self) -> float:
        """The mean return."""
        return float(np.mean(self.returns))


@dataclass(frozen=True)
class Status:
    """Where a training stands between two rollouts."""

    steps: int
    """Environment steps so far."""
    mean_return: float | None
    """Of the last 100 episodes, with noise; None as long as none has ended."""
    evaluation: Evaluation | None
    """The last one."""


class Training:
    """One seed: environments and agent, from the begin or from the folder's last checkpoint.

    Args:
        recipe: every setting.
        folder: for the files; it is made when the first one is written.
        seed: of everything random.
        resume: go on from what is in the folder, if there is anything.

    Raises:
        InvalidValueError: if the environment, the agent or one of their arguments cannot be used.
        DamagedFileError: if what is in the folder cannot be read.
    """

    def __init__(
        self, recipe: TrainRecipe, folder: Path, seed: int, *, resume: bool = False
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.seed = seed
        self.env = make_envs(recipe, recipe.num_envs)
        self.evaluations: list[Evaluation] = []
        try:
            self.agent = make_agent(recipe, self.env, seed)
            self._eval_env = make_envs(recipe, min(recipe.num_envs, recipe.eval_episodes))
            if isinstance(self._eval_env, VecNormalize):
                self._eval_env.training = self._eval_env.norm_reward = False
            if resume:
                self._resume()
        except BaseException:
            self.env.close()
            raise

    def _resume(self) -> None:
        for name in ("checkpoint.zip", "agent.zip"):
            if (self.folder / name).exists():
                restore_agent(self.agent, self.folder / name)
                break
        else:
            return
        self.evaluations = [
            each for each in read_evaluations(self.folder) if each.steps <= self.steps
        ]
        # With the same random numbers it would try again what it tried at first.
        self.agent.set_random_seed(self.seed + self.steps)

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        return self.agent.num_timesteps

    @property
    def finished(self) -> bool:
        """Whether all steps are taken, and the agent is evaluated and saved."""
        evaluated = bool(self.evaluations) and self.evaluations[-1].steps == self.steps
        enough = self.steps >= self.recipe.timesteps
        return enough and evaluated and not (self.folder / "checkpoint.zip").exists()

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the highest mean return."""
        return max(self.evaluations, key=lambda each: each.mean, default=None)

    @property
    def replay_bytes(self) -> int:
        """What the replay buffer takes of memory when full; 0 of agents without one."""
        buffer = getattr(self.agent, "replay_buffer", None)
        if buffer is None or isinstance(buffer, SequenceReplayBuffer):
            return 0 if buffer is None else buffer.nbytes
        parts = [*vars(buffer).values()]
        # Observations that are dictionaries are kept as such.
        parts += [each for part in parts if isinstance(part, dict) for each in part.values()]
        return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))

    def normalizer(self) -> Normalizer | None:
        """Return the present statistics, or None where nothing is normalised."""
        env = self.agent.get_vec_normalize_env()
        return None if env is None else Normalizer.of(env)

    def learn(
        self,
        logger: Logger,
        *,
        on_status: Callable[[Status], None] = lambda status: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train, evaluate and save until all steps are taken.

        Args:
            logger: takes the figures of training and evaluation.
            on_status: called between two rollouts.
            should_stop: asked there, too; where it says so, a checkpoint is written and
                ``RunStopped`` raised.

        Raises:
            RunStopped: if ``should_stop`` said so.
            DivergedError: if returns, or what the networks give, are no longer finite.
        """
        try:
            self._learn(logger, on_status, should_stop)
        except ValueError as error:
            if "satisfy the constraint" not in str(error):  # of a distribution's parameters
                raise
            raise DivergedError(
                f"After {self.steps:,} steps what the networks give is no longer finite: lower the "
                "learning rate, or look at the observations and rewards of the environment."
            ) from None

    def _learn(
        self, logger: Logger, on_status: Callable[[Status], None], should_stop: Callable[[], bool]
    ) -> None:
        agent, between = self.agent, _Between(self, on_status, should_stop)
        agent.set_logger(logger)
        total = self.recipe.timesteps
        if isinstance(agent, OffPolicyAlgorithm) and agent.learning_starts < self.steps < total:
            # A resumed agent fills its empty replay buffer before it learns on.
            often, agent.gradient_steps = agent.gradient_steps, 0
            count = min(agent.learning_starts, total - self.steps)
            agent.learn(count, between, reset_num_timesteps=False)
            agent.gradient_steps = often
        if self.steps < total:
            agent.learn(total - self.steps, between, reset_num_timesteps=False)
        if not self.evaluations or self.evaluations[-1].steps < self.steps:
            self.evaluate()
        on_status(self.status())
        normalizer = self.normalizer()
        if normalizer is not None:
            normalizer.save(self.folder / "normalizer.npz")
        save_agent(agent, self.folder / "agent.zip")
        # Last: where there is none, the training is finished.
        (self.folder / "checkpoint.zip").unlink(missing_ok=True)

    def evaluate(self) -> None:
        """Evaluate the agent, and keep it if it is the best so far."""
        agent, best = self.agent, self.best
        if isinstance(self._eval_env, VecNormalize):
            sync_envs_normalization(self.env, self._eval_env)
        self._eval_env.seed(_EVALUATION_SEED + self.seed)
        returns, lengths = evaluate_policy(
            agent, self._eval_env, self.recipe.eval_episodes, return_episode_rewards=True
        )
        assert isinstance(returns, list) and isinstance(lengths, list)
        if not np.isfinite(returns).all():
            raise DivergedError(
                f"After {self.steps:,} steps the agent's returns are {returns}: look at the "
                "rewards of the environment, or lower the learning rate."
            )
        evaluation = Evaluation(self.steps, [float(r) for r in returns], [int(n) for n in lengths])
        self.evaluations.append(evaluation)
        if best is None or evaluation.mean > best.mean:
            save_agent(agent, self.folder / "best.zip")
        columns = {
            name: [getattr(each, name) for each in self.evaluations]
            for name in ("steps", "returns", "lengths")
        }
        write_json(self.folder / "evaluations.json", columns)
        logger = agent.logger
        logger.record("eval/mean_reward", evaluation.mean)
        logger.record("eval/mean_ep_length", float(np.mean(lengths)))
        logger.record("time/total_timesteps", self.steps, exclude="tensorboard")
        logger.dump(self.steps)

    def save_checkpoint(self) -> None:
        """Write down where to go on."""
        save_agent(self.agent, self.folder / "checkpoint.zip")

    def status(self) -> Status:
        """Return where the training stands."""
        episodes = self.agent.ep_info_buffer
        returns = [episode["r"] for episode in episodes] if episodes else []
        return Status(
            self.steps,
            float(safe_mean(returns)) if returns else None,
            self.evaluations[-1] if self.evaluations else None,
        )

    def close(self) -> None:
        """Close the environments."""
        self.env.close()
        self._eval_env.close()


class _Between(BaseCallback):
    """What is done between two rollouts: evaluations, checkpoints, a stop."""

    def __init__(
        self,
        training: Training,
        on_status: Callable[[Status], None],
        should_stop: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._training_of = training
        self._on_status = on_status
        self._should_stop = should_stop
        every = training.recipe.eval_every
        self._next_evaluation = (training.steps // every + 1) * every
        self._saved = time.monotonic()

    def _on_rollout_start(self) -> None:
        training, every = self._training_of, self._training_of.recipe.eval_every
        evaluated = self.num_timesteps >= self._next_evaluation
        if evaluated:
            training.evaluate()
            self._next_evaluation = (training.steps // every + 1) * every
        stop = self._should_stop()
        if stop or evaluated or time.monotonic() - self._saved > CHECKPOINT_INTERVAL:
            training.save_checkpoint()
            self._saved = time.monotonic()
        if stop:
            raise RunStopped("Stopped. The run can be resumed.")
        self._on_status(training.status())

    def _on_step(self) -> bool:
        return True


def read_evaluations(folder: Path) -> list[Evaluation]:
    """Return the evaluations of a seed, in their order.

    Raises:
        DamagedFileError: if there are none that can be read.
    """
    path = folder / "evaluations.json"
    if not path.exists():
        return []
    columns = read_json(path)
    try:
        found = [
            Evaluation(int(steps), [float(r) for r in returns], [int(n) for n in lengths])
            for steps, returns, lengths in zip(
                columns["steps"], columns["returns"], columns["lengths"], strict=True
            )
        ]
        if not all(each.returns for each in found):
            raise ValueError("an evaluation without episodes")
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}.") from None
    return found
