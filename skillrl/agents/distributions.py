"""Distributions of actions, in the coordinates in which the networks give them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch.nn import functional

# Smallest standard deviation of an action, as in Brax.
MIN_STD = 1e-3


class ActionDistribution(ABC):
    """A distribution over actions of a batch of observations."""

    @abstractmethod
    def sample(self) -> torch.Tensor:
        """Return one action an observation."""

    @abstractmethod
    def mode(self) -> torch.Tensor:
        """Return the deterministic action of each observation."""

    @abstractmethod
    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities ``(batch,)`` of ``actions``."""

    @abstractmethod
    def entropy(self) -> torch.Tensor:
        """Return the entropies ``(batch,)``."""

    def get_actions(self, deterministic: bool = False) -> torch.Tensor:
        """Return the deterministic actions, or samples."""
        return self.mode() if deterministic else self.sample()


class SquashedNormal(ActionDistribution):
    """Independent normal distributions whose samples the policy squashes by tanh.

    Samples and ``log_prob`` are in the coordinates before the tanh: its Jacobian depends on the
    action only and cancels in PPO's ratio of probabilities. ``entropy`` is that of the squashed
    action, estimated from one sample.

    Args:
        parameters: means and standard deviations before their softplus, ``(batch, 2 * size)``.
        noise_scale: factor on the standard deviations.
    """

    def __init__(self, parameters: torch.Tensor, noise_scale: torch.Tensor | float = 1.0) -> None:
        self.mean, raw_std = parameters.chunk(2, dim=-1)
        self.std = noise_scale * (functional.softplus(raw_std) + MIN_STD)

    def sample(self) -> torch.Tensor:
        """Return one action an observation, ``(batch, size)``."""
        return self.mean + self.std * torch.randn_like(self.mean)

    def mode(self) -> torch.Tensor:
        """Return the means, ``(batch, size)``."""
        return self.mean

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the log-densities ``(batch,)`` of actions before the tanh, ``(batch, size)``."""
        noise = (actions - self.mean) / self.std
        size = self.mean.shape[-1]
        constant = 0.5 * size * math.log(2 * math.pi)
        return -(0.5 * noise.square() + self.std.log()).sum(-1) - constant

    def entropy(self) -> torch.Tensor:
        """Return estimates ``(batch,)`` of the squashed actions' entropies, from one sample."""
        sample = self.sample()
        # log(1 - tanh²) in the form that does not overflow.
        jacobian = 2.0 * (math.log(2.0) - sample - functional.softplus(-2.0 * sample))
        normal = 0.5 * (1.0 + math.log(2 * math.pi)) + self.std.log()
        return (normal + jacobian).sum(-1)

    @staticmethod
    def widen(parameters: torch.Tensor, std: float) -> torch.Tensor:
        """Shift the raw standard deviations until the largest of each observation is ``std``."""
        mean, raw_std = parameters.chunk(2, dim=-1)
        # The inverse of the softplus.
        wanted = math.log(math.expm1(std - MIN_STD))
        shift = wanted - raw_std.amax(-1, keepdim=True)
        return torch.cat([mean, raw_std + shift], -1)


class Categorical(ActionDistribution):
    """A distribution over the actions of a Discrete space.

    Args:
        logits: unnormalised log-probabilities, ``(batch, n)``.
    """

    def __init__(self, logits: torch.Tensor) -> None:
        self.log_probs = logits.log_softmax(-1)

    def sample(self) -> torch.Tensor:
        """Return one action an observation, ``(batch, 1)``."""
        # The Gumbel-max trick: exponential noise is cheaper to draw than a multinomial sample.
        noise = torch.empty_like(self.log_probs).exponential_()
        return (self.log_probs - noise.log()).argmax(-1, keepdim=True)

    def mode(self) -> torch.Tensor:
        """Return the most probable actions, ``(batch, 1)``."""
        return self.log_probs.argmax(-1, keepdim=True)

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities ``(batch,)`` of actions ``(batch, 1)`` or ``(batch,)``."""
        chosen = actions.long().reshape(*self.log_probs.shape[:-1], 1)
        return self.log_probs.gather(-1, chosen).squeeze(-1)

    def entropy(self) -> torch.Tensor:
        """Return the entropies ``(batch,)``."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)
