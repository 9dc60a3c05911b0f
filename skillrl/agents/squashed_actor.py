"""Actors whose noise depends on the state, and whose continuous actions are squashed by tanh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from skillrl.agents.base_skill_policy import BaseSkillPolicy
from skillrl.agents.distributions import ActionDistribution, Categorical, SquashedNormal
from skillrl.errors import InvalidValueError


class SquashedActor(BaseSkillPolicy, ActorCriticPolicy):
    """Base of actor-critics with squashed, state-dependent noise.

    For a Box action space the actor's last layer gives means and standard deviations (through a
    softplus), and actions are squashed by tanh to the bounds of the space; for a Discrete one it
    gives logits.
    """

    action_net: nn.Linear
    value_net: nn.Linear
    noise_scale: Tensor

    def make_action_net(self, input_size: int) -> None:
        """Make the actor's last layer."""
        if isinstance(self.action_space, spaces.Discrete):
            outputs = int(self.action_space.n)
        else:
            outputs = 2 * int(np.prod(self.action_space.shape or ()))
        self.action_net = nn.Linear(input_size, outputs)
        # Factor on the noise of continuous actions, which may shrink in training.
        self.register_buffer("noise_scale", torch.ones(()))

    @property
    def squash_output(self) -> bool:
        """Whether actions lie in [-1, 1] and are scaled to the bounds of the space."""
        return isinstance(self.action_space, spaces.Box)

    @property
    def mean_layer(self) -> nn.Linear:
        """The layer whose first outputs are mean actions before the tanh."""
        return self.action_net

    def distribution(self, parameters: Tensor) -> ActionDistribution:
        """Return the distribution of actions that the actor's output describes."""
        if self.squash_output:
            return SquashedNormal(parameters, self.noise_scale)
        return Categorical(parameters)

    def environment_actions(self, actions: Tensor) -> np.ndarray:
        """Return what an environment is given for actions ``(batch, …)`` before the tanh."""
        if isinstance(self.action_space, spaces.Box):
            squashed = actions.detach().tanh().cpu().numpy()
            return self.unscale_action(squashed.reshape(-1, *self.action_space.shape))
        assert isinstance(self.action_space, spaces.Discrete)  # checked by the constructor
        return actions.squeeze(-1).cpu().numpy() + self.action_space.start

    def reset_head(self, *, keep_mean: bool) -> None:
        """Set the last layer to zero; of continuous actions, the means may be kept."""
        # Means come first, raw standard deviations after them.
        first = self.action_net.out_features // 2 if keep_mean and self.squash_output else 0
        with torch.no_grad():
            for parameter in self.action_net.parameters():
                parameter[first:] = 0.0

    @contextmanager
    def widened(self, std: float) -> Iterator[None]:
        """Let ``predict`` act with wider noise; see ``BaseSkillPolicy.widened``."""
        if not self.squash_output:
            raise InvalidValueError(
                "Exploration by scaled noise needs continuous actions. "
                "Set samples.exploration to 'uniform'."
            )

        def widen(layer: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
            return SquashedNormal.widen(outputs, std)

        scale = self.noise_scale.clone()
        hook = self.action_net.register_forward_hook(widen)
        self.noise_scale.fill_(1.0)
        try:
            yield
        finally:
            hook.remove()
            self.noise_scale.copy_(scale)
