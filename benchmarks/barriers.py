"""Barriers of the return on the path between two policies, and their figures over many pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from skillrl.agents.comparable import comparable
from skillrl.agents.policy_network import PolicyNetwork
from skillrl.agents.returns import Episodes
from skillrl.commands.policies import SavedPolicy
from skillrl.permutation import Transformation, align, barrier, interpolate, symmetry_groups

# Where paths are scored between their ends.
INNER = (0.25, 0.5, 0.75)
# What is done to the second policy of a pair: arguments of `align`.
SIDES: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "permutations": {"signs": False, "phases": False},
    "signs and phases": {},
    "scales": {"scales": True},
    "by both": {"method": "both"},
}
# Barriers up to this connect two policies, as in `skillrl align`.
THRESHOLD = 0.1
DRAWS = 10_000


def between(
    policies: Sequence[SavedPolicy], episodes: Episodes, sides: Iterable[str]
) -> tuple[dict[str, Any], dict[str, Transformation]]:
    """Score the paths between two policies, and return what was done to the second one, too.

    Where no unit can be scaled, as behind tanh, there is no side of "scales".
    """
    names = [str(each.path) for each in policies]
    found = comparable(names, [each.network for each in policies], episodes)
    a, b = found.networks
    done, paths = {}, {}
    for side in sides:
        arguments = SIDES[side]
        if side == "scales" and not scalable(a, found.inputs):
            continue
        done[side] = (
            Transformation((), ())
            if arguments is None
            else align(a, b, found.inputs, **arguments).transformation
        )
        moved = done[side].apply(b)
        inner = [episodes.mean_return(network(interpolate(a, moved, each))) for each in INNER]
        paths[side] = [found.returns[0], *inner, found.returns[1]]
    known = {"random": found.random, "coordinates": found.coordinates, "paths": paths}
    return known, done


def scalable(policy: PolicyNetwork, inputs: PyTorchObs) -> bool:
    """Whether units of the policy can be scaled, as behind relu."""
    return any("scale" in group.symmetries for group in symmetry_groups(policy, inputs))


def network(module: nn.Module) -> PolicyNetwork:
    """What interpolating policies makes is a policy."""
    assert isinstance(module, PolicyNetwork)
    return module


def heights_of(pairs: Iterable[Mapping[str, Any]], side: str) -> list[float]:
    """Barriers of pairs."""
    return [barrier(pair["paths"][side], random=pair["random"]) for pair in pairs]


def barrier_figures(
    heights: Mapping[str, Sequence[float]], units: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Return the figures of barriers, and the share of them that connect two policies.

    Args:
        heights: barriers of the same pairs, by what was done to the second policy.
        units: see ``summary``.
    """
    connected = {
        side: summary((np.array(each) <= THRESHOLD).tolist(), units, weighted_mean)
        for side, each in heights.items()
    }
    return {
        "barriers": {side: summary(each, units) for side, each in heights.items()},
        "connected": {side: share["mean"] for side, share in connected.items()},
        "connected interval": {side: share["interval"] for side, share in connected.items()},
    }


Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of values ``(n,)`` with weights ``(..., n)``."""


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of weighted values; of those that are true or false, the share of true ones.

    Args:
        values: ``(n,)``.
        weights: ``(..., n)``.

    >>> weighted_mean(np.array([1.0, 0.0]), np.array([3.0, 1.0])).tolist()
    0.75
    """
    return weights @ values / weights.sum(-1)


def interquartile_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of weighted values.

    Args:
        values: ``(n,)``.
        weights: ``(..., n)``.

    >>> interquartile_mean(np.array([9.0, 1.0, 2.0, 4.0]), np.ones(4)).tolist()
    3.0
    """
    order = np.argsort(values)
    shares = np.cumsum(weights[..., order], -1) / weights.sum(-1, keepdims=True)
    inside = np.diff(np.clip(shares, 0.25, 0.75), axis=-1, prepend=0.25)
    return inside @ values[order] / 0.5


def summary(
    values: Sequence[float],
    units: Sequence[Sequence[int]],
    statistic: Statistic = interquartile_mean,
) -> dict[str, Any]:
    """Return a mean, and its 95 % bootstrap interval over what values belong to.

    Args:
        values: one at least.
        units: of each value, such as the two seeds of a pair. They are drawn, and a value counts
            as often as all its units together were. Of fewer than four there is no interval.
        statistic: the kind of mean.
    """
    found, members = np.asarray(values, float), np.unique(units)
    mean = float(statistic(found, np.ones(len(found))))
    if len(members) < 4:
        return {"mean": mean, "interval": None}
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), DRAWS)
    weights = drawn[:, np.searchsorted(members, units)].prod(-1)
    means = statistic(found, weights[weights.any(1)])
    return {"mean": mean, "interval": np.quantile(means, [0.025, 0.975]).tolist()}
