"""Every two of several networks in the same coordinates, each pair for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from torch import nn

from skillrl.permutation.alignment import observe, verify
from skillrl.permutation.matching import match
from skillrl.permutation.recipes import Method
from skillrl.permutation.trace import Forward, call
from skillrl.permutation.transformation import Transformation


@dataclass(frozen=True)
class AlignedPairs:
    """What brings each of several networks into the coordinates of each other one.

    Attributes:
        networks: as they were.
        transformations: by the numbers of two networks, the smaller one first, what is done to the
            second.
    """

    networks: tuple[nn.Module, ...]
    transformations: Mapping[tuple[int, int], Transformation]

    def between(self, target: int, source: int) -> Transformation:
        """Return what brings one network into the coordinates of another."""
        if target < source:
            return self.transformations[target, source]
        return self.transformations[source, target].inverse()


def align_pairs(
    networks: Sequence[nn.Module],
    inputs: Any,
    *,
    method: Method = "activations",
    signs: bool = True,
    scales: bool = False,
    phases: bool = True,
    forward: Forward = call,
    verified: bool = True,
) -> AlignedPairs:
    """Align every two networks, as ``align`` does.

    Two networks come closer by this than by ``align_many``, which finds coordinates that suit all;
    but what goes from one to the next, and on to a third, is not what goes there directly.

    Args:
        networks: of one architecture.
        inputs: see ``align``, as all others.
        method: see there.
        signs: see there.
        scales: see there.
        phases: see there.
        forward: see there.
        verified: see there.

    Raises:
        InvalidValueError: as ``align`` does.
        UnsupportedOperationError: as ``align`` does.
        NotEquivalentError: as ``align`` does.
    """
    symmetries, evidences = observe(networks, inputs, method, signs, scales, phases, forward)
    found = {
        (i, j): match(symmetries.groups, evidences[i], evidences[j], method)
        for i, j in combinations(range(len(networks)), 2)
    }
    if verified:
        for (_, j), transformation in found.items():
            verify(networks[j], transformation, inputs, forward)
    return AlignedPairs(tuple(networks), found)
