"""Rules of operations on every entry by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch.fx import Node

from skillrl.permutation.analysis import (
    Analysis,
    Result,
    Value,
    name_of,
    rule,
    shape_of,
    values_in,
)
from skillrl.permutation.dimensions import Axis
from skillrl.permutation.rules.moves import taken


def _broadcast(values: Sequence[Value], shape: tuple[int, ...]) -> Iterator[list[Axis | None]]:
    """For each axis of the result, those of the operands; None where one has a single entry."""
    for place, size in enumerate(shape):
        found: list[Axis | None] = []
        for value in values:
            own = place - len(shape) + len(value.axes)
            axis = value.axes[own] if own >= 0 else None
            found.append(axis if axis is not None and len(axis) == size else None)
        yield found


def _pin_single(analysis: Analysis, values: Sequence[Value], shape: tuple[int, ...]) -> None:
    """An axis of one unit that is spread along another axis is no longer to be recognised."""
    for value in values:
        for axis, size in zip(reversed(value.axes), reversed(shape), strict=False):
            if len(axis) == 1 != size:
                analysis.units.pin(axis.units)


@rule(
    *("sigmoid", "silu", "gelu", "elu", "selu", "celu", "mish", "softplus", "hardswish"),
    *("hardsigmoid", "log_sigmoid", "exp", "expm1", "exp2", "log", "log1p", "log2", "sqrt"),
    *("rsqrt", "reciprocal", "pow", "square", "cos", "cosh", "maximum", "minimum", "where"),
    *("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isfinite", "logical_not", "logical_and"),
    *("logical_or", "bitwise_not", "bitwise_and", "bitwise_or", "threshold", "softshrink"),
    *("hardshrink", "relu6", "round", "floor", "ceil", "clamp_min", "clamp_max", "addcmul"),
    *("addcdiv", "lerp", "atan2", "masked_fill", "hypot"),
)
def _pointwise(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Value:
    """Any function of single entries: units can be exchanged, and nothing more."""
    values = list(values_in((args, kwargs)))
    shape = shape_of(node)
    _pin_single(analysis, values, shape)
    axes = []
    for found in _broadcast(values, shape):
        present = [axis for axis in found if axis is not None]
        for axis in present:
            analysis.units.forbid(axis, "sign", "scale", "phase")
        axes.append(analysis.tied([axis.unscaled() for axis in present]))
    return Value(tuple(axes), node.name, all(value.constant for value in values))


def _unary(analysis: Analysis, node: Node, value: Value, *forbidden: Any) -> Value:
    for axis in value.axes:
        analysis.units.forbid(axis, *forbidden)
    return Value(value.axes, node.name, value.constant)


@rule(*("neg", "clone", "contiguous", "detach", "alias", "to", "_to_copy", "dropout", "positive"))
@rule(*("alpha_dropout", "feature_dropout", "lift_fresh_copy", "type_as", "native_dropout"))
def _linear_unary(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Value:
    return replace(_unary(analysis, node, value), pooled=value.pooled)


@rule(*("tanh", "sin", "sinh", "asinh", "atan", "tan", "asin", "atanh", "erf", "sign", "sgn"))
def _odd(analysis: Analysis, node: Node, value: Value) -> Value:
    return _unary(analysis, node, value, "scale", "phase")


@rule("hardtanh", "clamp")
def _clamp(
    analysis: Analysis, node: Node, value: Value, low: Any = None, high: Any = None, **kwargs: Any
) -> Result:
    if any(isinstance(bound, Value) for bound in (low, high)):
        return _pointwise(analysis, node, value, low, high)
    if name_of(node) == "hardtanh":
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    symmetric = low is not None and high is not None and low == -high
    return _unary(analysis, node, value, *(() if symmetric else ("sign",)), "scale", "phase")


@rule("relu", "leaky_relu", "rrelu", "abs")
def homogeneous(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Value:
    """What positive factors pass through."""
    return _unary(analysis, node, value, "sign", "phase")


@rule("prelu", "_prelu_kernel")
def _prelu(analysis: Analysis, node: Node, value: Value, weight: Value) -> Result:
    slopes = weight.axes[0]
    if len(slopes) == 1:
        analysis.demand(slopes, node)
        # One slope for all: it has no units.
        analysis.units.tie(slopes, Axis.of_fixed(1))
    else:
        analysis.units.forbid(slopes, "sign", "scale")
        analysis.units.tie(slopes.unscaled(), value.axes[1].unscaled())
    return homogeneous(analysis, node, value)


@rule("add", "sub", "rsub")
def _add(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Value:
    values = list(values_in(args))
    shape = shape_of(node)
    _pin_single(analysis, values, shape)
    # A number, too, is added to every entry alike.
    alike = len(values) < 2
    axes = []
    for size, found in zip(shape, _broadcast(values, shape), strict=True):
        present = [axis for axis in found if axis is not None]
        if alike or None in found:
            for axis in present:
                analysis.units.forbid(axis, "sign", "scale")
            if size > 1:
                analysis.forbid_phases(values)
        axes.append(analysis.tied(present))
    return Value(tuple(axes), node.name, all(value.constant for value in values))


@rule("mul", "div")
def _multiply(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Value:
    values = list(values_in(args))
    shape = shape_of(node)
    _pin_single(analysis, values, shape)
    axes = []
    for size, found in zip(shape, _broadcast(values, shape), strict=True):
        present = [axis for axis in found if axis is not None]
        if len(present) == 2:
            if size == 2 or any(axis.slots.any() for axis in present):
                analysis.forbid_phases(values)
            present = one_factor(analysis, present, values, divided=name_of(node) == "div")
        elif name_of(node) == "div" and found[0] is None:
            analysis.units.forbid(present[0], "sign", "scale", "phase")
        axes.append(present[0])
    return Value(tuple(axes), node.name, all(value.constant for value in values))


def one_factor(
    analysis: Analysis, axes: list[Axis], values: Sequence[Value], *, divided: bool
) -> list[Axis]:
    """Of two axes that are multiplied, one keeps its factors: that of an activation."""
    a, b = axes
    constants = [value.constant for value in values]
    # A parameter gives way to what it is multiplied by; of two, the one with fewer axes does.
    fewest = min(len(value.axes) for value in values)
    left = []
    for axis, value in zip(axes, values, strict=True):
        gives_way = not any(constants) or (
            value.constant and (not all(constants) or len(value.axes) == fewest)
        )
        lost = a.scaled & b.scaled & gives_way
        analysis.units.forbid(Axis(axis.units, axis.slots, lost), "sign", "scale")
        left.append(axis.scaled & ~lost)
    if divided:
        analysis.units.forbid(b, "sign", "scale")
        left[1] = np.zeros_like(left[1])
    tied = analysis.units.tie(a.unscaled(), b.unscaled())
    units = np.where(left[1], b.units, np.where(left[0], a.units, tied.units))
    return [Axis(units, tied.slots, left[0] | left[1])]


@rule("glu")
def _glu(analysis: Analysis, node: Node, value: Value, dim: int = -1) -> Value:
    halves = []
    size = shape_of(node)[dim]
    for begin in (0, size):
        index = np.arange(begin, begin + size)
        axes = list(value.axes)
        axes[dim] = taken(analysis, axes[dim], index)
        halves.append(axes)
    analysis.forbid_phases([value])
    out = []
    for linear, gate in zip(*halves, strict=True):
        analysis.units.forbid(gate, "sign", "scale")
        analysis.units.tie(linear.unscaled(), gate.unscaled())
        out.append(linear)
    return Value(tuple(out), node.name)
