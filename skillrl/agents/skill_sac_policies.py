"""The policies of SkillSAC and RecurrentSkillSAC."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn

from skillrl.agents.base_skill_policy import ACTIVATIONS, BaseSkillPolicy, check_network
from skillrl.agents.features import features_for
from skillrl.agents.recurrent_sac_policy import (
    RecurrentActor,
    RecurrentCritic,
    RecurrentSACPolicy,
)
from skillrl.agents.recurrent_skill_policy import BaseRecurrentSkillPolicy
from skillrl.errors import InvalidValueError


class _SkillOfSAC(BaseSkillPolicy, SACPolicy):
    """What SAC's policies of skills have in common."""

    @property
    def mean_layer(self) -> nn.Linear:
        """The layer that gives mean actions before the tanh."""
        return cast(nn.Linear, self.actor.mu)

    @property
    def _noise_layer(self) -> nn.Linear:
        return cast(nn.Linear, self.actor.log_std)

    @contextmanager
    def widened(self, std: float) -> Iterator[None]:
        """Let ``predict`` act with wider noise; see ``BaseSkillPolicy.widened``."""

        def widen(layer: nn.Module, inputs: Any, log_stds: Tensor) -> Tensor:
            return log_stds + (math.log(std) - log_stds.amax(-1, keepdim=True))

        hook = self._noise_layer.register_forward_hook(widen)
        try:
            yield
        finally:
            hook.remove()

    def reset_actor(self) -> None:
        """Draw the actor's weights anew."""
        self._draw(self.actor, self.make_actor())

    def reset_critic(self) -> None:
        """Draw the critics' weights anew."""
        self._draw(self.critic, self.make_critic())
        self._draw(self.critic_target, self.critic)

    @staticmethod
    def _draw(module: nn.Module, fresh: nn.Module) -> None:
        """Take the fresh module's parameters; the normaliser, which has none, stays."""
        with torch.no_grad():
            for parameter, new in zip(module.parameters(), fresh.parameters(), strict=True):
                parameter.copy_(new)

    def reset_head(self, *, keep_mean: bool) -> None:
        """Let the noise be wide: standard deviations of 1, before the tanh."""
        layers = [self._noise_layer] if keep_mean else [self._noise_layer, self.mean_layer]
        with torch.no_grad():
            for layer in layers:
                layer.weight.zero_()
                layer.bias.zero_()

    def reset_optimizer(self) -> None:
        """Give actor and critics new Adam optimisers; the agent sets the rate."""
        for part in (self.actor, self.critic):
            part.optimizer = torch.optim.Adam(part.parameters(), lr=0.0, fused=True)


class SkillSACPolicy(_SkillOfSAC):
    """SAC's actor and twin critics, with the observation normalisers that feed them.

    Args:
        observation_space: a Box.
        action_space: a bounded Box.
        lr_schedule: learning rate as a function of the remaining progress.
        hidden: units of the hidden layers, for actor and critics each.
        activation: non-linearity: ``"silu"``, ``"tanh"`` or ``"relu"``.

    Raises:
        InvalidValueError: if a space or a value is not supported.
    """

    format = "skill-sac-policy"

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        hidden: tuple[int, ...] = (128, 128),
        activation: str = "silu",
        use_sde: bool = False,
    ) -> None:
        check_network(observation_space, action_space, hidden, activation)
        if use_sde:
            raise InvalidValueError("use_sde is not supported: the noise depends on the state.")
        self.hidden, self.activation = tuple(hidden), activation
        super().__init__(
            observation_space,
            check_continuous(action_space),
            lr_schedule,
            net_arch=list(hidden),
            activation_fn=ACTIVATIONS[activation],
            features_extractor_class=features_for(observation_space),
            normalize_images=False,  # the extractor does so itself
        )

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments besides the spaces, as JSON values."""
        return {"hidden": list(self.hidden), "activation": self.activation}


class RecurrentSkillSACPolicy(_SkillOfSAC, BaseRecurrentSkillPolicy, RecurrentSACPolicy):
    """``SkillSACPolicy`` with memories: normaliser → encoder → recurrent layer → networks.

    Its arguments are those of ``BaseRecurrentSkillPolicy``; actions are a bounded Box.

    Raises:
        InvalidValueError: if a space or a value is not supported.
    """

    format = "recurrent-skill-sac-policy"
    actor: RecurrentActor
    critic: RecurrentCritic
    critic_target: RecurrentCritic

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, check_continuous(action_space), *args, **kwargs)


def check_continuous(space: spaces.Space[Any]) -> spaces.Box:
    """Return a space of continuous actions.

    Raises:
        InvalidValueError: if actions are others.
    """
    if not isinstance(space, spaces.Box):
        raise InvalidValueError(
            f"SAC is for continuous actions, a Box. Received {space}: choose PPO."
        )
    return space
