"""The symmetries of a network: what its hidden units bear without a change of its function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import skillrl.permutation.rules  # noqa: F401, registers them for the analysis
from skillrl.errors import UnsupportedOperationError
from skillrl.permutation.analysis import Analysis
from skillrl.permutation.dimensions import Axis, Resolved
from skillrl.permutation.trace import Forward, Trace, call

Symmetry = Literal["permutation", "sign", "scale", "phase", "conjugation"]


@dataclass(frozen=True)
class Site:
    """Where the units of a group stand in one tensor.

    Attributes:
        tensor: name of a parameter or buffer.
        axis: its axis.
        index: for every unit, its positions along the axis, ``(units, slots)``.
        power: 1 where entries are multiplied by their unit's factor, −1 where they are divided,
            0 where they only move with it.
        parts: of complex units, the axis with the real and the imaginary part; None where they are
            the two slots, or nothing is complex.
        buffer: whether the tensor is a buffer.
    """

    tensor: str
    axis: int
    index: np.ndarray
    power: int
    parts: int | None = None
    buffer: bool = False


@dataclass(frozen=True)
class Group:
    """Hidden units that can be exchanged with one another.

    Attributes:
        name: of the parameter that makes them.
        size: number of units.
        symmetries: what can be done to the units:
            - ``"permutation"``: to exchange them;
            - ``"sign"``: to flip any of them (behind odd activations such as tanh);
            - ``"scale"``: to multiply any of them by a positive number (behind relu);
            - ``"phase"`` and ``"conjugation"``, of complex states.
        sites: where they stand.
        angle: of units that can be conjugated, the parameter that holds the logarithm of an angle.
    """

    name: str
    size: int
    symmetries: frozenset[Symmetry]
    sites: tuple[Site, ...]
    angle: str | None = None

    @property
    def complex(self) -> bool:
        """Whether the units are complex numbers, multiplied by complex factors."""
        return "phase" in self.symmetries

    @property
    def weights(self) -> tuple[Site, ...]:
        """The sites by whose entries units can be compared: parameters, or buffers if all are.

        Statistics that a network has measured, such as a batch norm's, are of another size than
        weights, and would outweigh them.
        """
        return tuple(site for site in self.sites if not site.buffer) or self.sites

    def without(self, *symmetries: Symmetry) -> Group:
        """Return the group with fewer symmetries."""
        return Group(self.name, self.size, self.symmetries - {*symmetries}, self.sites, self.angle)

    def to_json(self) -> dict[str, Any]:
        """Return a description that JSON can hold."""
        sites = [{**asdict(site), "index": site.index.tolist()} for site in self.sites]
        return {**asdict(self), "symmetries": sorted(self.symmetries), "sites": sites}

    @staticmethod
    def from_json(description: dict[str, Any]) -> Group:
        """Return the group that ``to_json`` described.

        Raises:
            LookupError, TypeError, ValueError: if it is none.
        """
        sites = tuple(
            Site(**{**site, "index": np.array(site["index"])}) for site in description["sites"]
        )
        symmetries = frozenset(description["symmetries"])
        group = Group(**{**description, "symmetries": symmetries, "sites": sites})
        for site in sites:
            _check_site(site, group)
        if group.angle is not None and group.angle not in {site.tensor for site in sites}:
            raise ValueError(f"group {group.name!r} has no site at its angle {group.angle!r}")
        return group


def _check_site(site: Site, group: Group) -> None:
    index, axes = site.index, (site.axis, 0 if site.parts is None else site.parts)
    where = f"the site of group {group.name!r} in {site.tensor!r}"
    if not all(isinstance(axis, int) and axis >= 0 for axis in axes) or axes[0] == site.parts:
        raise ValueError(f"{where} has the axes {site.axis!r} and {site.parts!r}")
    if site.power not in (-1, 0, 1):
        raise ValueError(f"{where} has the power {site.power!r}")
    if index.ndim != 2 or len(index) != group.size or index.size == 0 or index.dtype.kind != "i":
        raise ValueError(f"{where} has no whole positions of {group.size!r} units")
    if index.min() < 0 or len(np.unique(index)) < index.size:
        raise ValueError(f"{where} has positions below 0, or one for several units")


@dataclass(frozen=True)
class Reading:
    """Where the units of a group are seen at work: a tensor that the next layer sums over.

    Where that was pooled, as pixels are, it is the tensor before.

    Attributes:
        node: of the trace.
        axis: of the node's tensor.
        index: for every unit, its positions along the axis, ``(units, slots)``.
    """

    node: str
    axis: int
    index: np.ndarray


class Symmetries(Sequence[Group]):
    """The groups of a network, and where their units are seen.

    Args:
        groups: in the order in which their units are read.
        readings: for each group, the tensors in which it is read.
        trace: that computes those tensors.
    """

    def __init__(
        self, groups: Sequence[Group], readings: Sequence[Sequence[Reading]], trace: Trace
    ) -> None:
        self.groups = tuple(groups)
        self._readings = [tuple(each) for each in readings]
        self._trace = trace

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: Any) -> Any:
        return self.groups[index]

    def __str__(self) -> str:
        return "\n".join(
            f"{group.name}: {group.size} units; {', '.join(sorted(group.symmetries))}; "
            + ", ".join(f"{site.tensor}[{site.axis}]" for site in group.sites)
            for group in self.groups
        )

    def without(self, *symmetries: Symmetry) -> Symmetries:
        """Return the groups with fewer symmetries."""
        groups = [group.without(*symmetries) for group in self.groups]
        return Symmetries(groups, self._readings, self._trace)

    def activations(self, state: Mapping[str, Tensor], inputs: Any) -> list[Tensor]:
        """Return what the units of every group do, as the next layers see it, or before pooling.

        Args:
            state: parameters and buffers, as ``state_of`` names them.
            inputs: of the shapes that the symmetries were found with.

        Returns:
            For every group ``(units, observations)``; complex where the units are. A unit's entries
            at all times, pixels and in all layers that read it are observations alike.
        """
        wanted = {reading.node for readings in self._readings for reading in readings}
        found = self._trace.run(state, inputs, sorted(wanted))
        return [
            torch.cat([_rows(found[reading.node], reading, group) for reading in readings], 1)
            for group, readings in zip(self.groups, self._readings, strict=True)
        ]


def _rows(tensor: Tensor, reading: Reading, group: Group) -> Tensor:
    rows = tensor.movedim(reading.axis, 0).flatten(1)[torch.as_tensor(reading.index)]
    if group.complex:
        return torch.complex(rows[:, 0], rows[:, 1])
    return rows.flatten(1)


def symmetry_groups(module: nn.Module, example_input: Any, forward: Forward = call) -> Symmetries:
    """Find the hidden units of a module that can be exchanged, flipped, scaled or turned.

    The module is traced to a graph of ATen operations, through which the dimensions of all
    parameters are followed. Outputs and inputs stay as they are. Where two dimensions of parameters
    are merged into one, only the units of the larger are found. Layers that take one dimension of
    hidden units apart, as ``nn.MultiheadAttention`` does into heads, are refused.

    Args:
        module: in whatever mode; its evaluation mode is looked at.
        example_input: a batch of inputs; a tuple is given as several arguments.
        forward: what is computed, ``forward(module, inputs)``, where that is not the module's own
            call.

    Raises:
        UnsupportedOperationError: naming the operation that is not understood.
        InvalidValueError: if the module cannot be traced.

    >>> network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    >>> print(symmetry_groups(network, torch.zeros(1, 3)))
    0.weight: 8 units; permutation, sign; 0.weight[0], 0.bias[0], 2.weight[1]
    """
    trace = Trace(module, example_input, forward)
    analysis = Analysis(trace)
    found = analysis.units.resolve()
    _check(analysis, found)
    groups, readings = [], []
    for classes in _exchangeable(analysis, found):
        group = _group(classes, analysis, found)
        if group is not None:
            groups.append(group[0])
            readings.append(group[1])
    return Symmetries(groups, readings, trace)


def _check(analysis: Analysis, found: Resolved) -> None:
    for demand in analysis.units.demands:
        moving = set(found.classes[demand.units[found.movable[demand.units]]].tolist())
        names = [
            name
            for name, axes in analysis.parameters.items()
            if any(moving.intersection(found.classes[axis.units].tolist()) for axis in axes)
        ]
        if names:
            raise UnsupportedOperationError(
                f"The operation {demand.operation} is applied to hidden units (of "
                f"{', '.join(names)}), and what it does to their symmetries is unknown. Leave it "
                "out of what `forward` computes, or write it with other operations."
            )


def _exchangeable(analysis: Analysis, found: Resolved) -> list[np.ndarray]:
    """Classes of units that are tied in the same way: a list of arrays of classes."""
    kinds: dict[int, list[int]] = {}
    for unit in np.flatnonzero(found.movable):
        kinds.setdefault(int(found.classes[unit]), []).append(int(found.kinds[unit]))
    alike: dict[tuple[int, ...], list[int]] = {}
    for name, signature in kinds.items():
        # Two units of one kind in one class: what exchanges them is no longer known.
        if len(set(signature)) == len(signature):
            alike.setdefault(tuple(sorted(signature)), []).append(name)
    return [np.array(sorted(classes)) for classes in alike.values()]


@dataclass(frozen=True)
class _Place:
    """An axis of a parameter on which a group stands; ``units`` are of the shape of ``index``."""

    tensor: str
    axis: int
    index: np.ndarray
    units: np.ndarray


def _group(
    classes: np.ndarray, analysis: Analysis, found: Resolved
) -> tuple[Group, list[Reading]] | None:
    """Return the group of some classes and its readings; None if nothing can be done to it."""
    places = []
    for tensor, axes in analysis.parameters.items():
        for axis, along in enumerate(axes):
            index = _positions(found, classes, along.units, found.kinds[along.units])
            # Slot by slot: of a gated linear unit, one half has factors and the other has none.
            places += [
                _Place(tensor, axis, index[:, slots], along.units[index[:, slots]])
                for slots in _alike(found, along.units[index])
            ]
    readings, seen = [], []
    for read in {(read.node, read.axis): read for read in analysis.reads}.values():
        index = _positions(found, classes, read.units.units)
        if index.size:
            readings.append(Reading(read.node, read.axis, index))
            seen.append(read.units.at(index[0, :1]))
    if not places or not readings:
        return None
    symmetries: set[Symmetry] = {"permutation"}
    powers = np.zeros(len(places), int)
    parts: list[int | None] = [None] * len(places)
    angle = None
    first = np.array([place.units[0, 0] for place in places])
    free = ~(found.forbidden["sign"][first] & found.forbidden["scale"][first])
    # Units have factors where all that reads them sees the same ones.
    numbers = {*found.factors[first[free]].tolist()}
    if len(numbers) == 1 and all(
        axis.scaled[0] and found.factors[axis.units[0]] in numbers for axis in seen
    ):
        sample = first[free][0]
        symmetries |= {
            freedom for freedom in ("sign", "scale") if not found.forbidden[freedom][sample]
        }
        # The factors are those of what is read: its power is 1.
        own = found.inverted[seen[0].units[0]]
        powers[free] = np.where(found.inverted[first[free]] == own, 1, -1)
        if found.complex[sample] and not found.forbidden["phase"][sample]:
            located = [_parts(found, place, analysis.parameters[place.tensor]) for place in places]
            if all(part is not None for part, power in zip(located, powers, strict=True) if power):
                symmetries.add("phase")
                parts = [
                    part if power and part != _IN_SLOTS else None
                    for part, power in zip(located, powers, strict=True)
                ]
                angles = [place.tensor for place in places if place.tensor in analysis.angles]
                if len(angles) == 1:
                    angle = angles[0]
                    symmetries.add("conjugation")
    if len(classes) == 1 and symmetries == {"permutation"}:
        return None
    sites = tuple(
        Site(
            *(place.tensor, place.axis, place.index, int(power), part),
            buffer=place.tensor in analysis.buffers,
        )
        for place, power, part in zip(places, powers, parts, strict=True)
    )
    return Group(sites[0].tensor, len(classes), frozenset(symmetries), sites, angle), readings


def _positions(
    found: Resolved, classes: np.ndarray, units: np.ndarray, order: np.ndarray | None = None
) -> np.ndarray:
    """Where classes stand along an axis, ``(classes, slots)``; slots in an order that all share."""
    along = found.classes[units]
    at = np.flatnonzero(np.isin(along, classes))
    rank = np.searchsorted(classes, along[at])
    at = at[np.lexsort((at if order is None else order[at], rank))]
    index = at.reshape(len(classes), -1)
    return index[:, np.argsort(index[0])]


def _alike(found: Resolved, units: np.ndarray) -> list[np.ndarray]:
    """The slots of ``units``, ``(classes, slots)``, that have the same factors, together."""
    if units.shape[1] == 0:
        return []
    factors = np.where(
        found.forbidden["sign"] & found.forbidden["scale"],
        -1,
        2 * found.factors + found.inverted,
    )[units[0]]
    return [np.flatnonzero(factors == each) for each in dict.fromkeys(factors.tolist())]


_IN_SLOTS = -1


def _parts(found: Resolved, place: _Place, axes: tuple[Axis, ...]) -> int | None:
    """The axis of real and imaginary parts, −1 where the slots are these, None if unknown."""
    if place.index.shape[1] == 2:
        return _IN_SLOTS if bool((found.slots[place.units] == found.parts).all()) else None
    for other, along in enumerate(axes):
        if len(along) == 2 and bool((found.classes[along.units] == found.parts).all()):
            return other if place.index.shape[1] == 1 else None
    return None
