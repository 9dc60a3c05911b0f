"""Stable-Baselines3 actor-critics with memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from skillrl.agents.recurrence import (
    ForDictionaries,
    ForImages,
    Recurrence,
    chunk_features,
    initial_carry,
)
from skillrl.errors import InvalidValueError
from skillrl.recurrent import Carry, Rule

Observation = np.ndarray | dict[str, np.ndarray]


class Act(Protocol):
    """Acts for one step; see ``RecurrentPolicy.stepper``."""

    def __call__(
        self, observations: PyTorchObs, carry: Carry, starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Carry]:
        """Return actions, values, log-probabilities and the carry."""
        ...


class RecurrentPolicy(ActorCriticPolicy):
    """Actor and critic that remember: features → encoder → recurrent layer → networks.

    Args:
        observation_space: as in Stable-Baselines3.
        action_space: as in Stable-Baselines3.
        lr_schedule: learning rate as a function of the remaining progress.
        net_arch: layers behind the recurrence, as in Stable-Baselines3.
        activation_fn: non-linearity of all layers.
        cell: ``"lru"``, ``"linear-rtu"``, ``"nonlinear-rtu"`` or ``"gru"``.
        state_size: units of the recurrent layer.
        rule: its learning rule, as described at ``skillrl.recurrent.RecurrentLayer``; of a GRU
            ``"snap1"``, ``"truncated"`` or ``"bptt"``.
        encoder: units of the layers in front of the recurrence; may be none.
        shared_recurrence: whether actor and critic have one recurrence together.
        cell_kwargs: other arguments of the recurrent layer, such as ``r_min`` or ``horizon``.
        kwargs: those of Stable-Baselines3's ``ActorCriticPolicy``.

    Raises:
        InvalidValueError: if an argument is out of range, or the cell does not have the rule.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.Tanh,
        *,
        cell: str = "lru",
        state_size: int = 64,
        rule: Rule = "online",
        encoder: tuple[int, ...] = (64,),
        shared_recurrence: bool = False,
        cell_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("use_sde"):
            raise InvalidValueError("use_sde is not supported by recurrent policies.")
        if not kwargs.get("share_features_extractor", True):
            raise InvalidValueError(
                "Recurrent policies share the features extractor; the encoder and the recurrence "
                "are those of actor and critic alone, unless shared_recurrence."
            )
        self.shared_recurrence = shared_recurrence
        self._memory: dict[str, Any] = {
            "cell": cell,
            "state_size": state_size,
            "rule": rule,
            "encoder": tuple(encoder),
            "cell_kwargs": dict(cell_kwargs or {}),
        }
        if kwargs.get("optimizer_class", torch.optim.Adam) is torch.optim.Adam:
            # One kernel for all parameters, besides what Stable-Baselines3's PPO has.
            kwargs.setdefault("optimizer_kwargs", {"eps": 1e-5, "fused": True})
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch, activation_fn, **kwargs
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            **self._memory,
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

    def initial_carry(self, batch_size: int, *, sensitivities: bool | None = None) -> Carry:
        """Return the carry at the begin of episodes; see ``RecurrentLayer.initial_carry``."""
        return initial_carry(self._each(), batch_size, sensitivities)

    def chunk_features(self, observations: PyTorchObs, shape: torch.Size) -> Tensor:
        """Return the features ``(time, batch, size)`` of a chunk's observations.

        Args:
            observations: ``(time, batch, *shape)``, or such a tensor for each key.
            shape: time and batch.
        """
        features = chunk_features(self.extract_features, observations, shape)
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
        latent = self.mlp_extractor.forward_actor(actor).flatten(0, 1)
        distribution = self._get_action_dist_from_latent(latent)
        chosen = actions.flatten(0, 1)
        if isinstance(self.action_space, spaces.MultiBinary):
            chosen = chosen.to(latent.dtype)  # a cross-entropy takes no integers
        log_prob = distribution.log_prob(chosen).unflatten(0, starts.shape)
        entropy = distribution.entropy()
        return values, log_prob, None if entropy is None else entropy.unflatten(0, starts.shape)

    def stepper(self) -> Act:
        """Return a function that acts, with the parameters as they are now, without gradients.

        It takes observations ``(batch, *shape)``, a carry, and where episodes begin, ``(batch,)``
        bool, and returns actions, values ``(batch,)``, log-probabilities ``(batch,)`` and the
        carry.
        """
        steps = {name: recurrence.stepper() for name, recurrence in self._each().items()}

        @torch.no_grad()
        def act(
            observations: PyTorchObs, carry: Carry, starts: Tensor, deterministic: bool = False
        ) -> tuple[Tensor, Tensor, Tensor, Carry]:
            # One tensor: the extractor is shared.
            features = cast(Tensor, self.extract_features(observations))
            features = features.to(self.value_net.weight.dtype)
            begins = starts if bool(starts.any()) else None
            found = {name: step(features, carry.part(name), begins) for name, step in steps.items()}
            outputs = [output for output, _ in found.values()]
            latent = self.mlp_extractor.forward_actor(outputs[0])
            distribution = self._get_action_dist_from_latent(latent)
            actions = distribution.get_actions(deterministic=deterministic)
            values = self.value_net(self.mlp_extractor.forward_critic(outputs[-1])).squeeze(-1)
            after = Carry.stack({name: c for name, (_, c) in found.items()})
            return actions, values, distribution.log_prob(actions), after

        return act

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
            "evaluate_chunk."
        )

    evaluate_actions = get_distribution = predict_values = forward

    def predict(
        self,
        observation: Observation,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return actions, and the state to give back with the next observation.

        Args:
            observation: one, or a batch.
            state: what the last call returned; None where episodes begin.
            episode_start: where episodes begin, ``(batch,)`` or one value.
            deterministic: whether to act without noise.

        Raises:
            InvalidValueError: if the state is that of another batch or network.
        """
        self.set_training_mode(False)
        observations, vectorised = self.obs_to_tensor(observation)
        carry, starts = carry_from_state(
            observations,
            lambda size: self.initial_carry(size, sensitivities=False),
            state,
            episode_start,
        )
        actions, _, _, carry = self.stepper()(observations, carry, starts, deterministic)
        chosen = self.environment_actions(actions)
        after = tuple(value.cpu().numpy() for value in carry.values())
        return chosen if vectorised else chosen[0], after


def carry_from_state(
    observations: PyTorchObs,
    initial: Callable[[int], Carry],
    state: tuple[np.ndarray, ...] | None,
    episode_start: np.ndarray | None,
) -> tuple[Carry, Tensor]:
    """Return what ``predict`` was given as a carry and as the begins of episodes.

    Args:
        observations: of a batch.
        initial: from the batch's size to the carry at the begin of episodes.
        state: see ``RecurrentPolicy.predict``.
        episode_start: see there.

    Raises:
        InvalidValueError: if the state is that of another batch or network.
    """
    seen = next(iter(observations.values())) if isinstance(observations, dict) else observations
    batch_size = len(seen)
    carry = initial(batch_size)
    if state is not None:
        shapes = [tuple(value.shape) for value in carry.values()]
        received = [tuple(np.shape(value)) for value in state]
        if shapes != received:
            raise InvalidValueError(
                f"For {batch_size} observation(s) the state has the shapes {shapes}. Received "
                f"{received}: give back what the last call of predict returned, or None."
            )
        values = (torch.as_tensor(value, device=seen.device) for value in state)
        carry = Carry(dict(zip(carry, values, strict=True)))
    begins = np.zeros(batch_size, bool) if episode_start is None else np.asarray(episode_start)
    if begins.size != batch_size:
        raise InvalidValueError(
            f"episode_start should tell of {batch_size} observation(s). Received {begins.size}."
        )
    return carry, torch.as_tensor(begins.reshape(-1).astype(bool), device=seen.device)


class CnnLruPolicy(ForImages, RecurrentPolicy):
    """``RecurrentPolicy`` for images, with Stable-Baselines3's ``NatureCNN`` in front."""


class MultiInputLruPolicy(ForDictionaries, RecurrentPolicy):
    """``RecurrentPolicy`` for dictionaries, with ``CombinedExtractor`` in front."""
