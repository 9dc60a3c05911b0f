"""What is done to the units of a network: elements of its symmetry groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skillrl.errors import InvalidValueError
from skillrl.permutation.symmetries import Group, Site
from skillrl.permutation.trace import state_of, with_state


@dataclass(frozen=True)
class Element:
    """What is done to the units of one group.

    Unit ``i`` becomes ``factor[i]`` times unit ``permutation[i]``, conjugated first where
    ``conjugated[i]``.

    Attributes:
        permutation: ``(units,)``.
        factor: ``(units,)``; its sign flips, its magnitude scales, its phase turns.
        conjugated: ``(units,)``, bool; of complex units.
    """

    permutation: np.ndarray
    factor: np.ndarray
    conjugated: np.ndarray

    @staticmethod
    def identity(group: Group) -> Element:
        """Return what leaves all units as they are."""
        return Element.permuting(np.arange(group.size), group)

    @staticmethod
    def permuting(permutation: np.ndarray, group: Group) -> Element:
        """Return what exchanges units, and does no more."""
        factor = np.ones(group.size, np.complex128 if group.complex else np.float64)
        return Element(permutation, factor, np.zeros(group.size, bool))

    @staticmethod
    def random(group: Group, generator: np.random.Generator) -> Element:
        """Draw all that the group's symmetries allow; scales are between 1/2 and 2."""
        element = Element.permuting(generator.permutation(group.size), group)
        factor, conjugated = element.factor, element.conjugated
        if "phase" in group.symmetries:
            factor = factor * np.exp(2j * math.pi * generator.random(group.size))
        elif "sign" in group.symmetries:
            factor = factor * generator.choice([-1.0, 1.0], group.size)
        if "scale" in group.symmetries:
            factor = factor * 2 ** generator.uniform(-1, 1, group.size)
        if "conjugation" in group.symmetries:
            conjugated = generator.random(group.size) < 0.5
        return Element(element.permutation, factor, conjugated)

    def after(self, first: Element) -> Element:
        """Return what does first the one, then this."""
        earlier = first.factor[self.permutation]
        return Element(
            first.permutation[self.permutation],
            self.factor * np.where(self.conjugated, earlier.conj(), earlier),
            self.conjugated ^ first.conjugated[self.permutation],
        )

    def unscaled(self) -> Element:
        """Return the same with factors of magnitude one."""
        return Element(self.permutation, self.factor / np.abs(self.factor), self.conjugated)

    def inverse(self) -> Element:
        """Return what undoes this."""
        permutation = np.argsort(self.permutation)
        factor = 1 / np.where(self.conjugated, self.factor.conj(), self.factor)
        return Element(permutation, factor[permutation], self.conjugated[permutation])

    def of(self, units: Tensor) -> Tensor:
        """Return the transformed activations ``(units, observations)``."""
        moved = units
        if not np.array_equal(self.permutation, np.arange(len(units))):
            moved = units[torch.as_tensor(self.permutation)]
        if self.conjugated.any():
            conjugated = torch.as_tensor(self.conjugated, device=units.device).unsqueeze(1)
            moved = torch.where(conjugated, moved.conj(), moved)
        if (self.factor != 1).any():
            moved = moved * torch.as_tensor(self.factor).to(units).unsqueeze(1)
        return moved


@dataclass(frozen=True)
class Transformation:
    """What is done to the hidden units of a network; it does not change the network's function.

    Attributes:
        groups: of units.
        elements: for each group, what is done.
    """

    groups: tuple[Group, ...]
    elements: tuple[Element, ...]

    @staticmethod
    def identity(groups: Sequence[Group]) -> Transformation:
        """Return what leaves a network as it is."""
        return Transformation(tuple(groups), tuple(map(Element.identity, groups)))

    @staticmethod
    def random(groups: Sequence[Group], generator: np.random.Generator) -> Transformation:
        """Draw what is done to each group."""
        return Transformation(
            tuple(groups), tuple(Element.random(group, generator) for group in groups)
        )

    def after(self, first: Transformation) -> Transformation:
        """Return what does first the one, then this."""
        pairs = zip(self.elements, first.elements, strict=True)
        return Transformation(self.groups, tuple(b.after(a) for b, a in pairs))

    def inverse(self) -> Transformation:
        """Return what undoes this."""
        return Transformation(self.groups, tuple(each.inverse() for each in self.elements))

    def unscaled(self) -> Transformation:
        """Return the same with factors of magnitude one."""
        return Transformation(self.groups, tuple(each.unscaled() for each in self.elements))

    def replaced(self, index: int, element: Element) -> Transformation:
        """Return the transformation with something else done to one group."""
        elements = [*self.elements]
        elements[index] = element
        return Transformation(self.groups, tuple(elements))

    def apply(self, module: nn.Module) -> nn.Module:
        """Return a copy of a module, its units transformed.

        Args:
            module: of the architecture that the groups are of, such as the same network at another
                time of its training.

        Raises:
            InvalidValueError: if it is of another architecture.
        """
        return with_state(module, self.of(state_of(module)))

    def of(self, state: Mapping[str, Tensor], *, but: int | None = None) -> dict[str, Tensor]:
        """Return the transformed parameters and buffers.

        Args:
            state: as ``state_of`` returns it.
            but: number of a group that is left as it is.

        Raises:
            InvalidValueError: if a tensor is missing, or of another shape.
        """
        transformed = dict(state)
        for number, (group, element) in enumerate(zip(self.groups, self.elements, strict=True)):
            if number == but:
                continue
            for site in group.sites:
                tensor = transformed.get(site.tensor)
                if tensor is None or tensor.dim() <= site.axis:
                    raise InvalidValueError(f"The network has no {site.tensor!r} with such units.")
                if tensor.shape[site.axis] <= site.index.max():
                    raise InvalidValueError(
                        f"{site.tensor!r} has the shape {tuple(tensor.shape)}, too few for units "
                        f"at {int(site.index.max())} along axis {site.axis}: the network is of "
                        "another architecture."
                    )
                transformed[site.tensor] = _moved(tensor, site, element)
            if group.angle is not None and element.conjugated.any():
                site = next(site for site in group.sites if site.tensor == group.angle)
                transformed[group.angle] = _mirrored(transformed[group.angle], site, element)
        return transformed

    def same_as(self, other: Transformation) -> bool:
        """Whether the same units are exchanged, conjugated, and given the same factors."""
        return all(
            np.array_equal(one.permutation, another.permutation)
            and np.array_equal(one.conjugated, another.conjugated)
            and bool((np.abs(one.factor / another.factor - 1) < 1e-3).all())
            for one, another in zip(self.elements, other.elements, strict=True)
        )

    def packed(self) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
        """Return tensors and, for JSON, a description of the groups."""
        tensors = {
            f"{number}.{name}": value
            for number, element in enumerate(self.elements)
            for name, value in _arrays(element).items()
        }
        return tensors, [group.to_json() for group in self.groups]

    @staticmethod
    def unpacked(
        tensors: Mapping[str, Tensor], descriptions: Sequence[dict[str, Any]]
    ) -> Transformation:
        """Return the transformation that was packed.

        Raises:
            LookupError, TypeError, ValueError: if it is none.
        """
        groups = tuple(map(Group.from_json, descriptions))
        elements = (_element(tensors, number, group) for number, group in enumerate(groups))
        return Transformation(groups, tuple(elements))


def _moved(tensor: Tensor, site: Site, element: Element) -> Tensor:
    """Return a tensor with the units of one site transformed."""
    index = torch.as_tensor(site.index, device=tensor.device)
    source = index[torch.as_tensor(element.permutation, device=tensor.device)]
    rows = tensor.movedim(site.axis, 0)
    # (units, slots, …)
    entries = rows[source]
    factor = torch.as_tensor(element.factor, device=tensor.device)
    if factor.is_complex() and site.power != 0:
        # As a vector of two parts, what is multiplied and summed turns as what it is summed with.
        factor = factor if site.power > 0 else 1 / factor.conj()
        parts = 1 if site.parts is None else after_slots(site.axis, site.parts)
        entries = entries.movedim(parts, -1)
        numbers = torch.view_as_complex(entries.contiguous())
        shape = [-1, *[1] * (numbers.dim() - 1)]
        conjugated = torch.as_tensor(element.conjugated, device=tensor.device).view(shape)
        numbers = torch.where(conjugated, numbers.conj(), numbers) * factor.view(shape).to(numbers)
        entries = torch.view_as_real(numbers.resolve_conj()).movedim(-1, parts)
    elif site.power != 0:
        shape = [-1, *[1] * (entries.dim() - 1)]
        entries = entries * (factor**site.power).view(shape).to(tensor.dtype)
    moved = rows.clone()
    moved[index] = entries
    return moved.movedim(0, site.axis)


def after_slots(axis: int, other: int) -> int:
    """Where an axis stands, when units and slots have taken the place of ``axis`` in front."""
    return other + 2 if other < axis else other + 1


def _mirrored(angle_log: Tensor, site: Site, element: Element) -> Tensor:
    """Return logarithms of angles, of conjugated units those of the opposite angles."""
    at = torch.as_tensor(site.index[element.conjugated, 0], device=angle_log.device)
    opposite = torch.remainder(-angle_log[at].exp(), 2 * math.pi)
    opposite[opposite == 0] = 2 * math.pi
    mirrored = angle_log.clone()
    mirrored[at] = opposite.log()
    return mirrored


def _arrays(element: Element) -> dict[str, np.ndarray]:
    parts = np.stack([element.factor.real, element.factor.imag], -1)
    return {"permutation": element.permutation, "factor": parts, "conjugated": element.conjugated}


def _element(tensors: Mapping[str, Tensor], number: int, group: Group) -> Element:
    permutation = tensors[f"{number}.permutation"].numpy()
    parts = tensors[f"{number}.factor"].numpy()
    conjugated = tensors[f"{number}.conjugated"].numpy()
    factor = parts[:, 0] + 1j * parts[:, 1] if group.complex else parts[:, 0]
    whole = permutation.dtype.kind == "i"
    if not whole or not np.array_equal(np.sort(permutation), np.arange(group.size)):
        raise ValueError(f"group {number} holds no permutation of {group.size} units")
    if factor.shape != (group.size,) or not (factor.all() and np.isfinite(factor).all()):
        raise ValueError(f"group {number} has no factors for {group.size} units")
    if conjugated.shape != (group.size,) or conjugated.dtype != bool:
        raise ValueError(f"group {number} does not say which of {group.size} units are conjugated")
    return Element(permutation, factor, conjugated)
