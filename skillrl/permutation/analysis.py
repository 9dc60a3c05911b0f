"""The dimensions of all tensors of a network, followed from its parameters to its outputs.

What each operation does to them is told by the rules of ``skillrl.permutation.rules``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

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
        pooled: what was pooled to it, if its entries have only been moved since.
    """

    axes: tuple[Axis, ...]
    node: str
    constant: bool = False
    pooled: Value | None = None

    @property
    def fixed(self) -> bool:
        """Whether nothing about it can move."""
        return all(axis.fixed for axis in self.axes)


@dataclass(frozen=True)
class Read:
    """Where units are read: a tensor that a parameter is multiplied by and summed over.

    Of one that was pooled, it is the tensor before.
    """

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
            if any(u in self._before_a_layer or name_of(u) in LAYERS for u in node.users):
                self._before_a_layer.add(node)
        for node in trace.nodes:
            self._values[node] = self._follow(node)

    def _follow(self, node: Node) -> Result:
        if node.op == "placeholder":
            return self._placeholder(node)
        if node.op == "output":
            for value in values_in(map_arg(node.args, self._value)):
                for axis in value.axes:
                    self.units.tie(axis, Axis.of_fixed(len(axis)))
            return None
        if node.target is operator.getitem:
            listed, index = cast(Any, map_arg(node.args, self._value))
            part = listed[index] if isinstance(listed, list) else None
            return replace(part, node=node.name) if isinstance(part, Value) else part
        args = map_arg(node.args, self._value)
        kwargs = map_arg(node.kwargs, self._value)
        name = name_of(node)
        if name not in SOURCES and all(value.fixed for value in values_in((args, kwargs))):
            # What is computed from nothing that moves does not move.
            return unknown(self, node, *args, **kwargs)
        return RULES.get(name, unknown)(self, node, *args, **kwargs)

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
            self.units.demand(axis, _described(node))
        else:
            self.units.tie(axis, Axis.of_fixed(len(axis)))

    def read(self, value: Value, axis: int) -> None:
        """Note that the units of an axis are read, if they can be told apart by what they do.

        Those of what was pooled are seen before, at every pixel, as in Benzing et al. 2022: their
        means over whole images say far less.
        """
        units = value.axes[axis]
        if value.pooled is not None:
            for place, seen in enumerate(value.pooled.axes):
                if not seen.fixed:
                    self.read(value.pooled, place)
        elif not self.units.are_alike(units):
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

    def tied(self, axes: Sequence[Axis]) -> Axis:
        """Tie axes to one another, and return what they have in common."""
        first, *rest = axes
        for other in rest:
            first = self.units.tie(first, other)
        return first

    def still(self, axis: Axis) -> Axis:
        """Return the axis without factors, which what follows does not bear."""
        self.units.forbid(axis, "sign", "scale", "phase")
        return axis.unscaled()

    def forbid_phases(self, values: Sequence[Value]) -> None:
        """What acts on one part of complex numbers as it does on the other keeps no phase."""
        for value in values:
            for axis in value.axes:
                self.units.forbid(axis, "phase")


Rule = Callable[..., Result]
RULES: dict[str, Rule] = {}
# Operations that make units out of nothing that moves.
SOURCES: set[str] = set()
# What sums over units: by a rule, or by none.
LAYERS = {
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "bilinear", "cdist"),
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell"),
    *("rnn_relu_cell", "scaled_dot_product_attention"),
}


def rule(*names: str, source: bool = False, layer: bool = False) -> Callable[[Rule], Rule]:
    """Register the rule for operations with these names.

    Args:
        names: as ``name_of`` returns them.
        source: whether they make units.
        layer: whether they sum over units, as a network's layers do.
    """

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        SOURCES.update(names if source else ())
        LAYERS.update(names if layer else ())
        return function

    return register


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


def values_in(arguments: Any) -> Iterator[Value]:
    """All values in a nest of arguments."""
    if isinstance(arguments, Value):
        yield arguments
    elif isinstance(arguments, (list, tuple)):
        for each in arguments:
            yield from values_in(each)
    elif isinstance(arguments, dict):
        yield from values_in(list(arguments.values()))


def _ancestors(node: Node) -> Iterator[Node]:
    seen, waiting = {node}, [node]
    while waiting:
        for each in waiting.pop().all_input_nodes:
            if each not in seen:
                seen.add(each)
                waiting.append(each)
                yield each


def unknown(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Result:
    """Nothing that moves may come in; then nothing that comes out moves."""
    for value in values_in((args, kwargs)):
        for axis in value.axes:
            if name_of(node) in LAYERS:
                # What a layer is applied to are no outputs, even if it is the last one.
                analysis.units.demand(axis, _described(node))
            else:
                analysis.demand(axis, node)

    def fixed(meta: Any) -> Any:
        if isinstance(meta, torch.Tensor):
            return Value(tuple(map(Axis.of_fixed, meta.shape)), node.name)
        return [fixed(each) for each in meta] if isinstance(meta, (list, tuple)) else None

    return fixed(node.meta.get("val"))


def _described(node: Node) -> str:
    """The name of an operation, and of the layer of torch that it is a part of, if any."""
    text = repr(name_of(node))
    for path, kind in reversed([*node.meta.get("nn_module_stack", {}).values()]):
        name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        if name.startswith("torch.nn."):
            return f"{text}, a part of {name.rpartition('.')[2]} ({path.removeprefix('module.')}),"
    return text
