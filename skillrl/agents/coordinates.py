"""Networks of policies whose first layers see the same, so that their weights can be compared."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from skillrl.agents.features import CLIP, NormalizedVector
from skillrl.agents.policy_network import InputNormalizer, PolicyNetwork

Coordinates = Literal["raw", "shared", "own"]
"""What the first layers of compared networks see: raw observations; observations in the units of
the first network's normaliser; or what each network's own normaliser makes of them."""


class BoundedVector(NormalizedVector):
    """A ``NormalizedVector`` whose bounds of clipping are buffers, one for each component.

    Args:
        original: whose statistics and bounds it has.
    """

    low: Tensor
    high: Tensor

    def __init__(self, original: NormalizedVector) -> None:
        super().__init__(cast(spaces.Box, original._observation_space))
        for name, statistic in original.named_buffers():
            self.register_buffer(name, statistic.clone())
        self.register_buffer("low", torch.full_like(original.mean, -CLIP))
        self.register_buffer("high", torch.full_like(original.mean, CLIP))

    def forward(self, observations: Tensor) -> Tensor:
        """Return the normalised features ``(batch, size)``."""
        centred = observations.flatten(1) - self.mean
        return (centred * (self.var + 1e-6).rsqrt()).clamp(self.low, self.high)


def in_shared_coordinates(
    networks: Sequence[PolicyNetwork],
) -> tuple[list[PolicyNetwork], Coordinates]:
    """Let the first layers of several networks see the same, without a change of any function.

    Normalisers are folded into the layers that read them, and that of the first network, which
    stays in front of all, is unfolded: with means ``m`` and standard deviations ``s``,
    ``W' = W s_0 / s`` and ``b' = b + W (m_0 − m) / s``. What a network clips it goes on to clip at
    the same observations: its bounds ``±c`` become ``(m ± c s − m_0) / s_0``. So weights mean the
    same in all networks, interpolating them is interpolating the networks with all normalisers
    folded away, and numbers stay as small as they were.

    Where a normaliser feeds something other than a linear layer, all stay as they are: weights are
    those of normalised observations, and whoever interpolates the networks interpolates their
    normalisers, which are buffers, with them.

    Args:
        networks: of one architecture.

    Returns:
        Networks that compute the same, and what their first layers see.
    """
    stages = [_stages(network) for network in networks]
    if any(each is None for each in stages):
        return [*networks], "own"
    if not any(map(any, cast(Any, stages))):
        return [*networks], "raw"
    return [_expressed(each, networks[0]) for each in networks], "shared"


_Normalizing = InputNormalizer | NormalizedVector


def _stages(network: PolicyNetwork) -> list[list[_Normalizing]] | None:
    """The normalisers before each reader; None where one cannot be folded into all its layers."""
    found: list[list[_Normalizing]] = []
    for extractor, layers in network.readers():
        stages: list[_Normalizing] = []
        if network.normalizer is not None:
            stages.append(network.normalizer)
        if isinstance(extractor, NormalizedVector):
            stages.append(extractor)
        vectors = isinstance(extractor, NormalizedVector | FlattenExtractor)
        linear = all(isinstance(layer, nn.Linear) and layer.bias is not None for layer in layers)
        if stages and not (vectors and linear):
            return None
        if (
            stages
            and network.normalizer is not None
            and network.normalizer.keys != ("observation",)
        ):
            return None
        found.append(stages)
    return found


@dataclass(frozen=True)
class _Units:
    """What normalised observations are measured in: ``(raw − mean) / std``, float64."""

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(stages: Sequence[_Normalizing]) -> _Units:
        """Return the units behind several normalisers, one after another."""
        first, *others = map(_Units._of, stages)
        for each in others:
            first = _Units(first.mean + first.std * each.mean, first.std * each.std)
        return first

    @staticmethod
    def _of(stage: _Normalizing) -> _Units:
        if isinstance(stage, NormalizedVector):
            return _Units(stage.mean.double(), (stage.var.double() + 1e-6).sqrt())
        mean, var = stage.get_buffer("mean0").double(), stage.get_buffer("var0").double()
        return _Units(mean.flatten(), (var + stage.epsilon).sqrt().flatten())

    def to(self, other: _Units, values: Tensor) -> Tensor:
        """Return values in the units of another normaliser."""
        return (self.mean + self.std * values.double() - other.mean) / other.std


@torch.no_grad()
def _expressed(network: PolicyNetwork, reference: PolicyNetwork) -> PolicyNetwork:
    """Return the same function in the units of ``reference``; see the caller."""
    found, reference = _bounded(network), _bounded(reference)
    changes: list[tuple[Tensor, Tensor]] = []
    pairs = zip(_stages(found) or [], _stages(reference) or [], found.readers(), strict=True)
    for own, other, (_, layers) in pairs:
        if not own:
            continue
        for depth, stage in enumerate(own, start=1):
            before, after = _Units.of(own[:depth]), _Units.of(other[:depth])
            for bound in _bounds(stage):
                changes.append((bound, before.to(after, bound.flatten()).view_as(bound)))
        scale, shift = after.std / before.std, (after.mean - before.mean) / before.std
        for layer in cast(list[nn.Linear], layers):
            # Actions, which critics take as well, come after the features.
            weight, bias = layer.weight.double(), cast(Tensor, layer.bias)
            seen, rest = weight.split([len(scale), weight.shape[1] - len(scale)], 1)
            changes.append((layer.weight, torch.cat([seen * scale, rest], 1)))
            changes.append((bias, bias.double() + seen @ shift))
    statistics = _statistics(reference)
    for name, own_statistics in _statistics(found).items():
        changes.append((own_statistics, statistics[name]))
    for tensor, value in changes:
        tensor.copy_(value)
    if found.normalizer is not None and reference.normalizer is not None:
        found.normalizer.epsilon = reference.normalizer.epsilon
    return found


def _bounded(network: PolicyNetwork) -> PolicyNetwork:
    """Return a copy whose normalisers all have bounds for each component."""
    found = copy.deepcopy(network)
    replaced: dict[nn.Module, BoundedVector] = {}
    for parent in [*found.modules()]:
        # Not by named_children, which tells of one place where actor and critic have the same.
        for name, part in [*parent._modules.items()]:
            if isinstance(part, NormalizedVector):
                setattr(parent, name, replaced.setdefault(part, BoundedVector(part)))
    return found


def _bounds(stage: _Normalizing) -> tuple[Tensor, Tensor]:
    if isinstance(stage, BoundedVector):
        return stage.low, stage.high
    return stage.get_buffer("low0"), stage.get_buffer("high0")


def _statistics(network: PolicyNetwork) -> dict[str, Tensor]:
    """Means, variances and counts of all normalisers."""
    return {
        f"{name}.{own}": buffer
        for name, part in network.named_modules()
        if isinstance(part, _Normalizing)
        for own, buffer in part.named_buffers()
        if not own.startswith(("low", "high"))
    }
