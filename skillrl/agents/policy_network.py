"""Policies as networks that can be compared: raw observations in, what they do and expect out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, kl_divergence

from skillrl.agents.distributions import SquashedNormal
from skillrl.agents.normalizer import Normalizer, Observation
from skillrl.agents.recurrent_policy import RecurrentPolicy
from skillrl.agents.recurrent_sac_policy import RecurrentSACPolicy
from skillrl.agents.sequence_replay import Seen
from skillrl.agents.squashed_actor import SquashedActor
from skillrl.errors import InvalidValueError
from skillrl.recurrent import RecurrentLayer
from skillrl.rewards.precision import exact_convolutions

State = tuple[np.ndarray, ...] | None


class InputNormalizer(nn.Module):
    """What a ``VecNormalize`` does to observations, as a layer whose statistics are buffers.

    So are the bounds that normalised observations are clipped to, one for each component.

    Args:
        normalizer: of vectors, or of some keys of dictionaries.
    """

    def __init__(self, normalizer: Normalizer) -> None:
        super().__init__()
        arrays = normalizer.arrays
        self.keys = normalizer.keys
        self.epsilon = float(arrays["epsilon"])
        for index, key in enumerate(self.keys):
            for part in ("mean", "var"):
                values = torch.as_tensor(arrays[f"{key}.{part}"], dtype=torch.float64)
                self.register_buffer(f"{part}{index}", values)
            bound = torch.full_like(values, float(arrays["clip"]))
            self.register_buffer(f"low{index}", -bound)
            self.register_buffer(f"high{index}", bound)

    def forward(self, observations: PyTorchObs) -> PyTorchObs:
        """Return normalised observations, in the buffers' precision."""
        if isinstance(observations, dict):
            return {
                key: self._normalised(f"observation.{key}", values)
                for key, values in observations.items()
            }
        return self._normalised("observation", observations)

    def _normalised(self, name: str, values: Tensor) -> Tensor:
        if name not in self.keys:
            return values
        index = self.keys.index(name)
        mean, var, low, high = (
            self.get_buffer(f"{part}{index}") for part in ("mean", "var", "low", "high")
        )
        scaled = (values.to(mean.dtype) - mean) / torch.sqrt(var + self.epsilon)
        return scaled.clamp(low, high)


class PolicyNetwork(nn.Module):
    """A policy with its normaliser in front, as a function of raw observations.

    ``forward`` gives what the last layers of actor and critic do, for the comparison of networks:
    of observations ``(batch, *shape)``, or with a memory of chunks ``(time, batch, *shape)`` from
    the begin of episodes. SAC's critics value the actor's own action; its target networks, which
    are copies from earlier on, are left out.

    Args:
        policy: it becomes a part of the network.
        normalizer: of the observations that the policy was trained on.

    Raises:
        InvalidValueError: if the normaliser is one of other observations.
    """

    recurrent = False

    def __init__(self, policy: BasePolicy, normalizer: Normalizer | None = None) -> None:
        super().__init__()
        self.policy = cast(Any, policy.to("cpu"))
        self.policy.set_training_mode(False)
        if normalizer is not None:
            _check_suits(normalizer, policy.observation_space)
        self.normalizer = (
            InputNormalizer(normalizer) if normalizer is not None and normalizer.keys else None
        )

    def forward(self, observations: PyTorchObs) -> tuple[Tensor, Tensor]:
        """Return what the actor's last layers give, and values.

        Of continuous actions the former are means, which logarithms of standard deviations may
        follow, ``(…, size)`` or ``(…, 2 size)``.
        """
        # Of images: what is compared should not be rounded, nor traced with its casts.
        with exact_convolutions():
            return self._outputs(self._seen(observations))

    def actions(self, observations: PyTorchObs) -> Tensor:
        """Return what the policy does without noise: actions, or of discrete ones probabilities."""
        scores, space = self.forward(observations)[0], self.policy.action_space
        if isinstance(space, spaces.Box):
            means = scores[..., : int(np.prod(space.shape))]  # standard deviations may follow
            if self.policy.squash_output:
                return means.tanh()
            low, high = (
                torch.as_tensor(each.reshape(-1), dtype=means.dtype)
                for each in (space.low, space.high)
            )
            return torch.minimum(torch.maximum(means, low), high)
        if isinstance(space, spaces.MultiBinary):
            return scores.sigmoid()
        return torch.cat([part.softmax(-1) for part in self._parts(scores)], -1)

    def distributions(self, observations: PyTorchObs) -> list[Distribution]:
        """Return what the policy does with its noise, for each part of an action on its own.

        Continuous actions are normally distributed, squashed ones before their tanh.

        Raises:
            InvalidValueError: if the noise is that of generalised state-dependent exploration
                (``use_sde``), which has no such distribution.
        """
        scores, space = self.forward(observations)[0], self.policy.action_space
        if isinstance(space, spaces.Box):
            if getattr(self.policy, "use_sde", False) or getattr(
                getattr(self.policy, "actor", None), "use_sde", False
            ):
                raise InvalidValueError(
                    "The noise of policies with use_sde=True is drawn for many steps at once, and "
                    "what they do has no distribution step by step."
                )
            means = scores[..., : int(np.prod(space.shape))]
            return [Normal(means, self._stds(scores).expand_as(means))]
        if isinstance(space, spaces.MultiBinary):
            return [Bernoulli(logits=scores)]
        return [Categorical(logits=part) for part in self._parts(scores)]

    @torch.no_grad()
    def predict(
        self, observation: Observation, state: State = None, starts: np.ndarray | None = None
    ) -> tuple[np.ndarray, State]:
        """Return actions without noise for a batch of raw observations, and the next state."""
        if self.normalizer is not None:
            seen = self.normalizer(
                {key: torch.as_tensor(value) for key, value in observation.items()}
                if isinstance(observation, dict)
                else torch.as_tensor(observation)
            )
            observation = (
                {key: value.numpy() for key, value in seen.items()}
                if isinstance(seen, dict)
                else seen.float().numpy()
            )
        actions, after = self.policy.predict(observation, state, starts, deterministic=True)
        return actions, after

    def tensors(self, observation: Observation) -> PyTorchObs:
        """Return a batch of raw observations as ``forward`` takes them."""
        return self.policy.obs_to_tensor(observation)[0]

    def readers(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        """Yield the features extractors with the layers that read their outputs first."""
        raise NotImplementedError

    def _outputs(self, observations: PyTorchObs) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _stds(self, scores: Tensor) -> Tensor:
        """Standard deviations of continuous actions."""
        raise NotImplementedError

    def _seen(self, observations: PyTorchObs) -> PyTorchObs:
        return observations if self.normalizer is None else self.normalizer(observations)

    def _parts(self, scores: Tensor) -> Sequence[Tensor]:
        """The scores of each discrete part of an action."""
        space = self.policy.action_space
        sizes = space.nvec.flatten() if isinstance(space, spaces.MultiDiscrete) else [space.n]
        return scores.split([int(size) for size in sizes], -1)


def _check_suits(normalizer: Normalizer, space: spaces.Space[Any]) -> None:
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    for key in normalizer.keys:
        part = parts.get(key.removeprefix("observation").removeprefix("."))
        shape = normalizer.arrays[f"{key}.mean"].shape
        if part is None or part.shape != shape:
            raise InvalidValueError(
                f"The normaliser is one of {key} of the shape {shape}, and the policy takes the "
                f"observations {space}: give that which belongs to it."
            )


class _ActorCritic(PolicyNetwork):
    policy: ActorCriticPolicy

    def _outputs(self, observations: PyTorchObs) -> tuple[Tensor, Tensor]:
        policy = self.policy
        features = policy.extract_features(observations)
        actor, critic = features if isinstance(features, tuple) else (features, features)
        latent = policy.mlp_extractor.forward_actor(actor)
        values = policy.value_net(policy.mlp_extractor.forward_critic(critic))
        return policy.action_net(latent), values

    def _stds(self, scores: Tensor) -> Tensor:
        return _stds_of(self.policy, scores)

    def readers(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        policy, networks = self.policy, self.policy.mlp_extractor
        yield policy.pi_features_extractor, [_first(networks.policy_net, policy.action_net)]
        yield policy.vf_features_extractor, [_first(networks.value_net, policy.value_net)]


class _RecurrentActorCritic(PolicyNetwork):
    policy: RecurrentPolicy
    recurrent = True

    def _outputs(self, observations: PyTorchObs) -> tuple[Tensor, Tensor]:
        policy = self.policy
        starts = _no_starts(observations)
        carry = policy.initial_carry(starts.shape[1], sensitivities=False)
        actor, critic = policy.recur(observations, carry, starts)
        latent = policy.mlp_extractor.forward_actor(actor)
        values = policy.value_net(policy.mlp_extractor.forward_critic(critic))
        return policy.action_net(latent), values

    def _stds(self, scores: Tensor) -> Tensor:
        return _stds_of(self.policy, scores)

    def readers(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        parts = cast(Any, self.policy.recurrences.values())
        yield self.policy.features_extractor, [_first(part.encoder, part.layer) for part in parts]


class _Sac(PolicyNetwork):
    policy: SACPolicy

    def __init__(self, policy: BasePolicy, normalizer: Normalizer | None = None) -> None:
        super().__init__(policy, normalizer)
        # Of a policy that another network has been made of, it is gone.
        self.policy._modules.pop("critic_target", None)

    def _outputs(self, observations: PyTorchObs) -> tuple[Tensor, Tensor]:
        actor, critic = self.policy.actor, self.policy.critic
        mean, log_std, _ = actor.get_action_dist_params(observations)
        scores = mean if actor.use_sde else torch.cat([mean, log_std], -1)
        # Without the critic's own call, which switches gradients: that hides operations in a trace.
        features = critic.extract_features(observations, critic.features_extractor)
        seen = torch.cat([features, mean.tanh()], -1)
        return scores, torch.cat([network(seen) for network in critic.q_networks], -1)

    def _stds(self, scores: Tensor) -> Tensor:
        return scores.chunk(2, -1)[1].exp()

    def readers(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        actor, critic = self.policy.actor, self.policy.critic
        yield actor.features_extractor, [_first(cast(Any, actor.latent_pi), actor.mu)]
        firsts = [_first(network, network) for network in critic.q_networks]
        yield critic.features_extractor, firsts


class _RecurrentSac(_Sac):
    policy: RecurrentSACPolicy
    recurrent = True

    def _outputs(self, observations: PyTorchObs) -> tuple[Tensor, Tensor]:
        policy = self.policy
        starts = _no_starts(observations)
        carry = policy.initial_carry(starts.shape[1], sensitivities=False)
        actor, critic = policy.actor, policy.critic
        seen = Seen(observations, carry, starts)
        mean, log_std = actor._distribution(actor.remember(seen, burn_in=0))
        remembered = critic.remember(seen, burn_in=0)
        return torch.cat([mean, log_std], -1), critic.values(remembered, mean.tanh())

    def readers(self) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
        actor, critic = self.policy.actor, self.policy.critic
        own = actor.recurrence
        yield actor.features_extractor, [_first(own.encoder, own.layer)]
        parts = critic.each().values()
        yield critic.features_extractor, [_first(part.encoder, part.layer) for part in parts]


def _stds_of(policy: ActorCriticPolicy, scores: Tensor) -> Tensor:
    if isinstance(policy, SquashedActor):
        found = policy.distribution(scores)
        assert isinstance(found, SquashedNormal)  # actions are continuous
        return found.std
    return policy.log_std.exp()


def _first(network: Any, otherwise: nn.Module) -> nn.Module:
    """The first layer of a network, or what follows it where it is empty."""
    return next(iter(network), otherwise)


def _no_starts(observations: PyTorchObs) -> Tensor:
    seen = next(iter(observations.values())) if isinstance(observations, dict) else observations
    return torch.zeros(seen.shape[:2], dtype=torch.bool)


# The first that fits counts: recurrent policies are subclasses of the others.
_NETWORKS: dict[type[BasePolicy], type[PolicyNetwork]] = {
    RecurrentPolicy: _RecurrentActorCritic,
    RecurrentSACPolicy: _RecurrentSac,
    ActorCriticPolicy: _ActorCritic,
    SACPolicy: _Sac,
}


def policy_network(policy: BasePolicy, normalizer: Normalizer | None = None) -> PolicyNetwork:
    """Return a policy as a network of raw observations.

    Args:
        policy: of PPO, SAC, RecurrentPPO, RecurrentSAC or of a skill; it becomes a part of
            the network.
        normalizer: of the observations that it was trained on, besides a skill's own.

    Raises:
        InvalidValueError: if the policy is of another kind, or the normaliser one of other
            observations.
    """
    for kind, network in _NETWORKS.items():
        if isinstance(policy, kind):
            found = network(policy, normalizer)
            for part in found.modules():
                if isinstance(part, RecurrentLayer):
                    # What is learnt from does not matter here, and sensitivities cost time.
                    part.rule = "truncated"
            return found
    raise InvalidValueError(
        "Policies of PPO, SAC, RecurrentPPO, RecurrentSAC and skills can be compared. Received a "
        f"{type(policy).__name__}."
    )


@torch.no_grad()
def action_kl(
    network: PolicyNetwork, references: Sequence[PolicyNetwork], observations: PyTorchObs
) -> float:
    """Return how far what a policy does is from what others do, in nats.

    It is ``KL(reference ‖ network)`` of the actions with their noise, the mean over observations
    and references. As a score of paths, smaller is better:
    ``walk(a, b, lambda network: action_kl(network, [a, b], observations))``.

    Args:
        network: a policy.
        references: others with the same actions.
        observations: raw, as the networks take them.

    Raises:
        InvalidValueError: as ``PolicyNetwork.distributions`` does.
    """
    own = network.distributions(observations)
    total = 0.0
    for reference in references:
        for part, other in zip(own, reference.distributions(observations), strict=True):
            found = kl_divergence(other, part).double()
            # A choice is one number; of vectors, those of all components are summed.
            choices = isinstance(part, Categorical)
            total += float(found.mean() if choices else found.sum(-1).mean())
    return total / len(references)
