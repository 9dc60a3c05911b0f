"""Rules of operations that move entries, or repeat them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from skillrl.permutation.analysis import (
    Analysis,
    Result,
    Value,
    rule,
    shape_of,
)
from skillrl.permutation.dimensions import Axis


@rule(*("view", "reshape", "flatten", "unflatten", "_unsafe_view", "permute", "transpose", "t"))
@rule(*("movedim", "unsqueeze", "squeeze", "select", "slice", "narrow", "diagonal"))
@rule(*("split", "split_with_sizes", "chunk", "unbind", "flip", "roll", "repeat", "swapaxes"))
@rule(*("numpy_T", "mT", "ravel", "tile", "repeat_interleave"))
def _move(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Result:
    """Whatever moves entries: it is done to the positions themselves, axis by axis."""
    several = isinstance(node.meta["val"], (list, tuple))
    metas = list(node.meta["val"]) if several else [node.meta["val"]]
    axes = [[Axis.of_fixed(size) for size in meta.shape] for meta in metas]
    shape = tuple(len(axis) for axis in value.axes)
    # The longest axis last, so that of two that are merged it is the one whose units are kept.
    for place in sorted(range(len(shape)), key=lambda place: shape[place]):
        axis = value.axes[place]
        if axis.fixed:
            continue
        positions = torch.arange(len(axis), dtype=torch.int32)
        positions = positions.view([-1 if at == place else 1 for at in range(len(shape))])
        assert callable(node.target)
        # As the tensor itself, it has no axis without a stride: those cannot be merged by a view.
        moved = node.target(positions.expand(shape).contiguous(), *args, **kwargs)
        for each, found in zip(moved if several else [moved], axes, strict=True):
            _place(analysis, node, value, axis, each, found)
    # What has lost entries was not pooled from all that the pool saw.
    pooled = None if several or metas[0].numel() < math.prod(shape) else value.pooled
    values = [Value(tuple(found), node.name, value.constant, pooled) for found in axes]
    return values if several else values[0]


def _place(
    analysis: Analysis,
    node: Node,
    value: Value,
    axis: Axis,
    positions: torch.Tensor,
    out: list[Axis],
) -> None:
    """Write an axis where its positions have gone to."""
    if positions.numel() == 0:
        return
    index = positions.numpy().astype(np.int64)
    place = _along(index)
    if place is not None:
        line = _line(index, place)
        if analysis.units.are_alike(axis) and len(line) > len(axis):
            # Where copies are merged with something else, it is this that keeps its units.
            analysis.units.pin(axis.units)
            return
        moved, merged = taken(analysis, axis, line), out[place]
        if not merged.fixed:
            # Two dimensions in one: the units of the smaller tell the slots of the larger apart.
            analysis.units.pin(merged.units)
            moved = Axis(moved.units, merged.units, moved.scaled)
        out[place] = moved
    elif (index == index.flat[0]).all():
        # A single entry is left of the axis.
        analysis.units.pin(axis.units[index.flat[0]])
        taken(analysis, axis, index.flat[:1])
        if len(axis) == 2:
            analysis.forbid_phases([value])
    elif (place := _along(axis.units[index])) is not None:
        # Two dimensions in one are taken apart again.
        line = _line(index, place)
        out[place] = Axis(axis.units[line], np.zeros(len(line), np.int64), axis.scaled[line])
        if (other := _along(axis.slots[index])) is not None:
            line = _line(index, other)
            out[other] = Axis(axis.slots[line], np.zeros(len(line), np.int64), axis.scaled[line])
            out[other] = out[other].unscaled()
    else:
        analysis.demand(axis, node)


def _along(values: np.ndarray) -> int | None:
    """The one axis along which an array varies; None if there is none, or several."""
    for place in range(values.ndim):
        along = [-1 if at == place else 1 for at in range(values.ndim)]
        line = _line(values, place)
        if (line != line[0]).any():
            return place if bool((values == line.reshape(along)).all()) else None
    return None


def _line(values: np.ndarray, place: int) -> np.ndarray:
    """What stands along one axis, where all other indices are zero."""
    return values[tuple(slice(None) if at == place else 0 for at in range(values.ndim))]


def taken(analysis: Analysis, axis: Axis, index: np.ndarray) -> Axis:
    """Return the entries at ``index``; units that are left out are not as those that are not."""
    counts = np.bincount(index, minlength=len(axis))
    units, inverse = np.unique(axis.units, return_inverse=True)
    per_unit = np.bincount(inverse.reshape(-1), weights=counts).astype(np.int64)
    if (per_unit != per_unit[0]).any():
        analysis.units.distinguish(units, per_unit)
    return axis.at(index)


@rule("cat", "concat", "concatenate")
def _concatenate(analysis: Analysis, node: Node, values: list[Value], dim: int = 0) -> Value:
    dim %= len(shape_of(node))
    axes = [
        Axis.concatenate(value.axes[place] for value in values)
        if place == dim
        else analysis.tied([value.axes[place] for value in values])
        for place in range(len(shape_of(node)))
    ]
    if len(values) > 1 and len(axes[dim]) == 2:
        analysis.forbid_phases(values)
    return Value(tuple(axes), node.name, all(value.constant for value in values))


@rule("stack")
def _stack(analysis: Analysis, node: Node, values: list[Value], dim: int = 0) -> Value:
    dim %= len(shape_of(node))
    axes = [analysis.tied([v.axes[i] for v in values]) for i in range(len(values[0].axes))]
    axes.insert(dim, Axis.of_fixed(len(values)))
    return Value(tuple(axes), node.name, all(value.constant for value in values))


@rule("expand", "expand_as", "broadcast_to", source=True)
def _spread(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Value:
    """Where one entry becomes several, or whole tensors do, these can be exchanged."""
    axes = [analysis.units.new(size, alike=True) for size in shape_of(node)]
    for place, axis in enumerate(value.axes, start=len(axes) - len(value.axes)):
        if len(axis) == len(axes[place]):
            axes[place] = axis
        else:
            analysis.units.pin(axis.units)
    return Value(tuple(axes), node.name, value.constant)
