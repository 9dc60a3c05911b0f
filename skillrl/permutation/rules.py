"""What each ATen operation does to the dimensions of the tensors that it is given.

A rule says which axes an operation ties to one another, which freedoms of their units it bears, and
which axes its result has. An operation without a rule is understood only where all of its inputs
are fixed, as what is computed from a network's outputs.

To add one, write a function for the operation's ATen name and register it with ``_rule``. The rules
say more than the dependency graphs of pruning libraries do (torch-pruning's, for one): those take
whatever they do not know for an operation on single entries, and know nothing of signs, scales and
phases.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch.fx import Node
from torch.fx.node import map_arg

from skillrl.permutation.dimensions import Axis, Units
from skillrl.permutation.trace import Trace


@dataclass(frozen=True)
class Value:
    """What is known about a tensor.

    Attributes:
        axes: its axes.
        node: the node that computes it.
        constant: whether it depends on parameters alone.
    """

    axes: tuple[Axis, ...]
    node: str
    constant: bool = False

    @property
    def fixed(self) -> bool:
        """Whether nothing about it can move."""
        return all(axis.fixed for axis in self.axes)


@dataclass(frozen=True)
class Read:
    """Where units are read: a tensor that a parameter is multiplied by and summed over."""

    node: str
    axis: int
    units: Axis


Result = Value | list[Value] | None


class Analysis:
    """Follows the dimensions of all tensors through a trace.

    Attributes:
        units: what was found out about all units.
        parameters: the axes of every parameter and buffer that is used.
        buffers: names of those that are buffers.
        reads: where units are read, in order.
        angles: parameters that hold logarithms of the phases of complex units.
    """

    def __init__(self, trace: Trace) -> None:
        self.units = Units()
        self.parameters: dict[str, tuple[Axis, ...]] = {}
        self.buffers = trace.buffers
        self.reads: list[Read] = []
        self.angles: set[str] = set()
        self._trace = trace
        self._values: dict[Node, Result] = {}
        self._before_a_layer: set[Node] = set()
        for node in reversed(trace.nodes):
            if any(u in self._before_a_layer or name_of(u) in _LAYERS for u in node.users):
                self._before_a_layer.add(node)
        for node in trace.nodes:
            self._values[node] = self._follow(node)

    def _follow(self, node: Node) -> Result:
        if node.op == "placeholder":
            return self._placeholder(node)
        if node.op == "output":
            for value in _values(map_arg(node.args, self._value)):
                for axis in value.axes:
                    self.units.tie(axis, Axis.of_fixed(len(axis)))
            return None
        if node.target is operator.getitem:
            listed, index = cast(Any, map_arg(node.args, self._value))
            return listed[index] if isinstance(listed, list) else None
        args = map_arg(node.args, self._value)
        kwargs = map_arg(node.kwargs, self._value)
        rule = RULES.get(name_of(node), _unknown)
        if all(value.fixed for value in _values((args, kwargs))) and rule not in _MAKES_UNITS:
            # What is computed from nothing that moves does not move.
            rule = _unknown
        return rule(self, node, *args, **kwargs)

    def _value(self, node: Node) -> Any:
        return self._values[node]

    def _placeholder(self, node: Node) -> Value | None:
        if not isinstance(node.meta.get("val"), torch.Tensor):
            return None
        shape = shape_of(node)
        if node.name not in self._trace.parameters:
            return Value(tuple(map(Axis.of_fixed, shape)), node.name)
        axes = tuple(map(self.units.new, shape))
        if node.users:
            self.parameters[self._trace.parameters[node.name]] = axes
        return Value(axes, node.name, constant=True)

    def demand(self, axis: Axis, node: Node) -> None:
        """Note that an operation is not understood, unless the axis turns out to be fixed.

        Behind the last layer it is fixed: what an operation is applied to there are outputs.
        """
        if node in self._before_a_layer:
            self.units.demand(axis, name_of(node))
        else:
            self.units.tie(axis, Axis.of_fixed(len(axis)))

    def read(self, value: Value, axis: int) -> None:
        """Note that the units of an axis are read, if they can be told apart by what they do."""
        units = value.axes[axis]
        if not self.units.are_alike(units):
            self.reads.append(Read(value.node, axis, units))

    def angles_of(self, node: Node) -> None:
        """Note the parameters whose exponential is an angle from which ``node`` is computed."""
        for cosine in _ancestors(node):
            if name_of(cosine) == "cos":
                angle = cosine.args[0]
                source = angle.args[0] if isinstance(angle, Node) and angle.args else None
                if name_of(angle) == "exp" and isinstance(source, Node):
                    name = self._trace.parameters.get(source.name)
                    if name is not None:
                        self.angles.add(name)


Rule = Callable[..., Result]
RULES: dict[str, Rule] = {}


def name_of(node: Any) -> str:
    """Return the operation's name, without overload and without the underscore of "in place"."""
    if not isinstance(node, Node) or node.op != "call_function":
        return ""
    if not isinstance(node.target, torch._ops.OpOverload):
        return str(node.target)
    namespace, _, name = node.target._schema.name.partition("::")
    return name.rstrip("_") if namespace == "aten" else f"{namespace}::{name}"


def shape_of(node: Node) -> tuple[int, ...]:
    """Return the shape of the tensor that a node computes."""
    return tuple(node.meta["val"].shape)


def _values(arguments: Any) -> Iterator[Value]:
    """All values in a nest of arguments."""
    if isinstance(arguments, Value):
        yield arguments
    elif isinstance(arguments, (list, tuple)):
        for each in arguments:
            yield from _values(each)
    elif isinstance(arguments, dict):
        yield from _values(list(arguments.values()))


def _ancestors(node: Node) -> Iterator[Node]:
    seen, waiting = {node}, [node]
    while waiting:
        for each in waiting.pop().all_input_nodes:
            if each not in seen:
                seen.add(each)
                waiting.append(each)
                yield each


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _unknown(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Result:
    """Nothing that moves may come in; then nothing that comes out moves."""
    for value in _values((args, kwargs)):
        for axis in value.axes:
            if name_of(node) in _LAYERS:
                # What a layer is applied to are no outputs, even if it is the last one.
                analysis.units.demand(axis, name_of(node))
            else:
                analysis.demand(axis, node)

    def fixed(meta: Any) -> Any:
        if isinstance(meta, torch.Tensor):
            return Value(tuple(map(Axis.of_fixed, meta.shape)), node.name)
        return [fixed(each) for each in meta] if isinstance(meta, (list, tuple)) else None

    return fixed(node.meta.get("val"))


# ---------------------------------------------------------------------------------------------
# Operations on every entry by itself


def _broadcast(values: Sequence[Value], shape: tuple[int, ...]) -> Iterator[list[Axis | None]]:
    """For each axis of the result, those of the operands; None where one has a single entry."""
    for place, size in enumerate(shape):
        found: list[Axis | None] = []
        for value in values:
            own = place - len(shape) + len(value.axes)
            axis = value.axes[own] if own >= 0 else None
            found.append(axis if axis is not None and len(axis) == size else None)
        yield found


def _pin_single(
    analysis: Analysis, node: Node, values: Sequence[Value], shape: tuple[int, ...]
) -> None:
    """An axis of one unit that is spread along another axis is no longer to be recognised."""
    for value in values:
        for axis, size in zip(reversed(value.axes), reversed(shape), strict=False):
            if len(axis) == 1 != size:
                analysis.demand(axis, node)


@_rule(
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
    values = list(_values((args, kwargs)))
    shape = shape_of(node)
    _pin_single(analysis, node, values, shape)
    axes = []
    for found in _broadcast(values, shape):
        present = [axis for axis in found if axis is not None]
        for axis in present:
            analysis.units.forbid(axis, "sign", "scale", "phase")
        axes.append(_tied(analysis, [axis.unscaled() for axis in present]))
    return Value(tuple(axes), node.name, all(value.constant for value in values))


def _tied(analysis: Analysis, axes: Sequence[Axis]) -> Axis:
    first, *rest = axes
    for other in rest:
        first = analysis.units.tie(first, other)
    return first


def _unary(analysis: Analysis, node: Node, value: Value, *forbidden: Any) -> Value:
    for axis in value.axes:
        analysis.units.forbid(axis, *forbidden)
    return Value(value.axes, node.name, value.constant)


@_rule(*("neg", "clone", "contiguous", "detach", "alias", "to", "_to_copy", "dropout", "positive"))
@_rule(*("alpha_dropout", "feature_dropout", "lift_fresh_copy", "type_as", "native_dropout"))
def _linear_unary(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Value:
    return _unary(analysis, node, value)


@_rule(*("tanh", "sin", "sinh", "asinh", "atan", "tan", "asin", "atanh", "erf", "sign", "sgn"))
def _odd(analysis: Analysis, node: Node, value: Value) -> Value:
    return _unary(analysis, node, value, "scale", "phase")


@_rule("hardtanh", "clamp")
def _clamp(
    analysis: Analysis, node: Node, value: Value, low: Any = None, high: Any = None, **kwargs: Any
) -> Result:
    if any(isinstance(bound, Value) for bound in (low, high)):
        return _pointwise(analysis, node, value, low, high)
    if name_of(node) == "hardtanh":
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    symmetric = low is not None and high is not None and low == -high
    return _unary(analysis, node, value, *(() if symmetric else ("sign",)), "scale", "phase")


@_rule("relu", "leaky_relu", "rrelu", "abs")
def _homogeneous(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Value:
    return _unary(analysis, node, value, "sign", "phase")


@_rule("prelu", "_prelu_kernel")
def _prelu(analysis: Analysis, node: Node, value: Value, weight: Value) -> Result:
    slopes = weight.axes[0]
    if len(slopes) == 1:
        analysis.demand(slopes, node)
        # One slope for all: it has no units.
        analysis.units.tie(slopes, Axis.of_fixed(1))
    else:
        analysis.units.forbid(slopes, "sign", "scale")
        analysis.units.tie(slopes.unscaled(), value.axes[1].unscaled())
    return _homogeneous(analysis, node, value)


@_rule("add", "sub", "rsub")
def _add(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Value:
    values = list(_values(args))
    shape = shape_of(node)
    _pin_single(analysis, node, values, shape)
    # A number, too, is added to every entry alike.
    alike = len(values) < 2
    axes = []
    for size, found in zip(shape, _broadcast(values, shape), strict=True):
        present = [axis for axis in found if axis is not None]
        if alike or None in found:
            for axis in present:
                analysis.units.forbid(axis, "sign", "scale")
            if size > 1:
                _forbid_phases(analysis, values)
        axes.append(_tied(analysis, present))
    return Value(tuple(axes), node.name, all(value.constant for value in values))


def _forbid_phases(analysis: Analysis, values: Sequence[Value]) -> None:
    """What acts on one part of complex numbers as it does on the other keeps no phase."""
    for value in values:
        for axis in value.axes:
            analysis.units.forbid(axis, "phase")


@_rule("mul", "div")
def _multiply(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Value:
    values = list(_values(args))
    shape = shape_of(node)
    _pin_single(analysis, node, values, shape)
    axes = []
    for size, found in zip(shape, _broadcast(values, shape), strict=True):
        present = [axis for axis in found if axis is not None]
        if len(present) == 2:
            if size == 2 or any(axis.slots.any() for axis in present):
                _forbid_phases(analysis, values)
            present = _one_factor(analysis, present, values, divided=name_of(node) == "div")
        elif name_of(node) == "div" and found[0] is None:
            analysis.units.forbid(present[0], "sign", "scale", "phase")
        axes.append(present[0])
    return Value(tuple(axes), node.name, all(value.constant for value in values))


def _one_factor(
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


@_rule("glu")
def _glu(analysis: Analysis, node: Node, value: Value, dim: int = -1) -> Value:
    halves = []
    size = shape_of(node)[dim]
    for begin in (0, size):
        index = np.arange(begin, begin + size)
        axes = list(value.axes)
        axes[dim] = _taken(analysis, axes[dim], index)
        halves.append(axes)
    _forbid_phases(analysis, [value])
    out = []
    for linear, gate in zip(*halves, strict=True):
        analysis.units.forbid(gate, "sign", "scale")
        analysis.units.tie(linear.unscaled(), gate.unscaled())
        out.append(linear)
    return Value(tuple(out), node.name)


# ---------------------------------------------------------------------------------------------
# Operations that move entries


@_rule(*("view", "reshape", "flatten", "unflatten", "_unsafe_view", "permute", "transpose", "t"))
@_rule(*("movedim", "unsqueeze", "squeeze", "select", "slice", "narrow", "diagonal"))
@_rule(*("split", "split_with_sizes", "chunk", "unbind", "flip", "roll", "repeat", "swapaxes"))
@_rule(*("numpy_T", "mT", "ravel", "tile", "repeat_interleave"))
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
    values = [Value(tuple(found), node.name, value.constant) for found in axes]
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
        moved, merged = _taken(analysis, axis, line), out[place]
        if not merged.fixed:
            # Two dimensions in one: the units of the smaller tell the slots of the larger apart.
            analysis.units.pin(merged.units)
            moved = Axis(moved.units, merged.units, moved.scaled)
        out[place] = moved
    elif (index == index.flat[0]).all():
        # A single entry is left of the axis.
        analysis.units.pin(axis.units[index.flat[0]])
        _taken(analysis, axis, index.flat[:1])
        if len(axis) == 2:
            _forbid_phases(analysis, [value])
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


def _taken(analysis: Analysis, axis: Axis, index: np.ndarray) -> Axis:
    """Return the entries at ``index``; units that are left out are not as those that are not."""
    counts = np.bincount(index, minlength=len(axis))
    units, inverse = np.unique(axis.units, return_inverse=True)
    per_unit = np.bincount(inverse.reshape(-1), weights=counts).astype(np.int64)
    if (per_unit != per_unit[0]).any():
        analysis.units.distinguish(units, per_unit)
    return axis.at(index)


@_rule("cat", "concat", "concatenate")
def _concatenate(analysis: Analysis, node: Node, values: list[Value], dim: int = 0) -> Value:
    dim %= len(shape_of(node))
    axes = [
        Axis.concatenate(value.axes[place] for value in values)
        if place == dim
        else _tied(analysis, [value.axes[place] for value in values])
        for place in range(len(shape_of(node)))
    ]
    if len(values) > 1 and len(axes[dim]) == 2:
        _forbid_phases(analysis, values)
    return Value(tuple(axes), node.name, all(value.constant for value in values))


@_rule("stack")
def _stack(analysis: Analysis, node: Node, values: list[Value], dim: int = 0) -> Value:
    dim %= len(shape_of(node))
    axes = [_tied(analysis, [v.axes[i] for v in values]) for i in range(len(values[0].axes))]
    axes.insert(dim, Axis.of_fixed(len(values)))
    return Value(tuple(axes), node.name, all(value.constant for value in values))


# ---------------------------------------------------------------------------------------------
# Operations that sum


@_rule("linear")
def _linear(
    analysis: Analysis, node: Node, value: Value, weight: Value, bias: Value | None = None
) -> Value:
    lead = _letters(len(value.axes) - 1)
    out = _contract(analysis, node, [value, weight], [f"{lead}k", "nk"], f"{lead}n")
    return out if bias is None else _biased(analysis, out, bias, -1)


@_rule("addmm")
def _addmm(analysis: Analysis, node: Node, bias: Value, a: Value, b: Value, **kwargs: Any) -> Value:
    return _biased(analysis, _contract(analysis, node, [a, b], ["mk", "kn"], "mn"), bias, -1)


@_rule("matmul", "mm", "bmm", "mv", "dot")
def _matmul(analysis: Analysis, node: Node, a: Value, b: Value) -> Value:
    rows = "m" if len(a.axes) > 1 else ""
    columns = "n" if len(b.axes) > 1 else ""
    lead = [_letters(max(0, len(value.axes) - 2)) for value in (a, b)]
    # Leading axes are aligned at their ends.
    batch = max(lead, key=len)
    subscripts = [batch[len(batch) - len(lead[0]) :] + f"{rows}k"]
    subscripts += [batch[len(batch) - len(lead[1]) :] + f"k{columns}"]
    return _contract(analysis, node, [a, b], subscripts, batch + rows + columns)


@_rule("einsum")
def _einsum(
    analysis: Analysis, node: Node, equation: str, values: list[Value], **kwargs: Any
) -> Result:
    equation = equation.replace(" ", "")
    sources, arrow, out = equation.partition("->")
    subscripts = sources.split(",")
    if not arrow or "." in equation or any(len(set(s)) < len(s) for s in subscripts):
        return _unknown(analysis, node, values)
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
                axes = _one_factor(analysis, axes, [v for v, _, _ in found], divided=False)
            elif len(axes) > 2:
                axes = [_tied(analysis, [_still(analysis, axis) for axis in axes])]
            result[letter] = axes[0]
        elif len(axes) == 2:
            analysis.units.tie(*axes, inverse=True)
            for (value, place, _), (other, _, _) in (found, found[::-1]):
                if other.constant and not value.constant:
                    analysis.read(value, place)
        else:
            _tied(analysis, [_still(analysis, axis) for axis in axes])
    constant = all(value.constant for value in values)
    return Value(tuple(result[letter] for letter in out), node.name, constant)


def _still(analysis: Analysis, axis: Axis) -> Axis:
    """Return the axis without factors, which what follows does not bear."""
    analysis.units.forbid(axis, "sign", "scale", "phase")
    return axis.unscaled()


def _biased(analysis: Analysis, value: Value, bias: Value, place: int) -> Value:
    axes = list(value.axes)
    axes[place] = analysis.units.tie(axes[place], bias.axes[-1])
    return Value(tuple(axes), value.node, value.constant and bias.constant)


@_rule("conv1d", "conv2d", "conv3d", "convolution")
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
        return _unknown(analysis, node, value, weight, bias)
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
        return _unknown(analysis, node, value, weight, bias)
    for axis in (*weight.axes[2:], *value.axes[channels + 1 :]):
        analysis.units.tie(axis, Axis.of_fixed(len(axis)))
    shape = shape_of(node)
    axes = [*value.axes[:channels], made, *map(Axis.of_fixed, shape[channels + 1 :])]
    out = Value(tuple(axes), node.name)
    return out if bias is None else _biased(analysis, out, bias, channels)


@_rule("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d")
@_rule("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d")
@_rule("adaptive_avg_pool3d")
def _pool(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Result:
    if not isinstance(node.meta["val"], torch.Tensor):
        return _unknown(analysis, node, value)
    spatial = int(name_of(node)[-2])
    kept = len(value.axes) - spatial
    for axis in value.axes[kept:]:
        analysis.units.tie(axis, Axis.of_fixed(len(axis)))
    pooled = map(Axis.of_fixed, shape_of(node)[kept:])
    found = Value((*value.axes[:kept], *pooled), node.name)
    return _homogeneous(analysis, node, found) if "max" in name_of(node) else found


@_rule("sum", "mean", "amax", "amin", "var", "std", "logsumexp", "prod", "any", "all")
@_rule("linalg_vector_norm", "norm", "softmax", "log_softmax", "_softmax", "_log_softmax")
def _reduce(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Value:
    """What comes of all entries along some axes, in whatever order."""
    linear = name_of(node) in ("sum", "mean")
    place = 1 if "norm" in name_of(node) else 0
    dims = kwargs.get("dim", args[place] if len(args) > place else None)
    if dims is None or dims == [] or isinstance(dims, bool):
        dims = range(len(value.axes))
    dims = {dim % len(value.axes) for dim in ([dims] if isinstance(dims, int) else dims)}
    out = []
    same = len(shape_of(node)) == len(value.axes)
    for at, axis in enumerate(value.axes):
        if at in dims and not axis.fixed:
            analysis.read(value, at)
        if at in dims or not linear:
            axis = _still(analysis, axis)
        if at not in dims or "softmax" in name_of(node):
            out.append(axis)
        elif same:
            out.append(Axis.of_fixed(1))
    if any(len(value.axes[dim]) == 2 for dim in dims):
        _forbid_phases(analysis, [value])
    return Value(tuple(out), node.name, value.constant)


@_rule("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
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


@_rule("layer_norm")
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
    axes = [*value.axes[:kept], *(_still(analysis, axis) for axis in value.axes[kept:])]
    for parameter in (weight, bias):
        if parameter is not None:
            for at, axis in enumerate(parameter.axes):
                analysis.units.tie(axes[kept + at], _still(analysis, axis))
    return Value(tuple(axes), node.name)


# ---------------------------------------------------------------------------------------------
# Where units come from besides parameters


@_rule("zeros", "new_zeros", "zeros_like")
def _zeros(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Value:
    """Zeros can be moved, flipped, scaled and turned like anything."""
    return Value(tuple(map(analysis.units.new, shape_of(node))), node.name, constant=True)


@_rule("ones", "new_ones", "ones_like", "full", "new_full", "full_like", "scalar_tensor")
def _filled(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Value:
    axes = (analysis.units.new(size, alike=True) for size in shape_of(node))
    return Value(tuple(axes), node.name, constant=True)


@_rule("expand", "expand_as", "broadcast_to")
def _spread(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Value:
    """Where one entry becomes several, or whole tensors do, these can be exchanged."""
    axes = [analysis.units.new(size, alike=True) for size in shape_of(node)]
    for place, axis in enumerate(value.axes, start=len(axes) - len(value.axes)):
        if len(axis) == len(axes[place]):
            axes[place] = axis
        else:
            analysis.units.pin(axis.units)
    return Value(tuple(axes), node.name, value.constant)


@_rule("skillrl::diagonal_recurrence")
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
    analysis.units.tie(units.unscaled(), _still(analysis, decay.axes[0]))
    units = analysis.units.tie(units, initial.axes[-2])
    for value in (inputs, initial):
        analysis.units.forbid(value.axes[-1], "sign", "scale")
        analysis.units.tie(value.axes[-1].unscaled(), Axis.of_parts())
    for axis in (*inputs.axes[:-2], *(keep.axes if keep is not None else ())):
        analysis.units.tie(axis, Axis.of_fixed(len(axis)))
    analysis.units.are_complex(units)
    analysis.angles_of(node.all_input_nodes[0])
    return Value((*inputs.axes[:-2], units, Axis.of_parts()), node.name)


_MAKES_UNITS = (_zeros, _filled, _spread)
# What sums over units: by these rules, or by none.
_LAYERS = frozenset(
    name
    for name, rule in RULES.items()
    if rule in (_linear, _addmm, _matmul, _einsum, _convolution, _diagonal_recurrence)
) | {
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "bilinear", "cdist"),
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell"),
    *("rnn_relu_cell", "scaled_dot_product_attention"),
}
