"""Which dimensions of a network are one and the same, found by following tensors through it.

Every index of every axis of a parameter begins as a *unit* of its own. Operations tie units
together: the columns of a linear layer to the components that they are multiplied by, both sides
of a sum to one another. What is tied in the end is one unit of the network, and units that are tied
in the same way can be exchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Freedom = Literal["sign", "scale", "phase"]
"""What may be done to a unit besides moving it: to flip it, to scale it, to turn its phase."""

# Units that stay where they are: components of inputs and outputs, steps, pixels …
FIXED = 0
# … and, told apart from them, the two parts of complex numbers.
REAL, IMAGINARY = 1, 2


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor.

    Attributes:
        units: the unit that stands at every index.
        slots: where several entries belong to one unit, a second label; 0 for none.
        scaled: whether an entry is multiplied by the factor of its unit (the other entries do not
            change where a unit is flipped, scaled or turned).
    """

    units: np.ndarray
    slots: np.ndarray
    scaled: np.ndarray

    def __len__(self) -> int:
        return len(self.units)

    @property
    def fixed(self) -> bool:
        """Whether nothing along the axis can move."""
        return not self.units.any()

    def at(self, index: np.ndarray) -> Axis:
        """Return the axis that has at each position what this one has at ``index``."""
        return Axis(self.units[index], self.slots[index], self.scaled[index])

    def unscaled(self) -> Axis:
        """Return the axis with entries that do not change with their unit's factor."""
        return Axis(self.units, self.slots, np.zeros_like(self.scaled))

    @staticmethod
    def of_fixed(size: int) -> Axis:
        """Return an axis along which nothing can move."""
        return Axis(np.full(size, FIXED), np.zeros(size, np.int64), np.zeros(size, bool))

    @staticmethod
    def of_parts() -> Axis:
        """Return the axis of a complex number's two parts."""
        return Axis(np.array([REAL, IMAGINARY]), np.zeros(2, np.int64), np.zeros(2, bool))

    @staticmethod
    def concatenate(axes: Iterable[Axis]) -> Axis:
        """Return one axis after the other."""
        parts = list(axes)
        return Axis(
            np.concatenate([axis.units for axis in parts]),
            np.concatenate([axis.slots for axis in parts]),
            np.concatenate([axis.scaled for axis in parts]),
        )


@dataclass(frozen=True)
class Demand:
    """Units that an operation can only deal with where they are fixed."""

    units: np.ndarray
    operation: str


class Units:
    """All units of a network, and what is known about them."""

    def __init__(self) -> None:
        # Units of one kind are exchanged by what makes them equal: at first, those of an axis.
        self._kinds = np.array([FIXED, REAL, IMAGINARY])
        self._alike = np.zeros(3, bool)
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []
        # Factors that are equal (1), or each other's inverse (−1).
        self._factors: list[tuple[np.ndarray, np.ndarray, int]] = []
        self._forbidden: dict[Freedom, list[np.ndarray]] = {"sign": [], "scale": [], "phase": []}
        self._pinned: list[np.ndarray] = []
        self._complex: list[np.ndarray] = []
        self._slots: list[tuple[np.ndarray, np.ndarray]] = []
        self.demands: list[Demand] = []

    def new(self, size: int, *, alike: bool = False) -> Axis:
        """Return an axis of new units, which can be exchanged with one another.

        Args:
            size: how many.
            alike: whether all entries along the axis are the same: exchanging them changes nothing,
                and no factor changes them.
        """
        first = len(self._kinds)
        kind = int(self._kinds.max()) + 1
        self._kinds = np.concatenate([self._kinds, np.full(size, kind)])
        self._alike = np.concatenate([self._alike, np.full(size, alike)])
        units = np.arange(first, first + size)
        return Axis(units, np.zeros(size, np.int64), np.full(size, not alike))

    def are_alike(self, axis: Axis) -> bool:
        """Whether all entries along an axis are the same."""
        return bool(self._alike[axis.units].all())

    def forbid(self, axis: Axis, *freedoms: Freedom) -> None:
        """Say that an operation bears no other factors than 1 on an axis."""
        for freedom in freedoms:
            self._forbidden[freedom].append(axis.units[axis.scaled])

    def pin(self, units: np.ndarray) -> None:
        """Say that units cannot be exchanged with others."""
        self._pinned.append(units)

    def demand(self, axis: Axis, operation: str) -> None:
        """Say that an operation is not understood, unless the axis turns out to be fixed."""
        if not axis.fixed:
            self.demands.append(Demand(axis.units, operation))

    def are_complex(self, axis: Axis) -> None:
        """Say that units are complex numbers, on which an operation acts linearly."""
        self._complex.append(axis.units)

    def tie(self, a: Axis, b: Axis, *, inverse: bool = False) -> Axis:
        """Say that what stands at the same index of two axes is one unit.

        Args:
            a: one axis.
            b: another one of the same length.
            inverse: whether the factors of the one undo those of the other, as in a product that
                is summed over; otherwise they are equal.

        Returns:
            An axis whose entries have the factor where both have it.
        """
        self._ties.append((a.units, b.units))
        named = (a.slots > 0) & (b.slots > 0)
        self._ties.append((a.slots[named], b.slots[named]))
        for one, other in ((a, b), (b, a)):
            self._tell_apart(one, other)
            self._slots.append((other.units[one.slots > 0], one.slots[one.slots > 0]))
        both = a.scaled & b.scaled
        self._factors.append((a.units[both], b.units[both], -1 if inverse else 1))
        for axis in (a, b):
            only = Axis(axis.units, axis.slots, axis.scaled & ~both)
            self.forbid(only, "sign", "scale")
        # Beside others, entries that were alike are so no longer.
        units = np.where(self._alike[a.units], b.units, a.units)
        return Axis(units, np.where(a.slots > 0, a.slots, b.slots), both)

    def _tell_apart(self, one: Axis, other: Axis) -> None:
        """Where ``other`` ties several units to one of ``one``, its first is no second."""
        rank = _occurrence(one.units)
        if rank.any() and not _occurrence(other.units).any():
            self.distinguish(other.units, rank)

    def distinguish(self, units: np.ndarray, by: np.ndarray) -> None:
        """Say that units can only be exchanged with those that have the same number ``by``."""
        free = units > IMAGINARY
        units, by = units[free], by[free]
        pairs = np.stack([self._kinds[units], by], 1)
        _, found = np.unique(pairs, axis=0, return_inverse=True)
        self._kinds[units] = int(self._kinds.max()) + 1 + found.reshape(-1)

    def resolve(self) -> Resolved:
        """Return what is tied to what in the end."""
        count = len(self._kinds)
        classes = _components(count, self._ties)
        fixed = classes == classes[FIXED]
        parts = classes[[REAL, IMAGINARY]]
        if len({classes[FIXED], *parts}) < 3:
            parts = np.array([-2, -2])

        # Two nodes a factor, itself and its inverse: where they are one, the factor is ±1.
        doubled = []
        for a, b, power in self._factors:
            flip = count if power < 0 else 0
            doubled += [(a, b + flip), (a + count, b + count - flip)]
        factors = _components(2 * count, doubled)
        own, inverse = factors[:count], factors[count:]
        groups = _components(count, [(a, b) for a, b, _ in self._factors])
        forbidden = {
            freedom: _any(groups, units, count) for freedom, units in self._forbidden.items()
        }
        forbidden["scale"] |= own == inverse
        slots = np.full(count, -1)
        for units, labels in self._slots:
            slots[units] = classes[labels]
        return Resolved(
            classes=classes,
            kinds=_refined(self._kinds, self._ties),
            movable=~fixed & ~np.isin(classes, parts) & ~_any(classes, self._pinned, count),
            parts=parts,
            slots=slots,
            factors=groups,
            # The first unit of a group of factors is where they are read with their own sign.
            inverted=own != own[_first(groups)[groups]],
            forbidden=forbidden,
            complex=_any(classes, self._complex, count),
        )


@dataclass(frozen=True)
class Resolved:
    """For every unit, what became of it.

    Attributes:
        classes: numbers; what is tied together has the same.
        kinds: what units of an axis have in common.
        movable: whether it can be exchanged with others.
        parts: classes of the real and of the imaginary part, or −2.
        slots: class of the slot that a unit stands for, or −1.
        factors: numbers; those whose factors depend on one another have the same.
        inverted: whether its factor is the inverse of the group's.
        forbidden: for each freedom, whether it is forbidden.
        complex: whether it is a complex number.
    """

    classes: np.ndarray
    kinds: np.ndarray
    movable: np.ndarray
    parts: np.ndarray
    slots: np.ndarray
    factors: np.ndarray
    inverted: np.ndarray
    forbidden: dict[Freedom, np.ndarray] = field(repr=False)
    complex: np.ndarray = field(repr=False)


def _occurrence(values: np.ndarray) -> np.ndarray:
    """For each value, how often it stood there before: [5, 7, 5, 5] → [0, 0, 1, 2]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.empty_like(order)
    rank[order] = np.arange(len(values)) - np.repeat(begins, np.diff(np.r_[begins, len(values)]))
    return rank


def _components(count: int, edges: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    rows = np.concatenate([a for a, _ in edges]) if edges else np.empty(0, np.int64)
    columns = np.concatenate([b for _, b in edges]) if edges else np.empty(0, np.int64)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _refined(kinds: np.ndarray, edges: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Tell units of a kind apart where they are tied to units of different kinds.

    This is colour refinement (Weisfeiler & Leman 1968), with sums of random numbers in the place of
    multisets of colours.
    """
    count = len(kinds)
    rows = np.concatenate([np.r_[a, b] for a, b in edges]) if edges else np.empty(0, np.int64)
    columns = np.concatenate([np.r_[b, a] for a, b in edges]) if edges else np.empty(0, np.int64)
    # Being fixed distinguishes a whole class, and its members are tied to thousands of others.
    inner = (rows > IMAGINARY) & (columns > IMAGINARY)
    rows, columns = rows[inner], columns[inner]
    graph = coo_array((np.ones(len(rows), np.int64), (rows, columns)), shape=(count, count)).tocsr()
    random = np.random.default_rng(0)
    kinds = np.unique(kinds, return_inverse=True)[1].reshape(-1)
    while True:
        numbers = random.integers(0, 2**40, count)
        pairs = np.stack([kinds, graph @ numbers[kinds]], 1)
        _, refined = np.unique(pairs, axis=0, return_inverse=True)
        if refined.max() == kinds.max():
            return kinds
        kinds = refined.reshape(-1)


def _first(labels: np.ndarray) -> np.ndarray:
    """For each label, the first index that has it."""
    return np.unique(labels, return_index=True)[1]


def _any(labels: np.ndarray, marked: Iterable[np.ndarray], count: int) -> np.ndarray:
    """For each unit, whether one of those with the same label is marked."""
    chosen = np.zeros(int(labels.max()) + 1, bool)
    for units in marked:
        chosen[labels[units]] = True
    return chosen[labels]
