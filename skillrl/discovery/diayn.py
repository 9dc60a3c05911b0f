"""DIAYN: skills learnt together, told apart by a discriminator.

Eysenbach et al. 2019 (Diversity is all you need, arXiv 1802.06070), on the agent, the networks and
the number of steps of ``skillrl.discovery.loop``, to compare with it:

1. one policy, whose observations end with a one-hot skill, acts; a skill is drawn an episode;
2. its reward is how much better than by a guess a discriminator tells the skill from the
   observation, ``log q(skill | observation) + log(number of skills)``;
3. after each rollout the discriminator learns to tell the skills of its observations.

In the end each skill becomes a policy of its own, which a library holds like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from skillrl.agents import SkillPolicy, SkillPPO, fix_inputs
from skillrl.discovery.checkpoint import load_checkpoint, read_progress, save_checkpoint
from skillrl.discovery.evaluation import Evaluation
from skillrl.discovery.events import OnEvent, SkillFinished, Trained
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.logs import run_logger
from skillrl.discovery.samples import gather_negatives
from skillrl.discovery.settings import Recipe
from skillrl.discovery.training import (
    make_agent,
    make_envs,
    real_vectors,
    stagger_episodes,
    train,
)
from skillrl.envs import NeuralRewardVectorWrapper, SkillConditionedVectorWrapper
from skillrl.errors import InvalidValueError
from skillrl.rewards import NeuralReward


@dataclass
class Progress:
    """What a checkpoint tells of a run, besides the agent and the discriminator."""

    steps: int = 0
    """Time steps so far."""
    seconds: float = 0.0
    """Duration of the training."""


class Diayn:
    """The state of a run, and its steps in the order in which ``run`` takes them.

    Args:
        library: an empty one, or that of a run to go on with.
        recipe: every setting; ``generations`` is the number of skills, and all together are
            trained for ``generations * steps_per_skill`` steps.
        on_event: called after each update, and with each skill.
        should_stop: asked before each rollout.
        num_threads: threads that step environments, or None for one on each usable CPU.

    Raises:
        InvalidValueError: if the run was begun with another number of skills, or observations are
            no vectors of real numbers.
    """

    def __init__(
        self,
        library: SkillLibrary,
        recipe: Recipe,
        on_event: OnEvent,
        should_stop: Callable[[], bool],
        num_threads: int | None = None,
    ) -> None:
        if recipe.generations != library.recipe.generations:
            raise InvalidValueError(
                f"The {library.recipe.generations} skills of {library.path} are learnt together; "
                f"there cannot be {recipe.generations}. Name another folder for a new run."
            )
        self.library = library
        self.recipe = recipe
        self.on_event = on_event
        self.should_stop = should_stop
        self.num_skills = recipe.generations
        self.steps = recipe.generations * recipe.steps_per_skill
        self.checkpoint = library.path / "checkpoint" / "latest.safetensors"
        self.progress = Progress()

        torch.manual_seed(self._seed("networks"))
        torch.set_num_threads(1)
        envs = make_envs(recipe, recipe.agent.num_envs, num_threads=num_threads)
        space = real_vectors(envs.single_observation_space)
        (self.size,) = space.shape
        self.space = space
        conditioned = SkillConditionedVectorWrapper(envs, self.num_skills)
        self.discriminator = NeuralReward(
            space.shape,
            hidden=recipe.reward.hidden,
            target=recipe.target,
            classes=self.num_skills,
        )
        # What is learnt beside the agent.
        self.learnt: nn.Module = self.discriminator
        self.optimizer = torch.optim.Adam(
            self.learnt.parameters(), recipe.diayn.learning_rate, fused=True
        )
        self.env = NeuralRewardVectorWrapper(conditioned, self.rewards)
        # A recipe refuses other agents.
        self.agent = cast(SkillPPO, make_agent(recipe, self.env))
        self.evaluation = Evaluation(recipe, self.discriminator, num_threads)
        self.num_threads = num_threads
        steps = read_progress(self.checkpoint, Progress).steps if self.checkpoint.exists() else 0
        # Last, so that no file stays open where one of the above fails.
        self.agent.set_logger(run_logger(library.path, steps))

    def _seed(self, purpose: str) -> int:
        words = [self.library.seed, *purpose.encode()]
        return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)

    def run(self) -> None:
        """Learn the skills, and save each of them.

        Raises:
            RunStopped: if ``should_stop`` said so.
        """
        if self.checkpoint.exists():
            self.resume()
        else:
            self.begin()
        self.train()
        for index in range(len(self.library), self.num_skills):
            self.finish_skill(index)
        self.checkpoint.unlink(missing_ok=True)

    def begin(self) -> None:
        """Standardise what the discriminator sees by what the untrained policy does."""
        samples = self.recipe.samples
        envs = make_envs(self.recipe, samples.num_envs, num_threads=self.num_threads)
        untrained = self.policy(0)
        visited = gather_negatives(envs, untrained, samples, self._seed("untrained")).visited
        envs.close()
        self.discriminator.standardise(torch.as_tensor(visited))
        self._set_schedules()
        self.agent.start_from_reset(self._seed("training"))
        stagger_episodes(self.env, self._seed("stagger"))

    def resume(self) -> None:
        """Go on from the checkpoint."""
        self.progress = read_progress(self.checkpoint, Progress)
        self._set_schedules()
        parts = (self.agent, self.env, self.learnt, self.optimizer)
        load_checkpoint(self.checkpoint, *parts)

    def train(self) -> None:
        """Train the agent and, after each rollout, the discriminator."""
        before = self.progress.seconds

        def checkpoint(seconds: float) -> None:
            self.progress.seconds = before + seconds
            self._save_checkpoint()

        for seconds in train(self.agent, self.steps, checkpoint, self.should_stop):
            self.learn()
            self.progress.seconds = before + seconds
            self.on_event(Trained(None, self.agent.num_timesteps, self.agent.mean_reward))
        # Skills are saved one by one: a run killed meanwhile goes on with the next one.
        self._save_checkpoint()

    def rewards(self, conditioned: np.ndarray) -> np.ndarray:
        """Return the rewards ``(batch,)`` of observations that end with a one-hot skill."""
        skills = torch.as_tensor(conditioned[:, self.size :].argmax(1))
        with torch.no_grad():
            inputs = self.discriminator.standardised(torch.as_tensor(conditioned[:, : self.size]))
            log_probabilities = self.discriminator.outputs(inputs).log_softmax(-1)
            chosen = log_probabilities.gather(1, skills[:, None]).squeeze(1)
        return (chosen + np.log(self.num_skills)).numpy()

    def learn(self) -> None:
        """Train the discriminator to tell the skills of the last rollout's observations."""
        rollout = self.agent.rollout_buffer.observations.reshape(-1, self.size + self.num_skills)
        skills = torch.as_tensor(rollout[:, self.size :].argmax(1))
        inputs = self.discriminator.standardised(torch.as_tensor(rollout[:, : self.size]))
        batch_size = self.recipe.agent.batch_size
        for _ in range(self.recipe.diayn.epochs):
            for batch in torch.randperm(len(inputs)).split(batch_size):
                loss = cross_entropy(self.discriminator.outputs(inputs[batch]), skills[batch])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        self.agent.logger.record("train/discriminator_loss", loss.item())

    def policy(self, skill: int) -> SkillPolicy:
        """Return one skill's policy, for the environment's own observations."""
        return fix_inputs(self.agent.policy, self.space, np.eye(self.num_skills)[skill])

    def finish_skill(self, index: int) -> None:
        """Evaluate a skill beside the next one, from ordinary resets, and save it."""
        self.discriminator.label = index
        policy = self.policy(index)
        record = self.evaluation.record(
            index,
            policy,
            [self.policy((index + 1) % self.num_skills)],
            self._seed("evaluation"),
            steps=self.recipe.steps_per_skill,
            seconds=self.progress.seconds / self.num_skills,
        )
        self.on_event(SkillFinished(self.library.add(policy, self.discriminator, record)))

    def close(self) -> None:
        """Close the environments and the logs."""
        for part in (self.env, self.evaluation):
            part.close()
        self.agent.logger.close()

    def _set_schedules(self) -> None:
        agent = self.recipe.agent
        self.agent.set_noise(int(agent.anneal_from * self.steps), self.steps, agent.final_noise)

    def _save_checkpoint(self) -> None:
        # Environments that cannot tell their state are trained from the start.
        if hasattr(self.env, "get_state"):
            self.progress.steps = self.agent.num_timesteps
            parts = (self.agent, self.env, self.learnt, self.progress, self.optimizer)
            save_checkpoint(self.checkpoint, *parts)
