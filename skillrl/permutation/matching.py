"""Which unit of one network is which of another: similarities, and the best assignment of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from skillrl.permutation.symmetries import Group, Site
from skillrl.permutation.transformation import Element, Transformation

State = Mapping[str, Tensor]

# Below this share of its mean square a unit's variance is rounding: the unit is constant.
_CONSTANT = 1e-9
# Sweeps of coordinate descent; it ends by itself long before.
_SWEEPS = 100


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
            conjugated = better.numpy()
        factor = Element.identity(group).factor
        if "phase" in group.symmetries or "sign" in group.symmetries:
            turning = turning.to(torch.complex128 if group.complex else torch.float64)
            sizes = turning.abs()
            unit = torch.where(sizes > 0, turning.conj() / sizes, torch.ones_like(turning))
            factor = unit.resolve_conj().numpy()
        return Element(permutation, factor, conjugated)

    def of(self, element: Element) -> float:
        """Return the sum of the similarities of an element's pairs."""
        rows = torch.arange(len(element.permutation))
        columns = torch.as_tensor(element.permutation)
        total = 0.0
        for chosen, part in ((~element.conjugated, self), (element.conjugated, self.mirrored)):
            if part is not None and chosen.any():
                pairs = rows[chosen], columns[chosen]
                factor = torch.as_tensor(element.factor[chosen]).to(part.turning.dtype)
                total += float((part.still[pairs] + (part.turning[pairs] * factor).real).sum())
        return total


def of_activations(target: Tensor, source: Tensor) -> Similarity:
    """Return the cosines between units' activations ``(units, observations)``, not centred.

    Source: Benzing et al. 2022 (arXiv 2209.07509). Of complex units, the cosine with a factor f is
    ``Re(f · ⟨source, target⟩)``.
    """
    target, source = (each / _norms(each).clamp_min(1e-30).unsqueeze(1) for each in (target, source))
    still = torch.zeros(len(target), len(source))
    if not target.is_complex():
        return Similarity(still, target @ source.mT)
    mirrored = Similarity(still, target.conj() @ source.conj().mT)
    return Similarity(still, target.conj() @ source.mT, mirrored)


def of_weights(group: Group, target: State, source: State) -> Similarity:
    """Return the products between the weights of units, in and out.

    Their sum over all pairs is, but for a constant, minus half of the squared distance between the
    two networks. Source: Ainsworth et al. 2022 (Git Re-Basin, arXiv 2209.04836).
    """
    found: Similarity | None = None
    for site in group.sites:
        a, b = (_entries(state[site.tensor], site, group) for state in (target, source))
        zeros = torch.zeros(group.size, group.size)
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
    zeros = torch.zeros(len(a), len(b))
    mirrored = Similarity(-0.5 * (a - opposite.mT).square(), zeros)
    return Similarity(-0.5 * (a - b.mT).square(), zeros, mirrored)


def _entries(tensor: Tensor, site: Site, group: Group) -> Tensor:
    """The entries of a tensor that belong to each unit, ``(units, entries)``."""
    rows = tensor.movedim(site.axis, 0)[torch.as_tensor(site.index)]
    if not group.complex or site.power == 0:
        return rows.flatten(1)
    parts = 1 if site.parts is None else site.parts + (2 if site.parts < site.axis else 1)
    return torch.view_as_complex(rows.movedim(parts, -1).contiguous()).flatten(1)


def assign(similarity: Similarity, group: Group) -> Element:
    """Return the element whose pairs have the largest sum of similarities."""
    best = similarity.best(group).double().numpy()
    _, permutation = linear_sum_assignment(best, maximize=True)
    return similarity.element(group, permutation)
