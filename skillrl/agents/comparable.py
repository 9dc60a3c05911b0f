"""Policies that can be compared: of one architecture, put into the same episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from skillrl.agents.coordinates import Coordinates, in_shared_coordinates
from skillrl.agents.policy_network import PolicyNetwork
from skillrl.agents.returns import Episodes, comparison_batch
from skillrl.errors import InvalidValueError

# Observations that units are compared on, of all policies together.
_OBSERVATIONS = 2_048


@dataclass(frozen=True)
class Comparable:
    """Policies whose first layers see the same, and what they are compared on and by.

    Attributes:
        networks: the policies, as functions of raw observations.
        inputs: raw observations from the episodes of all of them.
        coordinates: what the first layers see.
        returns: mean returns of the policies.
        errors: the standard errors of these means; 0 of a single episode.
        random: mean return of a random policy in the same episodes.
    """

    networks: list[PolicyNetwork]
    inputs: PyTorchObs
    coordinates: Coordinates
    returns: list[float]
    errors: list[float]
    random: float


def comparable(
    names: Sequence[str], networks: Sequence[PolicyNetwork], episodes: Episodes
) -> Comparable:
    """Put policies into the same episodes, and into the same coordinates of their inputs.

    Args:
        names: of the policies, for messages.
        networks: of one architecture.
        episodes: of the task that all were trained on.

    Raises:
        InvalidValueError: if policies are of different architectures, hold weights that are not
            finite, or do not suit the environment.
    """
    _check_alike(names, networks)
    for name, network in zip(names, networks, strict=True):
        episodes.check(network, name)
    seen = [episodes.watch(network) for network in networks]
    inputs = comparison_batch(networks, seen, _OBSERVATIONS, episodes.seed)
    shared, coordinates = in_shared_coordinates(networks)
    returns = [float(each.returns.mean()) for each in seen]
    errors = [_standard_error(each.returns) for each in seen]
    return Comparable(shared, inputs, coordinates, returns, errors, episodes.random_return())


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def _check_alike(names: Sequence[str], networks: Sequence[PolicyNetwork]) -> None:
    states = [_state_of(each) for each in networks]
    first, *others = [_parts(*each) for each in zip(networks, states, strict=True)]
    kind = type(networks[0].policy)
    for name, network, other in zip(names[1:], networks[1:], others, strict=True):
        if type(network.policy) is not kind:
            reason = f"they are a {kind.__name__} and a {type(network.policy).__name__}"
        elif (network.normalizer is None) != (networks[0].normalizer is None):
            raise InvalidValueError(
                f"Of {names[0]} and {name} one has a normaliser of its observations, and the other "
                "has none: give the one that is missing (--normalizer)."
            )
        elif other != first:
            part = next(p for p in {**first, **other} if first.get(p) != other.get(p))
            one, another = (each.get(part, "absent") for each in (first, other))
            reason = f"{part} is {one} in one and {another} in the other"
        else:
            continue
        raise InvalidValueError(f"{names[0]} and {name} are of different architectures: {reason}.")
    for name, state in zip(names, states, strict=True):
        for part, tensor in state.items():
            if not bool(torch.isfinite(tensor).all()):
                raise InvalidValueError(
                    f"{part} of {name} holds values that are not finite: its training diverged, or "
                    "its file is damaged."
                )


def _parts(network: PolicyNetwork, state: dict[str, Tensor]) -> dict[str, str]:
    """The shapes of all tensors and the kinds of all modules."""
    shapes = {name: str(tuple(tensor.shape)) for name, tensor in state.items()}
    return shapes | {name: f"a {type(part).__name__}" for name, part in network.named_modules()}


def _state_of(network: PolicyNetwork) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
