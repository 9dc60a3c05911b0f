"""Which unit of one network is which of another: similarities, and the best assignment of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from skillrl.permutation.recipes import Method
from skillrl.permutation.symmetries import Group, Site
from skillrl.permutation.transformation import Element, Transformation, after_slots

State = Mapping[str, Tensor]

# Below this share of its mean square a unit's variance is rounding: the unit is constant.
_CONSTANT = 1e-9
# Sweeps of coordinate descent at most: where units act on themselves it may not end by itself.
_SWEEPS = 100
# What the similarity of a pair with an idle unit is lowered by, so that it is matched last.
_LAST = -4.0
# Smaller gains than this share are rounding.
_GAIN = 1e-6


@dataclass(frozen=True)
class Evidence:
    """What is known about a network.

    Attributes:
        state: parameters and buffers.
        directions: for every group, the activations of each unit with a norm of one,
            ``(units, observations)``.
        sizes: for every group, the root mean squares of the activations, ``(units,)``.
        idle: for every group, which units never fire, or never change, ``(units,)`` bool.
    """

    state: State
    directions: tuple[Tensor, ...]
    sizes: tuple[np.ndarray, ...]
    idle: tuple[np.ndarray, ...]

    @staticmethod
    def of(state: State, activations: Sequence[Tensor]) -> Evidence:
        """Return what the activations ``(units, observations)`` of all groups say."""
        norms = [torch.linalg.vector_norm(units, dim=1, keepdim=True) for units in activations]
        directions = [
            units / torch.where(norm > 0, norm, 1)
            for units, norm in zip(activations, norms, strict=True)
        ]
        sizes = [
            (norm / units.shape[1] ** 0.5).flatten().double().cpu().numpy()
            for units, norm in zip(activations, norms, strict=True)
        ]
        return Evidence(state, tuple(directions), tuple(sizes), tuple(map(_idle, activations)))

    def transformed(self, transformation: Transformation) -> Evidence:
        """Return what is known about the transformed network."""
        elements, turns = transformation.elements, transformation.unscaled().elements
        return Evidence(
            transformation.of(self.state),
            tuple(turn.of(units) for turn, units in zip(turns, self.directions, strict=True)),
            tuple(
                np.abs(each.factor) * size[each.permutation]
                for each, size in zip(elements, self.sizes, strict=True)
            ),
            tuple(still[each.permutation] for each, still in zip(elements, self.idle, strict=True)),
        )

    @staticmethod
    def combined(evidences: Sequence[Evidence], weights: Sequence[float]) -> Evidence:
        """Return a weighted sum of what is known about networks in the same coordinates."""

        def total(parts: Sequence[Any]) -> Any:
            return sum(weight * part for weight, part in zip(weights, parts, strict=True))

        first, groups = evidences[0], range(len(evidences[0].sizes))
        return Evidence(
            {
                name: total([each.state[name] for each in evidences])
                if tensor.is_floating_point()
                else tensor
                for name, tensor in first.state.items()
            },
            tuple(total([each.directions[group] for each in evidences]) for group in groups),
            tuple(total([each.sizes[group] for each in evidences]) for group in groups),
            tuple(np.all([each.idle[group] for each in evidences], 0) for group in groups),
        )

    def scales(self, groups: Sequence[Group]) -> Transformation:
        """Return what gives all units that can be scaled a root mean square of one.

        What is never on gets weights with a norm of one instead.
        """
        found = Transformation.identity(groups)
        for number, (group, size) in enumerate(zip(groups, self.sizes, strict=True)):
            if "scale" in group.symmetries:
                if not size.all():
                    makers = [site for site in group.sites if site.power > 0]
                    weights = _sizes(group, found.of(self.state), makers).double().cpu().numpy()
                    size = np.where(size > 0, size, np.where(weights > 0, weights, 1.0))
                element = found.elements[number]
                scaled = Element(element.permutation, element.factor / size, element.conjugated)
                found = found.replaced(number, scaled)
        return found


def _idle(units: Tensor) -> np.ndarray:
    size = units.abs().square().mean(1)
    variance = (units - units.mean(1, keepdim=True)).abs().square().mean(1)
    return (variance <= _CONSTANT * size.clamp_min(_CONSTANT * float(size.max()))).cpu().numpy()


def mean_state(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the mean of parameters and buffers; what counts in integers is the first's."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }


@dataclass(frozen=True)
class Similarity:
    """How well every unit of a target matches every unit of a source, ``(units, units)`` each.

    With a factor f on the source's unit the similarity is ``still + Re(turning · f)``; where
    the source's unit is conjugated first, it is that of ``mirrored``.
    """

    still: Tensor
    turning: Tensor
    mirrored: Similarity | None = None

    def __add__(self, other: Similarity) -> Similarity:
        mirrored = None
        if self.mirrored is not None and other.mirrored is not None:
            mirrored = self.mirrored + other.mirrored
        return Similarity(self.still + other.still, self.turning + other.turning, mirrored)

    def divided(self, target: Tensor, source: Tensor) -> Similarity:
        """Return the similarities divided by sizes of the units, ``(units,)`` each."""
        sizes = torch.outer(target, source).clamp_min(1e-30)
        mirrored = None if self.mirrored is None else self.mirrored.divided(target, source)
        return Similarity(self.still / sizes, self.turning / sizes, mirrored)

    def masked(self, condition: Tensor, number: float) -> Similarity:
        """Return these similarities where the condition holds, and a number elsewhere."""
        mirrored = None if self.mirrored is None else self.mirrored.masked(condition, number)
        return Similarity(
            self.still.where(condition, self.still.new_tensor(number)),
            self.turning.where(condition, self.turning.new_zeros(())),
            mirrored,
        )

    def where(self, condition: Tensor, other: Similarity) -> Similarity:
        """Return these similarities where the condition holds, and others elsewhere."""
        mirrored = None
        if self.mirrored is not None and other.mirrored is not None:
            mirrored = self.mirrored.where(condition, other.mirrored)
        return Similarity(
            torch.where(condition, self.still, other.still),
            torch.where(condition, self.turning, other.turning),
            mirrored,
        )

    def best(self, group: Group) -> Tensor:
        """Return the similarities with the best factors of magnitude one."""
        free = "phase" in group.symmetries or "sign" in group.symmetries
        found = self.still + (self.turning.abs() if free else self.turning.real)
        if self.mirrored is None or "conjugation" not in group.symmetries:
            return found
        return torch.maximum(found, self.mirrored.best(group.without("conjugation")))

    def element(self, group: Group, permutation: np.ndarray) -> Element:
        """Return a permutation with the best factors of magnitude one."""
        rows = torch.arange(group.size)
        pairs = rows, torch.as_tensor(permutation)
        turning = self.turning[pairs]
        conjugated = np.zeros(group.size, bool)
        if self.mirrored is not None and "conjugation" in group.symmetries:
            plain = group.without("conjugation")
            better = self.mirrored.best(plain)[pairs] > self.best(plain)[pairs]
            turning = torch.where(better, self.mirrored.turning[pairs], turning)
            conjugated = better.cpu().numpy()
        factor = Element.identity(group).factor
        if "phase" in group.symmetries or "sign" in group.symmetries:
            turning = turning.to(torch.complex128 if group.complex else torch.float64)
            sizes = turning.abs()
            unit = torch.where(sizes > 0, turning.conj() / sizes, torch.ones_like(turning))
            factor = unit.resolve_conj().cpu().numpy()
        return Element(permutation, factor, conjugated)

    def of(self, element: Element) -> float:
        """Return the sum of the similarities of an element's pairs."""
        rows = torch.arange(len(element.permutation))
        columns = torch.as_tensor(element.permutation)
        total = 0.0
        for chosen, part in ((~element.conjugated, self), (element.conjugated, self.mirrored)):
            if part is not None and chosen.any():
                pairs = rows[chosen], columns[chosen]
                factor = torch.as_tensor(element.factor[chosen]).to(part.turning)
                total += float((part.still[pairs] + (part.turning[pairs] * factor).real).sum())
        return total


def of_activations(target: Tensor, source: Tensor) -> Similarity:
    """Return the cosines between units' activations, not centred.

    Source: Benzing et al. 2022 (arXiv 2209.07509). Of complex units, the cosine with a factor f is
    ``Re(f · ⟨source, target⟩)``.

    Args:
        target: directions ``(units, observations)``; of a mean of directions, what is returned is
            the mean of the cosines.
        source: directions ``(units, observations)``.
    """
    still = torch.zeros_like((target[:, :1] @ source[:, :1].mT).real)
    if not target.is_complex():
        return Similarity(still, target @ source.mT)
    mirrored = Similarity(still, target.conj() @ source.conj().mT)
    return Similarity(still, target.conj() @ source.mT, mirrored)


def of_weights(
    group: Group, target: State, source: State, sites: Sequence[Site] | None = None
) -> Similarity:
    """Return the products between the weights of units, in and out, or at some sites alone.

    Their sum over all pairs is, but for a constant, minus half of the squared distance between the
    parameters of two networks. Source: Ainsworth et al. 2022 (Git Re-Basin, arXiv 2209.04836).
    """
    found: Similarity | None = None
    for site in group.weights if sites is None else sites:
        a, b = (_entries(state[site.tensor], site, group) for state in (target, source))
        zeros = a.new_zeros(group.size, group.size).real
        if site.tensor == group.angle:
            found = _sum(found, _of_angles(a, b))
        elif site.power == 0:
            products = (a @ b.mT).real
            same = Similarity(products, zeros)
            found = _sum(found, Similarity(products, zeros, same))
        elif a.is_complex():
            mirrored = Similarity(zeros, a.conj() @ b.conj().mT)
            found = _sum(found, Similarity(zeros, a.conj() @ b.mT, mirrored))
        else:
            found = _sum(found, Similarity(zeros, a @ b.mT))
    assert found is not None  # a group has sites
    return found


def _sum(found: Similarity | None, more: Similarity) -> Similarity:
    return more if found is None else found + more


def _of_angles(a: Tensor, b: Tensor) -> Similarity:
    """Distances, because those of conjugated units are others: −½ (a − b)²."""
    opposite = torch.remainder(-b.exp(), 2 * torch.pi).log()
    zeros = torch.zeros_like(a - b.mT)
    mirrored = Similarity(-0.5 * (a - opposite.mT).square(), zeros)
    return Similarity(-0.5 * (a - b.mT).square(), zeros, mirrored)


def _entries(tensor: Tensor, site: Site, group: Group) -> Tensor:
    """The entries of a tensor that belong to each unit, ``(units, entries)``."""
    rows = tensor.movedim(site.axis, 0)[torch.as_tensor(site.index)]
    if not group.complex or site.power == 0:
        return rows.flatten(1)
    parts = 1 if site.parts is None else after_slots(site.axis, site.parts)
    return torch.view_as_complex(rows.movedim(parts, -1).contiguous()).flatten(1)


def assign(similarity: Similarity, group: Group) -> Element:
    """Return the element whose pairs have the largest sum of similarities."""
    best = similarity.best(group).double().cpu().numpy()
    _, permutation = linear_sum_assignment(best, maximize=True)
    return similarity.element(group, permutation)


def match(
    groups: Sequence[Group],
    target: Evidence,
    source: Evidence,
    method: Method,
    start: Transformation | None = None,
) -> Transformation:
    """Return what brings the source closest to the target.

    Args:
        groups: of both networks.
        target: to which the source is brought.
        source: what is transformed.
        method: how.
        start: from which weights are matched. If it is None, what the activations say where method
            is ``"both"``; where it is ``"weights"``, what weights say group by group, beginning
            with those at inputs, outputs and biases.
    """
    # Scales have a closed form, and disturb the rest: all is compared at the same scale.
    to, of = target.scales(groups), source.scales(groups)
    target, source = target.transformed(to), source.transformed(of)
    if start is not None:
        start = start.unscaled()

    def by_weights(number: int, others: State) -> Similarity:
        return of_weights(groups[number], target.state, others)

    if method == "weights":
        found = start or _outwards(groups, target, source)
        found = _descend(range(len(groups)), source, found, by_weights)
        return _kept_apart(to.inverse().after(found).after(of), target, source)

    seen = [_seen(target, source, number) for number in range(len(groups))]

    def by_both(number: int, others: State) -> Similarity:
        group = groups[number]
        sizes = _sizes(group, target.state), _sizes(group, others)
        return seen[number].similarity + by_weights(number, others).divided(*sizes)

    def by_activations(number: int, others: State) -> Similarity:
        return seen[number].similarity.where(seen[number].known, by_both(number, others))

    if method == "both" and start is not None:
        found = start
    else:
        elements = (
            assign(each.similarity, group) for each, group in zip(seen, groups, strict=True)
        )
        found = Transformation(tuple(groups), tuple(elements))
    if method == "both":
        found = _descend(range(len(groups)), source, found, by_both)
    else:
        unsure = [number for number, each in enumerate(seen) if not bool(each.known.all())]
        found = _descend(unsure, source, found, by_activations)
    return _kept_apart(to.inverse().after(found).after(of), target, source)


def _kept_apart(found: Transformation, target: Evidence, source: Evidence) -> Transformation:
    """Scale no unit that is ever on in one network alone: its sizes are of two kinds."""
    elements = []
    for element, size, other in zip(found.elements, target.sizes, source.sizes, strict=True):
        alone = (size > 0) != (other[element.permutation] > 0)
        factor = np.where(alone, element.unscaled().factor, element.factor)
        elements.append(Element(element.permutation, factor, element.conjugated))
    return Transformation(found.groups, tuple(elements))


def _outwards(groups: Sequence[Group], target: Evidence, source: Evidence) -> Transformation:
    """Match weights beginning with those at inputs, outputs and biases.

    Each group is compared where all that it stands beside is matched already.
    """
    found, waiting = Transformation.identity(groups), dict(enumerate(groups))
    while waiting:
        sites = {
            number: [
                site
                for site in group.weights
                if not any(
                    other.tensor == site.tensor and other.axis != site.axis
                    for neighbour in waiting.values()
                    for other in neighbour.sites
                )
            ]
            for number, group in waiting.items()
        }
        # In the order of the layers, or all that is there of one that acts on itself alone.
        number = next((number for number, known in sites.items() if known), next(iter(waiting)))
        group = waiting.pop(number)
        others = found.of(source.state, but=number)
        similarity = of_weights(group, target.state, others, sites[number] or None)
        found = found.replaced(number, assign(similarity, group))
    return found


@dataclass(frozen=True)
class _Seen:
    """What activations tell of the pairs of a group, and of which pairs they tell anything."""

    similarity: Similarity
    known: Tensor


def _seen(target: Evidence, source: Evidence, number: int) -> _Seen:
    """The cosines of activations; pairs with an idle unit are below all others."""
    found = of_activations(target.directions[number], source.directions[number])
    idle = torch.as_tensor(target.idle[number][:, None] | source.idle[number])
    known = ~idle.to(found.still.device)
    return _Seen(found.masked(known, _LAST), known)


def _descend(
    numbers: Sequence[int],
    source: Evidence,
    found: Transformation,
    similarity: Callable[[int, State], Similarity],
) -> Transformation:
    """Match group after group, given all others, until nothing gets better.

    Args:
        numbers: of the groups.
        source: what is transformed.
        found: from which it begins.
        similarity: of the units of a group, given the source in which all others are matched.
    """
    for _ in range(_SWEEPS):
        changed = False
        for number in numbers:
            each = similarity(number, found.of(source.state, but=number))
            element = assign(each, found.groups[number])
            before, after = each.of(found.elements[number]), each.of(element)
            if after > before + _GAIN * abs(before):
                found, changed = found.replaced(number, element), True
        if not changed:
            break
    return found


def _sizes(group: Group, state: State, sites: Sequence[Site] | None = None) -> Tensor:
    """The norm of all weights around each unit, or of those at some sites."""
    squares = [
        _entries(state[site.tensor], site, group).abs().square().sum(1)
        for site in (group.weights if sites is None else sites)
        if site.tensor != group.angle
    ]
    return torch.stack(squares).sum(0).sqrt()
