"""Rules of layers: sums of products, convolutions, normalisation and recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.fx import Node

from skillrl.permutation.analysis import (
    Analysis,
    Result,
    Value,
    name_of,
    rule,
    shape_of,
    unknown,
)
from skillrl.permutation.dimensions import Axis
from skillrl.permutation.rules.entries import one_factor


@rule("linear", layer=True)
def _linear(
    analysis: Analysis, node: Node, value: Value, weight: Value, bias: Value | None = None
) -> Value:
    lead = _letters(len(value.axes) - 1)
    out = _contract(analysis, node, [value, weight], [f"{lead}k", "nk"], f"{lead}n")
    return out if bias is None else _biased(analysis, out, bias, -1)


@rule("addmm", layer=True)
def _addmm(analysis: Analysis, node: Node, bias: Value, a: Value, b: Value, **kwargs: Any) -> Value:
    return _biased(analysis, _contract(analysis, node, [a, b], ["mk", "kn"], "mn"), bias, -1)


@rule("matmul", "mm", "bmm", "mv", "dot", layer=True)
def _matmul(analysis: Analysis, node: Node, a: Value, b: Value) -> Value:
    rows = "m" if len(a.axes) > 1 else ""
    columns = "n" if len(b.axes) > 1 else ""
    lead = [_letters(max(0, len(value.axes) - 2)) for value in (a, b)]
    # Leading axes are aligned at their ends.
    batch = max(lead, key=len)
    subscripts = [batch[len(batch) - len(lead[0]) :] + f"{rows}k"]
    subscripts += [batch[len(batch) - len(lead[1]) :] + f"k{columns}"]
    return _contract(analysis, node, [a, b], subscripts, batch + rows + columns)


@rule("einsum", layer=True)
def _einsum(
    analysis: Analysis, node: Node, equation: str, values: list[Value], **kwargs: Any
) -> Result:
    equation = equation.replace(" ", "")
    sources, arrow, out = equation.partition("->")
    subscripts = sources.split(",")
    if not arrow or "." in equation or any(len(set(s)) < len(s) for s in subscripts):
        return unknown(analysis, node, values)
    return _contract(analysis, node, values, subscripts, out)


def _letters(count: int) -> str:
    return "ABCDEFGHIJ"[:count]


def _contract(
    analysis: Analysis, node: Node, values: Sequence[Value], subscripts: Sequence[str], out: str
) -> Value:
    """A sum of products: axes with the same letter are one, and summed where ``out`` lacks it."""
    result: dict[str, Axis] = {}
    for letter in dict.fromkeys("".join(subscripts)):
        found = [
            (value, place, value.axes[place])
            for value, names in zip(values, subscripts, strict=True)
            if (place := names.find(letter)) >= 0
        ]
        longest = max(len(axis) for _, _, axis in found)
        for _, _, axis in found:
            if len(axis) < longest:
                analysis.demand(axis, node)
        found = [each for each in found if len(each[2]) == longest]
        axes = [axis for _, _, axis in found]
        if letter in out:
            if len(axes) == 2:
                axes = one_factor(analysis, axes, [v for v, _, _ in found], divided=False)
            elif len(axes) > 2:
                axes = [analysis.tied([analysis.still(axis) for axis in axes])]
            result[letter] = axes[0]
        elif len(axes) == 2:
            analysis.units.tie(*axes, inverse=True)
            for (value, place, _), (other, _, _) in (found, found[::-1]):
                if other.constant and not value.constant:
                    analysis.read(value, place)
        else:
            analysis.tied([analysis.still(axis) for axis in axes])
    constant = all(value.constant for value in values)
    return Value(tuple(result[letter] for letter in out), node.name, constant)


def _biased(analysis: Analysis, value: Value, bias: Value, place: int) -> Value:
    axes = list(value.axes)
    axes[place] = analysis.units.tie(axes[place], bias.axes[-1])
    return Value(tuple(axes), value.node, value.constant and bias.constant)


@rule("conv1d", "conv2d", "conv3d", "convolution", layer=True)
def _convolution(
    analysis: Analysis,
    node: Node,
    value: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    *rest: Any,
) -> Result:
    transposed, groups = False, rest[0] if rest else 1
    if name_of(node) == "convolution":
        transposed, _, groups = rest
    if transposed or groups not in (1, len(value.axes[-len(weight.axes) + 1])):
        return unknown(analysis, node, value, weight, bias)
    channels = len(value.axes) - len(weight.axes) + 1
    seen = value.axes[channels]
    if groups == 1:
        analysis.units.tie(seen, weight.axes[1], inverse=True)
        analysis.read(value, channels)
        made = weight.axes[0]
    elif len(weight.axes[0]) == groups:
        # A filter a channel: the units are those that came in, and the filters move with them.
        analysis.units.forbid(weight.axes[0], "sign", "scale")
        analysis.units.tie(seen.unscaled(), weight.axes[0].unscaled())
        analysis.units.tie(weight.axes[1], Axis.of_fixed(1))
        made = seen
    else:
        return unknown(analysis, node, value, weight, bias)
    for axis in (*weight.axes[2:], *value.axes[channels + 1 :]):
        analysis.units.tie(axis, Axis.of_fixed(len(axis)))
    shape = shape_of(node)
    axes = [*value.axes[:channels], made, *map(Axis.of_fixed, shape[channels + 1 :])]
    out = Value(tuple(axes), node.name)
    return out if bias is None else _biased(analysis, out, bias, channels)


@rule("skillrl::diagonal_recurrence", layer=True)
def _diagonal_recurrence(
    analysis: Analysis,
    node: Node,
    decay: Value,
    inputs: Value,
    initial: Value,
    keep: Value | None = None,
) -> Value:
    """Complex states that do not act on one another: each has a phase of its own.

    Conjugating a state conjugates what turns it: where that is a parameter's exponential, it can.
    """
    units = inputs.axes[-2]
    analysis.units.tie(units.unscaled(), analysis.still(decay.axes[0]))
    units = analysis.units.tie(units, initial.axes[-2])
    for value in (inputs, initial):
        analysis.units.forbid(value.axes[-1], "sign", "scale")
        analysis.units.tie(value.axes[-1].unscaled(), Axis.of_parts())
    for axis in (*inputs.axes[:-2], *(keep.axes if keep is not None else ())):
        analysis.units.tie(axis, Axis.of_fixed(len(axis)))
    analysis.units.are_complex(units)
    analysis.angles_of(node.all_input_nodes[0])
    return Value((*inputs.axes[:-2], units, Axis.of_parts()), node.name)


@rule("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def _batch_norm(
    analysis: Analysis,
    node: Node,
    value: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    *rest: Any,
) -> Value:
    """A flipped unit has a flipped mean and bias; scaled by less than ε's share it cannot be."""
    channels = value.axes[1]
    analysis.units.forbid(channels, "scale", "phase")
    for each in (mean, bias):
        if each is not None:
            analysis.units.tie(channels, each.axes[0])
    for each in (weight, var):
        if each is not None:
            analysis.units.forbid(each.axes[0], "sign", "scale")
            analysis.units.tie(channels.unscaled(), each.axes[0].unscaled())
    return Value(value.axes, node.name)


@rule("layer_norm")
def _layer_norm(
    analysis: Analysis,
    node: Node,
    value: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    *rest: Any,
) -> Value:
    kept = len(value.axes) - len(shape)
    axes = [*value.axes[:kept], *(analysis.still(axis) for axis in value.axes[kept:])]
    for parameter in (weight, bias):
        if parameter is not None:
            for at, axis in enumerate(parameter.axes):
                analysis.units.tie(axes[kept + at], analysis.still(axis))
    return Value(tuple(axes), node.name)
