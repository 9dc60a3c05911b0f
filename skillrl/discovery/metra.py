"""METRA: skills that go far apart in a representation of time, learnt together.

Park et al. 2024 (METRA: Scalable unsupervised RL with metric-aware abstraction, arXiv 2310.08887),
with discrete skills, on the agent, the networks and the number of steps of
``skillrl.discovery.loop``, to compare with it (the authors' agent is SAC):

1. one policy, whose observations end with a one-hot skill, acts; a skill is drawn an episode;
2. its reward is how far a step goes in the skill's direction, ``(φ(s') − φ(s)) · z``, in a learnt
   representation φ with one direction z for each skill;
3. after each rollout φ learns to let its steps go far in the directions of their skills, while no
   step may be longer than 1: it then measures time.

Skills go as far as observations tell: robots' should hold the position (``env_kwargs``
``{"exclude_current_positions_from_observation": false}``). With ``diayn.epochs`` at 4, HalfCheetah
ran at −6 and 2.8 m/s after two million steps; with 1 the multiplier takes as long to come to rest.

A library's rewards look at single observations. Those of these skills are a discriminator's, as in
DIAYN, which is learnt beside them and trains no policy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from skillrl.discovery.diayn import Diayn
from skillrl.discovery.events import OnEvent
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.settings import Recipe
from skillrl.rewards import NeuralReward

# Of the paper: how far a step may fall short of 1 before the constraint is at rest, and its
# multiplier at first.
SLACK, FIRST_MULTIPLIER = 1e-3, 30.0


class Metra(Diayn):
    """The state of a run; its steps are those of ``Diayn``."""

    def __init__(
        self,
        library: SkillLibrary,
        recipe: Recipe,
        on_event: OnEvent,
        should_stop: Callable[[], bool],
        num_threads: int | None = None,
    ) -> None:
        super().__init__(library, recipe, on_event, should_stop, num_threads)
        self.representation = NeuralReward(
            self.space.shape, hidden=recipe.reward.hidden, classes=self.num_skills
        )
        self.log_multiplier = nn.Parameter(torch.tensor(FIRST_MULTIPLIER).log())
        self.learnt = nn.ModuleDict(
            {
                "discriminator": self.discriminator,
                "representation": self.representation,
                "multiplier": nn.ParameterList([self.log_multiplier]),
            }
        )
        self.optimizer = torch.optim.Adam(
            self.learnt.parameters(), recipe.diayn.learning_rate, fused=True
        )
        # Directions of the skills: the corners of a simplex around 0.
        corners = torch.eye(self.num_skills) - 1 / self.num_skills
        self.directions = corners * self.num_skills / (self.num_skills - 1)

    def begin(self) -> None:
        """Standardise what both networks see by what the untrained policy does."""
        super().begin()
        self.representation.mean.copy_(self.discriminator.mean)
        self.representation.std.copy_(self.discriminator.std)

    def rewards(self, conditioned: np.ndarray) -> np.ndarray:
        """Return the rewards ``(batch,)`` of a step, which ends at these observations."""
        begins = np.asarray(self.agent.rollout_state()["last_obs"])
        with torch.no_grad():
            steps = self._represented(conditioned) - self._represented(begins)
        skills = conditioned[:, self.size :].argmax(1)
        return (steps * self.directions[skills]).sum(1).numpy()

    def learn(self) -> None:
        """Train the discriminator, and the representation by the steps of the last rollout."""
        super().learn()
        buffer = self.agent.rollout_buffer
        before, after = buffer.observations[:-1], buffer.observations[1:]
        same_episode = buffer.episode_starts[1:] == 0
        before, after = before[same_episode], after[same_episode]
        directions = self.directions[before[:, self.size :].argmax(1)]
        for _ in range(self.recipe.diayn.epochs):
            for batch in torch.randperm(len(before)).split(self.recipe.agent.batch_size):
                rows = batch.numpy()
                steps = self._represented(after[rows]) - self._represented(before[rows])
                left = (1 - steps.square().sum(1)).clamp_max(SLACK)
                far = (steps * directions[batch]).sum(1)
                multiplier = self.log_multiplier.exp()
                # The multiplier falls where steps are short, and grows where they are too long.
                loss = (multiplier * left.detach() - far - multiplier.detach() * left).mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        self.agent.logger.record("train/multiplier", float(multiplier.detach()))
        self.agent.logger.record("train/step_length", float(steps.detach().norm(dim=1).mean()))

    def _represented(self, conditioned: np.ndarray) -> torch.Tensor:
        """φ of observations that end with a skill, ``(batch, num_skills)``."""
        observations = torch.as_tensor(conditioned[:, : self.size])
        phi = self.representation
        # Not compressed as rewards' inputs are: what is twice as far should be twice as far.
        return phi.outputs(((observations - phi.mean) / phi.std).float())
