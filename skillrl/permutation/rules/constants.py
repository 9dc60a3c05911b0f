"""Rules of operations that make units out of nothing."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from skillrl.permutation.analysis import (
    Analysis,
    Value,
    rule,
    shape_of,
)


@rule("zeros", "new_zeros", "zeros_like", source=True)
def _zeros(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Value:
    """Zeros can be moved, flipped, scaled and turned like anything."""
    return Value(tuple(map(analysis.units.new, shape_of(node))), node.name, constant=True)


@rule(
    "ones", "new_ones", "ones_like", "full", "new_full", "full_like", "scalar_tensor", source=True
)
def _filled(analysis: Analysis, node: Node, *args: Any, **kwargs: Any) -> Value:
    axes = (analysis.units.new(size, alike=True) for size in shape_of(node))
    return Value(tuple(axes), node.name, constant=True)
