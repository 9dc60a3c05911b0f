"""Actors and critics of SAC that remember."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor, SACPolicy
from torch import Tensor, nn

from skillrl.agents.base_recurrent_policy import BaseRecurrentPolicy
from skillrl.agents.recurrence import ForDictionaries, ForImages, Recurrence, chunk_features
from skillrl.agents.sequence_replay import Seen
from skillrl.errors import InvalidValueError
from skillrl.recurrent import Carry


def _recall(
    recurrence: Recurrence, before: Tensor, features: Tensor, carry: Carry, starts: Tensor
) -> Tensor:
    """What a recurrence gives after the burn-in, in which it learns nothing but to remember."""
    burn_in = len(before)
    # A target learns nothing.
    if recurrence.layer.carries_sensitivities and torch.is_grad_enabled():
        empty = recurrence.layer.initial_carry(carry.batch_size)
        carry = Carry({**empty, "state": carry["state"]})
    if burn_in > 0:
        with torch.no_grad():
            _, carry = recurrence(before, carry, starts[:burn_in])
    return recurrence.outputs(features, carry, starts[burn_in:])


def _features(
    extract: Callable[[PyTorchObs], Any], seen: Seen, burn_in: int
) -> tuple[Tensor, Tensor]:
    """Features of the burn-in, without gradients, and of what follows, ``(steps, batch, size)``."""

    def part(which: slice) -> Tensor:
        whole = seen.observations
        if isinstance(whole, dict):
            cut: PyTorchObs = {key: value[which] for key, value in whole.items()}
        else:
            cut = whole[which]
        return chunk_features(extract, cut, seen.starts[which].shape)

    if burn_in == 0:
        following = part(slice(None))
        return following[:0], following
    with torch.no_grad():
        before = part(slice(burn_in))
    return before, part(slice(burn_in, None))


class RecurrentActor(Actor):
    """SAC's actor behind a recurrence."""

    action_dist: SquashedDiagGaussianDistribution  # type: ignore[assignment]

    def __init__(self, memory: dict[str, Any], **kwargs: Any) -> None:
        recurrence = Recurrence(
            kwargs["features_dim"], activation=kwargs.get("activation_fn", nn.ReLU), **memory
        )
        kwargs["features_dim"] = recurrence.output_size
        super().__init__(**kwargs)
        self.recurrence = recurrence

    def _extract(self, observations: PyTorchObs) -> Tensor:
        return self.extract_features(observations, self.features_extractor)

    def remember(self, seen: Seen, burn_in: int) -> Tensor:
        """Return what is remembered after the burn-in, ``(steps, batch, size)``."""
        features = _features(self._extract, seen, burn_in)
        return _recall(self.recurrence, *features, seen.carry.part("actor"), seen.starts)

    def choose(self, remembered: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions in [−1, 1] and their log-probabilities ``(steps, batch)``."""
        mean, log_std = self._distribution(remembered.flatten(0, 1))
        actions, log_prob = self.action_dist.log_prob_from_params(mean, log_std)
        shape = remembered.shape[:2]
        return actions.unflatten(0, shape), log_prob.unflatten(0, shape)

    def act(self, remembered: Tensor, deterministic: bool) -> Tensor:
        """Return actions in [−1, 1], ``(batch, size)``."""
        return self.action_dist.actions_from_params(
            *self._distribution(remembered), deterministic=deterministic
        )

    def _distribution(self, remembered: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.latent_pi(remembered)
        log_std = self.log_std(hidden)  # type: ignore[operator]  # a layer without use_sde
        return self.mu(hidden), log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)


class RecurrentCritic(ContinuousCritic):
    """SAC's critics, each behind a recurrence of its own."""

    def __init__(self, memory: dict[str, Any], **kwargs: Any) -> None:
        recurrences = [
            Recurrence(
                kwargs["features_dim"], activation=kwargs.get("activation_fn", nn.ReLU), **memory
            )
            for _ in range(kwargs.get("n_critics", 2))
        ]
        kwargs["features_dim"] = recurrences[0].output_size
        super().__init__(**kwargs)
        self.recurrences = nn.ModuleList(recurrences)

    def each(self) -> dict[str, Recurrence]:
        """The recurrences by the names of what they carry."""
        return {
            f"critic{index}": cast(Recurrence, part) for index, part in enumerate(self.recurrences)
        }

    def _extract(self, observations: PyTorchObs) -> Tensor:
        return self.extract_features(observations, self.features_extractor)

    def remember(self, seen: Seen, burn_in: int) -> list[Tensor]:
        """Return what each critic remembers after the burn-in, ``(steps, batch, size)``."""
        features = _features(self._extract, seen, burn_in)
        return [
            _recall(recurrence, *features, seen.carry.part(name), seen.starts)
            for name, recurrence in self.each().items()
        ]

    def values(self, remembered: list[Tensor], actions: Tensor) -> Tensor:
        """Return each critic's values of actions in [−1, 1], ``(critics, steps, batch)``."""
        return torch.stack(
            [
                network(torch.cat([latent, actions], -1)).squeeze(-1)
                for network, latent in zip(self.q_networks, remembered, strict=True)
            ]
        )


class RecurrentSACPolicy(BaseRecurrentPolicy, SACPolicy):
    """Actor and twin critics that remember: features → encoder → recurrent layer → networks.

    Args:
        observation_space: as in Stable-Baselines3.
        action_space: a bounded Box.
        lr_schedule: learning rate as a function of the remaining progress.
        args: those of Stable-Baselines3's ``SACPolicy``.
        kwargs: those of ``BaseRecurrentPolicy`` (``cell``, ``state_size``, ``rule``, ``encoder``,
            ``cell_kwargs``), and of ``SACPolicy``.

    Raises:
        InvalidValueError: if an argument is out of range, or the cell does not have the rule.
    """

    actor: RecurrentActor
    critic: RecurrentCritic
    critic_target: RecurrentCritic

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        lr_schedule: Schedule,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("share_features_extractor"):
            raise InvalidValueError(
                "share_features_extractor is not supported by recurrent policies of SAC."
            )
        super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> RecurrentActor:
        """Return a new actor."""
        settings = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return RecurrentActor(**settings, memory=self._memory).to(self.device)

    def make_critic(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> RecurrentCritic:
        """Return new critics."""
        settings = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return RecurrentCritic(**settings, memory=self._memory).to(self.device)

    def _each(self) -> dict[str, Recurrence]:
        return {"actor": self.actor.recurrence, **self.critic.each()}

    @torch.no_grad()
    def act(
        self, observations: PyTorchObs, carry: Carry, starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Carry]:
        """Return actions in [−1, 1], ``(batch, size)``, and what is carried on.

        What the carry does not hold is not computed; see ``BaseRecurrentPolicy.act``.
        """
        begins = starts if bool(starts.any()) else None
        features = {
            "actor": self.actor.extract_features(observations, self.actor.features_extractor)
        }
        if "critic0.state" in carry:
            seen = self.critic.extract_features(observations, self.critic.features_extractor)
            features |= dict.fromkeys(self.critic.each(), seen)
        found = {
            name: recurrence.stepper()(features[name], carry.part(name), begins)
            for name, recurrence in self._each().items()
            if name in features
        }
        actions = self.actor.act(found["actor"][0], deterministic)
        return actions, Carry.stack({name: after for name, (_, after) in found.items()})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse what SB3's policies without memory do: see ``act``."""
        raise InvalidValueError(
            "A recurrent policy needs to know what came before: use predict or act."
        )

    def environment_actions(self, actions: Tensor) -> np.ndarray:
        """Return what an environment is given for actions in [−1, 1], ``(batch, size)``."""
        chosen = actions.cpu().numpy().reshape((-1, *(self.action_space.shape or ())))
        return self.unscale_action(chosen)


class CnnLruSACPolicy(ForImages, RecurrentSACPolicy):
    """``RecurrentSACPolicy`` for images, with Stable-Baselines3's ``NatureCNN`` in front."""


class MultiInputLruSACPolicy(ForDictionaries, RecurrentSACPolicy):
    """``RecurrentSACPolicy`` for dictionaries, with ``CombinedExtractor`` in front."""
