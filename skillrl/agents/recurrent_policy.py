"""Stable-Baselines3 actor-critics with memory."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from skillrl.agents.base_recurrent_policy import BaseRecurrentPolicy
from skillrl.agents.recurrence import ForDictionaries, ForImages, Recurrence, chunk_features
from skillrl.errors import InvalidValueError
from skillrl.recurrent import Carry, Rule


class Step(Protocol):
    """Acts for one step of a rollout; see ``RecurrentPolicy.stepper``."""

    def __call__(
        self, observations: PyTorchObs, carry: Carry, starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Carry]:
        """Return actions, values, log-probabilities and the carry."""
        ...


class RecurrentPolicy(BaseRecurrentPolicy, ActorCriticPolicy):
    """Actor and critic that remember: features → encoder → recurrent layer → networks.

    Args:
        observation_space: as in Stable-Baselines3.
        action_space: as in Stable-Baselines3.
        lr_schedule: learning rate as a function of the remaining progress.
        net_arch: layers behind the recurrence, as in Stable-Baselines3.
        activation_fn: non-linearity of all layers.
        shared_recurrence: whether actor and critic have one recurrence together.
        kwargs: those of ``BaseRecurrentPolicy`` (``cell``, ``state_size``, ``rule``, ``encoder``,
            ``cell_kwargs``), and of Stable-Baselines3's ``ActorCriticPolicy``.

    Raises:
        InvalidValueError: if an argument is out of range, or the cell does not have the rule.
    """

    # The epsilon is that of Stable-Baselines3's PPO.
    adam_kwargs: ClassVar[dict[str, Any]] = {"eps": 1e-5, "fused": True}

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.Tanh,
        *,
        shared_recurrence: bool = False,
        **kwargs: Any,
    ) -> None:
        if not kwargs.get("share_features_extractor", True):
            raise InvalidValueError(
                "Recurrent policies share the features extractor; the encoder and the recurrence "
                "are those of actor and critic alone, unless shared_recurrence."
            )
        self.shared_recurrence = shared_recurrence
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch, activation_fn, **kwargs
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "shared_recurrence": self.shared_recurrence,
        }

    def _build_mlp_extractor(self) -> None:
        names = ("shared",) if self.shared_recurrence else ("actor", "critic")
        self.recurrences = nn.ModuleDict(
            {
                name: Recurrence(self.features_dim, activation=self.activation_fn, **self._memory)
                for name in names
            }
        )
        recurrence = self._each()[names[0]]
        self.mlp_extractor = MlpExtractor(
            recurrence.output_size, self.net_arch, self.activation_fn, device=self.device
        )

    def _each(self) -> dict[str, Recurrence]:
        return {name: cast(Recurrence, part) for name, part in self.recurrences.items()}

    @property
    def rule(self) -> Rule:
        """The learning rule of all recurrences."""
        return next(iter(self._each().values())).layer.rule

    def chunk_features(self, observations: PyTorchObs, shape: torch.Size) -> Tensor:
        """Return the features ``(time, batch, size)`` of a chunk's observations.

        Args:
            observations: ``(time, batch, *shape)``, or such a tensor for each key.
            shape: time and batch.
        """
        return chunk_features(self._features, observations, shape)

    def _features(self, observations: PyTorchObs) -> Tensor:
        # One tensor: the extractor is shared.
        features = cast(Tensor, self.extract_features(observations))
        # SB3 makes float32 of all observations, whatever the parameters are.
        return features.to(self.value_net.weight.dtype)

    def recur(
        self, observations: PyTorchObs, carry: Carry, starts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what actor and critic remember in a chunk, ``(time, batch, output_size)`` each.

        Args:
            observations: ``(time, batch, *shape)``, or such a tensor for each key.
            carry: at the chunk's begin.
            starts: where episodes begin, ``(time, batch)``, bool.
        """
        features = self.chunk_features(observations, starts.shape)
        outputs = [
            recurrence.outputs(features, carry.part(name), starts)
            for name, recurrence in self._each().items()
        ]
        return outputs[0], outputs[-1]

    def sweep(self, features: Tensor, carry: Carry, starts: Tensor, chunk: int) -> list[Carry]:
        """Return the carries where chunks begin, and at the end; as ``RecurrentLayer.sweep``.

        Args:
            features: of several chunks, ``(chunks * chunk, batch, size)``.
            carry: before the first.
            starts: where episodes begin, ``(chunks * chunk, batch)``, bool.
            chunk: steps of a chunk.
        """
        found = {
            name: recurrence.sweep(features, carry.part(name), starts, chunk)
            for name, recurrence in self._each().items()
        }
        return [
            Carry.stack(dict(zip(found, carries, strict=True)))
            for carries in zip(*found.values(), strict=True)
        ]

    def coefficients(self) -> dict[str, tuple[Tensor, ...]]:
        """Return what the states are functions of; see ``RecurrentLayer.coefficients``."""
        return {name: part.layer.coefficients() for name, part in self._each().items()}

    def corrected(self, carry: Carry, then: dict[str, tuple[Tensor, ...]]) -> Carry:
        """Return a carry with states corrected to first order; see ``RecurrentLayer.corrected``."""
        return Carry.stack(
            {
                name: part.layer.corrected(carry.part(name), then[name])
                for name, part in self._each().items()
            }
        )

    def evaluate_chunk(
        self, observations: PyTorchObs, actions: Tensor, carry: Carry, starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Evaluate the actions of a chunk; arguments as of ``recur``.

        Returns:
            Values, log-probabilities, and entropies where they are known, ``(time, batch)`` each.
        """
        actor, critic = self.recur(observations, carry, starts)
        values = self.value_net(self.mlp_extractor.forward_critic(critic)).squeeze(-1)
        distribution = self._distribution(actor.flatten(0, 1))
        chosen = actions.flatten(0, 1)
        if isinstance(self.action_space, spaces.MultiBinary):
            chosen = chosen.to(actor.dtype)  # a cross-entropy takes no integers
        log_prob = distribution.log_prob(chosen).unflatten(0, starts.shape)
        entropy = distribution.entropy()
        return values, log_prob, None if entropy is None else entropy.unflatten(0, starts.shape)

    def _distribution(self, remembered: Tensor) -> Distribution:
        """What the actor does with what it remembers, ``(batch, output_size)``."""
        return self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(remembered))

    def stepper(self) -> Step:
        """Return a function that takes the steps of a rollout, with the parameters as they are now.

        It takes observations ``(batch, *shape)``, a carry, and where episodes begin, ``(batch,)``
        bool, and returns actions, values ``(batch,)``, log-probabilities ``(batch,)`` and the
        carry, without gradients.
        """
        steps = {name: recurrence.stepper() for name, recurrence in self._each().items()}

        @torch.no_grad()
        def step(
            observations: PyTorchObs, carry: Carry, starts: Tensor
        ) -> tuple[Tensor, Tensor, Tensor, Carry]:
            features = self._features(observations)
            begins = starts if bool(starts.any()) else None
            found = {name: own(features, carry.part(name), begins) for name, own in steps.items()}
            outputs = [output for output, _ in found.values()]
            distribution = self._distribution(outputs[0])
            actions = distribution.get_actions()
            values = self.value_net(self.mlp_extractor.forward_critic(outputs[-1])).squeeze(-1)
            after = Carry.stack({name: c for name, (_, c) in found.items()})
            return actions, values, distribution.log_prob(actions), after

        return step

    @torch.no_grad()
    def act(
        self, observations: PyTorchObs, carry: Carry, starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Carry]:
        """Return actions, and what the actor carries on; see ``BaseRecurrentPolicy.act``."""
        name, recurrence = next(iter(self._each().items()))
        begins = starts if bool(starts.any()) else None
        features = self._features(observations)
        output, after = recurrence.stepper()(features, carry.part(name), begins)
        actions = self._distribution(output).get_actions(deterministic=deterministic)
        return actions, Carry.stack({name: after})

    def environment_actions(self, actions: Tensor) -> np.ndarray:
        """Return what an environment is given for sampled actions ``(batch, …)``."""
        chosen = actions.cpu().numpy().reshape((-1, *(self.action_space.shape or ())))
        if isinstance(self.action_space, spaces.Box):
            chosen = np.clip(chosen, self.action_space.low, self.action_space.high)
        return chosen

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse what SB3's policies without memory do: see ``stepper``."""
        raise InvalidValueError(
            "A recurrent policy needs to know what came before: use predict, stepper() or "
            "evaluate_chunk, and load its agent with skillrl.agents.RecurrentPPO."
        )

    evaluate_actions = get_distribution = predict_values = forward


class CnnLruPolicy(ForImages, RecurrentPolicy):
    """``RecurrentPolicy`` for images, with Stable-Baselines3's ``NatureCNN`` in front."""


class MultiInputLruPolicy(ForDictionaries, RecurrentPolicy):
    """``RecurrentPolicy`` for dictionaries, with ``CombinedExtractor`` in front."""
