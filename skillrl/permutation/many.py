"""Many networks of one architecture in the same coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import read_tensors, write_tensors
from skillrl.permutation.alignment import observe, verify
from skillrl.permutation.matching import Evidence, match, mean_state
from skillrl.permutation.recipes import Method
from skillrl.permutation.trace import Forward, call, state_of, with_state
from skillrl.permutation.transformation import Transformation

# Rounds over all networks at most; they end by themselves when nothing gets closer.
_ROUNDS = 10


@dataclass(frozen=True)
class Alignments:
    """What brings each of several networks into coordinates that all share.

    Whatever way is taken from one network to another, by way of others or not, the units end up in
    the same place: there is one transformation for each network, and that from one to another goes
    by way of the shared coordinates.

    Attributes:
        networks: as they were.
        transformations: for each network, what is done to it.
        idle: for each network, in each group, the units that never fire, or never change, on the
            observations; they were matched last, by their weights.
    """

    networks: tuple[nn.Module, ...]
    transformations: tuple[Transformation, ...]
    idle: tuple[tuple[tuple[int, ...], ...], ...]

    def apply(self, number: int) -> nn.Module:
        """Return a copy of a network in the shared coordinates."""
        return self.transformations[number].apply(self.networks[number])

    def between(self, target: int, source: int) -> Transformation:
        """Return what brings one network into the coordinates of another."""
        return self.transformations[target].inverse().after(self.transformations[source])

    def merged(self) -> nn.Module:
        """Return the mean of all networks, in the shared coordinates."""
        states = [
            transformation.of(state_of(network))
            for network, transformation in zip(self.networks, self.transformations, strict=True)
        ]
        return with_state(self.networks[0], mean_state(states))

    def save(self, path: str | PathLike[str]) -> None:
        """Write what is done to each network to a safetensors file, without the networks."""
        tensors: dict[str, Any] = {}
        for number, transformation in enumerate(self.transformations):
            packed, groups = transformation.packed()
            tensors |= {f"{number}.{name}": value for name, value in packed.items()}
        description = {"format": "alignments", "count": len(self.networks)}
        write_tensors(Path(path), tensors, {**description, "groups": groups, "idle": self.idle})

    @staticmethod
    def load(path: str | PathLike[str], networks: Sequence[nn.Module]) -> Alignments:
        """Return the alignments of some networks that were saved in ``path``.

        Raises:
            DamagedFileError: if the file is missing, damaged, or holds no alignments of so many.
        """
        tensors, description = read_tensors(Path(path))
        if (description.get("format"), description.get("count")) != ("alignments", len(networks)):
            raise DamagedFileError(f"{path} holds no alignments of {len(networks)} networks.")
        try:
            transformations = tuple(
                Transformation.unpacked(_part(tensors, number), description["groups"])
                for number in range(len(networks))
            )
            idle = tuple(tuple(map(tuple, each)) for each in description["idle"])
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path} is damaged: {error}.") from None
        return Alignments(tuple(networks), transformations, idle)


def _part(tensors: dict[str, Any], number: int) -> dict[str, Any]:
    start = f"{number}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def align_many(
    networks: Sequence[nn.Module],
    inputs: Any,
    *,
    method: Method = "activations",
    signs: bool = True,
    scales: bool = False,
    phases: bool = True,
    forward: Forward = call,
    verified: bool = True,
) -> Alignments:
    """Bring several networks into coordinates that all share.

    All are aligned to the first; then each in turn to the mean of all others, until nothing
    changes. Source: Ainsworth et al. 2022 (Git Re-Basin's merging of many models).

    Args:
        networks: at least two, of one architecture.
        inputs: see ``align``, as all others.
        method: see there.
        signs: see there.
        scales: see there.
        phases: see there.
        forward: see there.
        verified: see there.

    Raises:
        InvalidValueError: if there are fewer than two networks, and as ``align`` does.
        UnsupportedOperationError: as ``align`` does.
        NotEquivalentError: as ``align`` does.
    """
    if len(networks) < 2:
        raise InvalidValueError(f"At least two networks are aligned. Received {len(networks)}.")
    symmetries, evidences = observe(networks, inputs, method, signs, scales, phases, forward)
    groups = symmetries.groups
    found = [Transformation.identity(groups)]
    found += [match(groups, evidences[0], each, method) for each in evidences[1:]]
    shared = [each.transformed(done) for each, done in zip(evidences, found, strict=True)]
    count = len(networks)
    mean = Evidence.combined(shared, [1 / count] * count)
    for _ in range(_ROUNDS):
        settled = True
        for number, evidence in enumerate(evidences):
            others = _without(mean, shared, number)
            better = match(groups, others, evidence, method, start=found[number])
            if not better.same_as(found[number]):
                found[number], shared[number] = better, evidence.transformed(better)
                mean = Evidence.combined([others, shared[number]], [1 - 1 / count, 1 / count])
                settled = False
        if settled:
            break
    if verified:
        for network, transformation in zip(networks, found, strict=True):
            verify(network, transformation, inputs, forward)
    idle = tuple(
        tuple(tuple(np.flatnonzero(units).tolist()) for units in each.idle) for each in evidences
    )
    return Alignments(tuple(networks), tuple(found), idle)


def _without(mean: Evidence, networks: Sequence[Evidence], number: int) -> Evidence:
    """Return the mean of all networks but one, from the mean of all."""
    count = len(networks)
    weights = [count / (count - 1), -1 / (count - 1)]
    others = [*networks[:number], *networks[number + 1 :]]
    # A unit that is at work in this network alone is idle in all others, and its size there is 0:
    # a difference between means would leave rounding, to which it would be scaled.
    return replace(
        Evidence.combined([mean, networks[number]], weights),
        sizes=tuple(map(_mean_size, zip(*(each.sizes for each in others), strict=True))),
        idle=tuple(np.all(idle, 0) for idle in zip(*(each.idle for each in others), strict=True)),
    )


def _mean_size(sizes: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over those networks in which a unit is ever on, so that it shrinks in none; or 0."""
    return np.sum(sizes, 0) / np.maximum(np.count_nonzero(sizes, 0), 1)
