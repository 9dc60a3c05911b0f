"""The policy of SkillPPO: an SB3 actor-critic with squashed, state-dependent noise."""

from __future__ import annotations

from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from skillrl.agents.distributions import ActionDistribution, Categorical, SquashedNormal
from skillrl.agents.features import NormalizedVector, features_for
from skillrl.agents.spaces import check_spaces, space_from_json, space_to_json
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import load_state, read_tensors, write_tensors

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "tanh": nn.Tanh, "relu": nn.ReLU}


class SkillPolicy(ActorCriticPolicy):
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

    action_net: nn.Linear
    value_net: nn.Linear
    noise_scale: torch.Tensor

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
        check_spaces(observation_space, action_space)
        if activation not in ACTIVATIONS:
            raise InvalidValueError(
                f"activation should be one of {', '.join(ACTIVATIONS)}. Received {activation!r}."
            )
        if not all(isinstance(units, int) and units >= 1 for units in hidden):
            raise InvalidValueError(
                f"hidden should be integers of at least 1. Received {tuple(hidden)}."
            )
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
        )

    def _build(self, lr_schedule: Schedule) -> None:
        self.mlp_extractor = MlpExtractor(
            self.features_dim,
            self.net_arch,
            self.activation_fn,
            # The default device: `load` builds policies on the meta device.
            device=torch.empty(0).device,
        )
        if isinstance(self.action_space, spaces.Discrete):
            outputs = int(self.action_space.n)
        else:
            outputs = 2 * int(np.prod(self.action_space.shape or ()))
        self.action_net = nn.Linear(self.mlp_extractor.latent_dim_pi, outputs)
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        # Factor on the noise of continuous actions: SkillPPO lets it shrink.
        self.register_buffer("noise_scale", torch.ones(()))
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
    def squash_output(self) -> bool:
        """Whether actions lie in [-1, 1] and are scaled to the bounds of the space."""
        return isinstance(self.action_space, spaces.Box)

    @property
    def normalizer(self) -> NormalizedVector | None:
        """The observation normaliser; None where observations are one-hot or images."""
        extractor = self.features_extractor
        return extractor if isinstance(extractor, NormalizedVector) else None

    def features(self, observations: torch.Tensor) -> torch.Tensor:
        """Return what actor and critic see of observations: normalised, one-hot or convolved."""
        # Without SB3's preprocessing, which would look up the space's kind at every step: images
        # are the one kind that needs it.
        if isinstance(self.features_extractor, NatureCNN):
            observations = observations / 255.0
        return self.features_extractor(observations.float())

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

    def distribution(self, parameters: torch.Tensor) -> ActionDistribution:
        """Return the distribution of actions that the actor's output describes."""
        if self.squash_output:
            return SquashedNormal(parameters, self.noise_scale)
        return Categorical(parameters)

    def forward(
        self, obs: torch.Tensor, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return actions (before the tanh), values and log-probabilities."""
        values, distribution = self._evaluate(obs)
        actions = distribution.mode() if deterministic else distribution.sample()
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
        distribution = self.distribution(self.action_parameters(observations))
        return distribution.mode() if deterministic else distribution.sample()

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        actions = self.act(observation, deterministic)
        if isinstance(self.action_space, spaces.Discrete):
            return actions.squeeze(-1) + int(self.action_space.start)
        return actions.tanh()

    def environment_actions(self, actions: torch.Tensor) -> np.ndarray:
        """Return what an environment is given for actions ``(batch, …)`` before the tanh."""
        if isinstance(self.action_space, spaces.Box):
            squashed = actions.detach().tanh().cpu().numpy()
            return self.unscale_action(squashed.reshape(-1, *self.action_space.shape))
        assert isinstance(self.action_space, spaces.Discrete)  # checked by the constructor
        return actions.squeeze(-1).cpu().numpy() + self.action_space.start

    def unscale_action(self, scaled_action: np.ndarray) -> np.ndarray:
        """Return actions in [-1, 1] scaled to the bounds of the Box."""
        assert isinstance(self.action_space, spaces.Box)  # other actions are not scaled
        unscaled = super().unscale_action(scaled_action)
        # Rounding can leave the bounds by the last bit.
        return np.clip(unscaled, self.action_space.low, self.action_space.high)

    def explore(self, observations: torch.Tensor, std: float) -> torch.Tensor:
        """Sample actions (before the tanh) with the policy's own noise, widened.

        The raw standard deviations are shifted until the largest of each observation is ``std``.
        Source: Meier & Mujika 2022 (arXiv 2202.08266).
        """
        if not self.squash_output:
            raise InvalidValueError(
                "Exploration by scaled noise needs continuous actions. "
                "Set samples.exploration to 'uniform'."
            )
        parameters = self.action_parameters(observations)
        return SquashedNormal(SquashedNormal.widen(parameters, std)).sample()

    def save(self, path: str | PathLike[str]) -> None:
        """Write actor, critic and normaliser to a safetensors file that describes them fully."""
        description = {
            "format": "skill-policy",
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "hidden": list(self.hidden),
            "activation": self.activation,
        }
        # SB3 lists the one feature extractor under three names.
        tensors = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith(("pi_features_extractor", "vf_features_extractor"))
        }
        write_tensors(Path(path), tensors, description)

    @classmethod
    def load(cls, path: str | PathLike[str], device: torch.device | str = "cpu") -> SkillPolicy:
        """Return the policy saved in ``path``. Runs no code of the file.

        Raises:
            DamagedFileError: if the file is missing, damaged, or no policy.
        """
        path = Path(path)
        tensors, description = read_tensors(path)
        if description.get("format") != "skill-policy":
            raise DamagedFileError(
                f"{path} holds no policy but {description.get('format')!r}. "
                "Give the policy.safetensors of a skill."
            )
        try:
            if len(description["hidden"]) > len(tensors):
                raise ValueError("more layers than tensors")
            with torch.device("meta"):
                policy = cls(
                    space_from_json(description["observation_space"]),
                    space_from_json(description["action_space"]),
                    lambda _: 0.0,
                    hidden=tuple(description["hidden"]),
                    activation=description["activation"],
                )
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path} describes no valid policy: {error}") from None
        shared = {
            f"{alias}_{name}": tensor
            for name, tensor in tensors.items()
            if name.startswith("features_extractor")
            for alias in ("pi", "vf")
        }
        load_state(policy, {**tensors, **shared}, path)
        if policy.normalizer is not None and not bool((policy.normalizer.var >= 0).all()):
            raise DamagedFileError(f"{path} is damaged: a variance is negative.")
        policy.set_training_mode(False)
        return policy.to(device)
