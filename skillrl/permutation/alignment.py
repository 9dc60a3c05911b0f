"""Two networks of one architecture in the same coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from skillrl.errors import DamagedFileError, InvalidValueError, NotEquivalentError
from skillrl.files import read_tensors, write_tensors
from skillrl.permutation.interpolation import interpolate
from skillrl.permutation.matching import Evidence, match, of_activations
from skillrl.permutation.recipes import Method
from skillrl.permutation.symmetries import Symmetries, Symmetry, symmetry_groups
from skillrl.permutation.trace import Forward, call, check_alike, copy_of, evaluate, state_of
from skillrl.permutation.transformation import Transformation
from skillrl.randomness import drawn_aside

# Fewer say little about which units are alike.
_OBSERVATIONS = 10
# Largest error of a transformed network, relative to the largest output, in float64.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Alignment:
    """What brings network ``b`` into the coordinates of network ``a``.

    Attributes:
        a: one network.
        b: another one of the same architecture, as it was.
        transformation: what is done to ``b``.
        similarity: for each group, the mean cosine between the activations of matched units.
        idle: for each group, the units of ``a`` and those of ``b`` that never fire, or never
            change, on the observations; they were matched last, by their weights.
        forward: what the networks compute.
    """

    a: nn.Module
    b: nn.Module
    transformation: Transformation
    similarity: tuple[float, ...]
    idle: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    forward: Forward = call

    def apply(self, module: nn.Module) -> nn.Module:
        """Return a copy of ``b``, or of ``b`` at another time of its training, transformed."""
        return self.transformation.apply(module)

    def interpolate(self, alpha: float) -> nn.Module:
        """Return the network at ``alpha`` between ``a``, at 0, and the transformed ``b``, at 1.

        All parameters and buffers are interpolated, those of observation normalisers among them.
        """
        return interpolate(self.a, self.apply(self.b), alpha)

    def verify(self, observations: Any) -> float:
        """Show that the transformed ``b`` computes what ``b`` does.

        Args:
            observations: inputs of the network.

        Returns:
            The largest error in float64, relative to the largest magnitude of each output.

        Raises:
            NotEquivalentError: if it is more than 1e-9.
        """
        return verify(self.b, self.transformation, observations, self.forward)

    def save(self, path: str | PathLike[str]) -> None:
        """Write what is done to ``b`` to a safetensors file; the networks are not in it."""
        tensors, groups = self.transformation.packed()
        write_tensors(
            Path(path),
            tensors,
            {
                "format": "alignment",
                "groups": groups,
                "similarity": list(self.similarity),
                "idle": self.idle,
            },
        )

    @staticmethod
    def load(
        path: str | PathLike[str], a: nn.Module, b: nn.Module, forward: Forward = call
    ) -> Alignment:
        """Return the alignment of two networks that was saved in ``path``.

        Raises:
            DamagedFileError: if the file is missing, damaged, or no alignment.
        """
        tensors, description = read_tensors(Path(path))
        if description.get("format") != "alignment":
            raise DamagedFileError(f"{path} holds no alignment but {description.get('format')!r}.")
        try:
            transformation = Transformation.unpacked(tensors, description["groups"])
            similarity = tuple(float(each) for each in description["similarity"])
            idle = tuple((tuple(of_a), tuple(of_b)) for of_a, of_b in description["idle"])
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path} is damaged: {error}.") from None
        return Alignment(a, b, transformation, similarity, idle, forward)


def align(
    a: nn.Module,
    b: nn.Module,
    inputs: Any,
    *,
    method: Method = "activations",
    signs: bool = True,
    scales: bool = False,
    phases: bool = True,
    forward: Forward = call,
    verified: bool = True,
) -> Alignment:
    """Bring network ``b`` into the coordinates of network ``a``.

    Args:
        a: a network.
        b: another one of the same architecture.
        inputs: one batch of observations, on which units are compared; a tuple is given as several
            arguments.
        method: what tells which units are alike, see ``Method``.
        signs: whether units may be flipped where that changes nothing, as behind tanh.
        scales: whether units may be scaled, as behind relu, to the size that they have in ``a``.
            What is scaled is the same function, but the networks between it and ``a`` are others,
            and not always better ones. Units that are ever on in one of the two alone are left as
            large as they are.
        phases: whether complex states may be turned and conjugated.
        forward: what the networks compute, ``forward(module, inputs)``, where that is not their own
            call, such as ``lambda policy, inputs: policy(inputs, deterministic=True)``.
        verified: whether to prove that the transformed ``b`` is the same function.

    Raises:
        InvalidValueError: if the networks are of different architectures, weights are not finite,
            or observations are too few or constant.
        UnsupportedOperationError: naming an operation whose symmetries are unknown.
        NotEquivalentError: if the transformed network computes something else.

    >>> network = lambda: nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))
    >>> a, b = network(), network()
    >>> alignment = align(a, b, torch.randn(100, 3))
    >>> middle = alignment.interpolate(0.5)
    >>> alignment.verify(torch.randn(10, 3)) < 1e-9
    True
    """
    symmetries, (of_a, of_b) = observe([a, b], inputs, method, signs, scales, phases, forward)
    transformation = match(symmetries.groups, of_a, of_b, method)
    if verified:
        verify(b, transformation, inputs, forward)
    return Alignment(a, b, transformation, *_compared(of_a, of_b, transformation), forward)


def _compared(
    a: Evidence, b: Evidence, transformation: Transformation
) -> tuple[tuple[float, ...], tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]]:
    """Return how similar matched units are, and which are idle, group by group."""
    moved = b.transformed(transformation)
    similarity = []
    for number, idle in enumerate(a.idle):
        cosines = of_activations(a.directions[number], moved.directions[number]).turning.real
        active = cosines.diagonal().cpu().numpy()[~(idle | moved.idle[number])]
        similarity.append(float(active.mean()) if active.size else 0.0)
    idle_units = tuple(
        (tuple(np.flatnonzero(of_a).tolist()), tuple(np.flatnonzero(of_b).tolist()))
        for of_a, of_b in zip(a.idle, b.idle, strict=True)
    )
    return tuple(similarity), idle_units


def observe(
    networks: Sequence[nn.Module],
    inputs: Any,
    method: Method,
    signs: bool,
    scales: bool,
    phases: bool,
    forward: Forward,
) -> tuple[Symmetries, list[Evidence]]:
    """Return the symmetries of several networks, and what is known about each; see ``align``."""
    if method not in get_args(Method):
        raise InvalidValueError(
            f"method should be one of {', '.join(get_args(Method))}. Received {method!r}."
        )
    check_alike(networks)
    _check_finite(networks)
    unwanted: list[Symmetry] = []
    unwanted += [] if signs else ["sign"]
    unwanted += [] if scales else ["scale"]
    unwanted += [] if phases else ["phase", "conjugation"]
    symmetries = symmetry_groups(networks[0], inputs, forward).without(*unwanted)
    if not symmetries.groups:
        raise InvalidValueError(
            f"{type(networks[0]).__name__} has no hidden units that could be aligned."
        )
    evidences = []
    for number, network in enumerate(networks):
        state = state_of(network)
        activations = symmetries.activations(state, inputs)
        _check_activations(number, activations)
        evidences.append(Evidence.of(state, activations))
        if all(idle.all() for idle in evidences[-1].idle):
            raise InvalidValueError(
                f"No unit of network {number} changes from observation to observation. Give "
                "observations that differ, such as those of some episodes."
            )
    return symmetries, evidences


def _check_finite(networks: Sequence[nn.Module]) -> None:
    for number, network in enumerate(networks):
        for name, tensor in state_of(network).items():
            if not bool(torch.isfinite(tensor).all()):
                raise InvalidValueError(
                    f"{name} of network {number} holds values that are not finite: its training "
                    "diverged, or its file is damaged."
                )


def _check_activations(number: int, activations: Sequence[torch.Tensor]) -> None:
    fewest = min(units.shape[1] for units in activations)
    if fewest < _OBSERVATIONS:
        raise InvalidValueError(
            f"{fewest} observation(s) are too few to compare units by. Give at least "
            f"{_OBSERVATIONS}, better as many as there are units."
        )
    if not all(bool(torch.isfinite(units).all()) for units in activations):
        raise InvalidValueError(
            f"Network {number} has activations that are not finite on these observations."
        )


@torch.no_grad()
def verify(
    module: nn.Module, transformation: Transformation, observations: Any, forward: Forward = call
) -> float:
    """Show that a transformed network computes what the network does; see ``Alignment.verify``."""
    exact = copy_of(module).double().eval()
    inputs = pytree.tree_map(
        lambda leaf: (
            leaf.double() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf
        ),
        observations,
    )
    outputs = []
    for each in (exact, transformation.apply(exact)):
        # Whatever is drawn is drawn alike.
        with drawn_aside(0):
            outputs.append(pytree.tree_leaves(evaluate(each, inputs, forward)))
    error = 0.0
    for before, after in zip(*outputs, strict=True):
        if isinstance(before, torch.Tensor) and before.numel() > 0:
            difference = (after.double() - before.double()).abs().max()
            size = before.double().abs().max().clamp_min(torch.finfo(torch.float64).tiny)
            error = max(error, float(torch.nan_to_num(difference / size, nan=torch.inf)))
    if error > _TOLERANCE:
        raise NotEquivalentError(
            "The transformed network computes something else: its outputs differ by "
            f"{error:.1e} of the largest one, and {_TOLERANCE:.0e} would be rounding. Either the "
            "computation has a branch that these observations do not take, or its symmetries "
            "were found wrongly."
        )
    return error
