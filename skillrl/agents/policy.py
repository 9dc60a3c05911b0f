"""The policy of SkillPPO: an SB3 actor-critic with squashed, state-dependent noise."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from skillrl.agents.base_skill_policy import ACTIVATIONS, check_network
from skillrl.agents.distributions import ActionDistribution
from skillrl.agents.features import ConvolvedImage, NormalizedVector, features_for
from skillrl.agents.squashed_actor import SquashedActor
from skillrl.errors import InvalidValueError


class SkillPolicy(SquashedActor):
    """Actor and critic of a skill, with the observation normaliser that feeds them.

    For a Box action space the actor gives means and state-dependent standard deviations (through
    a softplus), and actions are squashed by tanh to the bounds of the space; for a Discrete one it
    gives logits. ``predict`` is Stable-Baselines3's.

    Args:
        observation_space: a Box.
        action_space: a bounded Box, or Discrete.
        lr_schedule: learning rate as a function of the remaining progress.
        hidden: units of the hidden layers, for actor and critic each.
        activation: non-linearity of the hidden layers: ``"silu"``, ``"tanh"`` or ``"relu"``.
        hidden_learning_rate: learning rate of the actor's hidden layers, as a share.

    Raises:
        InvalidValueError: if a space or the activation is not supported.
    """

    format = "skill-policy"

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        hidden: tuple[int, ...] = (128, 128),
        activation: str = "silu",
        hidden_learning_rate: float = 1.0,
        use_sde: bool = False,
    ) -> None:
        check_network(observation_space, action_space, hidden, activation)
        if use_sde:
            raise InvalidValueError("use_sde is not supported: the noise depends on the state.")
        self.hidden = tuple(hidden)
        self.activation = activation
        self.hidden_learning_rate = hidden_learning_rate
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch={"pi": list(hidden), "vf": list(hidden)},
            activation_fn=ACTIVATIONS[activation],
            features_extractor_class=features_for(observation_space),
            normalize_images=False,  # the extractor does so itself
        )

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments besides the spaces, as JSON values."""
        return {"hidden": list(self.hidden), "activation": self.activation}

    def _build(self, lr_schedule: Schedule) -> None:
        self.mlp_extractor = MlpExtractor(
            self.features_dim,
            self.net_arch,
            self.activation_fn,
            device=self.device,
        )
        self.make_action_net(self.mlp_extractor.latent_dim_pi)
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        self.reset_actor()
        self.reset_critic()
        self.reset_optimizer(lr_schedule(1))

    def reset_actor(self) -> None:
        """Draw the actor's weights anew."""
        self.mlp_extractor.policy_net.apply(partial(self.init_weights, gain=np.sqrt(2)))
        self.init_weights(self.action_net, gain=0.01)

    def reset_critic(self) -> None:
        """Draw the critic's weights anew."""
        self.mlp_extractor.value_net.apply(partial(self.init_weights, gain=np.sqrt(2)))
        self.init_weights(self.value_net, gain=1.0)

    def reset_optimizer(self, learning_rate: float = 0.0) -> None:
        """Give the policy a new Adam optimiser, without the old one's moments.

        Args:
            learning_rate: of all parts; SkillPPO sets it before every update.
        """
        hidden = list(self.mlp_extractor.policy_net.parameters())
        slow = {id(parameter) for parameter in hidden}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in slow]
        self.optimizer = torch.optim.Adam(
            [
                {"params": rest, "lr_share": 1.0},
                {"params": hidden, "lr_share": self.hidden_learning_rate},
            ],
            lr=learning_rate,
            eps=1e-5,
            # One kernel for all parameters: with networks this small the usual loop over them
            # takes longer than the arithmetic.
            fused=True,
        )

    @property
    def normalizer(self) -> NormalizedVector | None:
        """The observation normaliser; None where observations are one-hot or images."""
        extractor = self.features_extractor
        return extractor if isinstance(extractor, NormalizedVector) else None

    def features(self, observations: torch.Tensor) -> torch.Tensor:
        """Return what actor and critic see of observations: normalised, one-hot or convolved."""
        # Without SB3's preprocessing, which would look up the space's kind at every step. Images
        # stay bytes until they are convolved.
        if not isinstance(self.features_extractor, ConvolvedImage):
            observations = observations.float()
        return self.features_extractor(observations)

    def predict_values(self, obs: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Return the values ``(batch, 1)``."""
        return self.critic(self.features(obs))

    def actor(self, features: torch.Tensor) -> torch.Tensor:
        """Return means and raw standard deviations, or logits, for ``features``."""
        return self.action_net(self.mlp_extractor.forward_actor(features))

    def critic(self, features: torch.Tensor) -> torch.Tensor:
        """Return the values ``(batch, 1)`` for ``features``."""
        return self.value_net(self.mlp_extractor.forward_critic(features))

    def action_parameters(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the actor's output: means and raw standard deviations, or logits."""
        return self.actor(self.features(observations))

    def forward(
        self, obs: torch.Tensor, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return actions (before the tanh), values and log-probabilities."""
        values, distribution = self._evaluate(obs)
        actions = distribution.get_actions(deterministic)
        return actions, values, distribution.log_prob(actions)

    def evaluate_actions(  # type: ignore[override]
        self, obs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return values ``(batch, 1)``, log-probabilities and entropies ``(batch,)``."""
        values, distribution = self._evaluate(obs)
        return values, distribution.log_prob(actions), distribution.entropy()

    def _evaluate(self, obs: torch.Tensor) -> tuple[torch.Tensor, ActionDistribution]:
        features = self.features(obs)
        return self.critic(features), self.distribution(self.actor(features))

    def act(self, observations: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        """Return actions (before the tanh) for float observations ``(batch, *shape)``."""
        return self.distribution(self.action_parameters(observations)).get_actions(deterministic)

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        actions = self.act(observation, deterministic)
        if isinstance(self.action_space, spaces.Discrete):
            return actions.squeeze(-1) + int(self.action_space.start)
        return actions.tanh()
