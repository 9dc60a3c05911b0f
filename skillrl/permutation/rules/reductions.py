"""Rules of operations that sum up entries, of neighbours or along whole axes."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Node

from skillrl.permutation.analysis import (
    Analysis,
    Result,
    Value,
    name_of,
    rule,
    shape_of,
)
from skillrl.permutation.dimensions import Axis


@rule("max_pool1d", "max_pool2d", "max_pool3d")
@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _pool(analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any) -> Value:
    return _pooled(analysis, node, value, node.meta["val"])


@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _pool_with_places(
    analysis: Analysis, node: Node, value: Value, *args: Any, **kwargs: Any
) -> Result:
    """What is pooled, and where it was found."""
    pooled = _pooled(analysis, node, value, node.meta["val"][0])
    return [pooled, Value(tuple(axis.unscaled() for axis in pooled.axes), node.name)]


def _pooled(analysis: Analysis, node: Node, value: Value, meta: Tensor) -> Value:
    kept = len(value.axes) - int(name_of(node)[-2])
    for axis in value.axes[kept:]:
        analysis.units.tie(axis, Axis.of_fixed(len(axis)))
    axes = (*value.axes[:kept], *map(Axis.of_fixed, meta.shape[kept:]))
    if "max" in name_of(node):
        # Positive factors pass through it, as through relu.
        for axis in axes:
            analysis.units.forbid(axis, "sign", "phase")
    return Value(axes, node.name, pooled=value)


@rule("sum", "mean", "amax", "amin", "var", "std", "logsumexp", "prod", "any", "all")
@rule("linalg_vector_norm", "norm", "softmax", "log_softmax", "_softmax", "_log_softmax")
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
            axis = analysis.still(axis)
        if at not in dims or "softmax" in name_of(node):
            out.append(axis)
        elif same:
            out.append(Axis.of_fixed(1))
    if any(len(value.axes[dim]) == 2 for dim in dims):
        analysis.forbid_phases([value])
    pools = linear and all(value.axes[dim].fixed for dim in dims)
    return Value(tuple(out), node.name, value.constant, value if pools else None)
