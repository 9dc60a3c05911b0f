"""The policies of skills that remember, and that of RecurrentSkillPPO."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from skillrl.agents.base_recurrent_policy import BaseRecurrentPolicy
from skillrl.agents.base_skill_policy import ACTIVATIONS, BaseSkillPolicy, check_network
from skillrl.agents.features import features_for
from skillrl.agents.recurrence import Recurrence
from skillrl.agents.recurrent_policy import RecurrentPolicy
from skillrl.agents.squashed_actor import SquashedActor


class BaseRecurrentSkillPolicy(BaseSkillPolicy, BaseRecurrentPolicy):
    """Base of the policies of skills that remember.

    Args:
        observation_space: a Box.
        action_space: a bounded Box, or Discrete.
        lr_schedule: learning rate as a function of the remaining progress.
        hidden: units of the layers behind the recurrences, for actor and critics each.
        activation: non-linearity: ``"silu"``, ``"tanh"`` or ``"relu"``.
        encoder: units of the layers in front of the recurrences.
        kwargs: other arguments of ``BaseRecurrentPolicy``, such as ``cell`` and ``state_size``.

    Raises:
        InvalidValueError: if a space or a value is not supported.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        hidden: tuple[int, ...] = (128,),
        activation: str = "silu",
        *,
        encoder: tuple[int, ...] = (128,),
        **kwargs: Any,
    ) -> None:
        check_network(observation_space, action_space, (*hidden, *encoder), activation)
        self.hidden, self.activation = tuple(hidden), activation
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=list(hidden),
            activation_fn=ACTIVATIONS[activation],
            features_extractor_class=features_for(observation_space),
            normalize_images=False,  # the extractor does so itself
            encoder=encoder,
            **kwargs,
        )

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments besides the spaces, as JSON values."""
        return {
            "hidden": list(self.hidden),
            "activation": self.activation,
            **self._memory,
            "encoder": list(self._memory["encoder"]),
        }


class RecurrentSkillPolicy(SquashedActor, BaseRecurrentSkillPolicy, RecurrentPolicy):
    """``SkillPolicy`` with a memory: normaliser → encoder → recurrent layer → networks.

    Its arguments are those of ``BaseRecurrentSkillPolicy``.
    """

    format = "recurrent-skill-policy"

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments besides the spaces, as JSON values."""
        return {**super().settings(), "shared_recurrence": self.shared_recurrence}

    def _build(self, lr_schedule: Schedule) -> None:
        self._build_mlp_extractor()
        self.make_action_net(self.mlp_extractor.latent_dim_pi)
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        # The recurrences are new already.
        self._draw_networks("policy_net", self.action_net, gain=0.01)
        self._draw_networks("value_net", self.value_net, gain=1.0)
        self.reset_optimizer(lr_schedule(1))

    def _draw_networks(self, name: str, last: nn.Linear, gain: float) -> None:
        getattr(self.mlp_extractor, name).apply(partial(self.init_weights, gain=np.sqrt(2)))
        self.init_weights(last, gain=gain)

    def _draw_recurrence(self, name: str) -> None:
        fresh = Recurrence(self.features_dim, activation=self.activation_fn, **self._memory)
        self._each()[name].load_state_dict(fresh.state_dict())

    def reset_actor(self) -> None:
        """Draw the actor's weights anew."""
        self._draw_recurrence("actor")
        self._draw_networks("policy_net", self.action_net, gain=0.01)

    def reset_critic(self) -> None:
        """Draw the critic's weights anew."""
        self._draw_recurrence("critic")
        self._draw_networks("value_net", self.value_net, gain=1.0)

    def reset_optimizer(self, learning_rate: float = 0.0) -> None:
        """Give the policy a new Adam optimiser; the agent sets the rate before every update."""
        self.optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate, eps=1e-5, fused=True)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        # It has what is needed of Stable-Baselines3's.
        return cast(Distribution, self.distribution(self.action_net(latent_pi)))
