"""Networks of different seeds in the same coordinates, and whether they lie in one mode.

Read ``symmetries``, then ``transformation``, ``matching`` and ``alignment``; ``analysis``
follows the dimensions through a network, by ``rules`` for each operation.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skillrl.permutation.alignment import Alignment, align, verify
    from skillrl.permutation.connectivity import Modes, modes
    from skillrl.permutation.interpolation import (
        Path,
        barrier,
        interpolate,
        recalculate_batch_norm,
        repair,
        tuned_temperature,
        walk,
    )
    from skillrl.permutation.many import Alignments, align_many
    from skillrl.permutation.symmetries import Group, Symmetries, symmetry_groups
    from skillrl.permutation.transformation import Element, Transformation

# Imported when first used: the command line must not load torch.
_MODULES = {
    "Alignment": "alignment",
    "Alignments": "many",
    "Element": "transformation",
    "Group": "symmetries",
    "Modes": "connectivity",
    "Path": "interpolation",
    "Symmetries": "symmetries",
    "Transformation": "transformation",
    "align": "alignment",
    "align_many": "many",
    "barrier": "interpolation",
    "interpolate": "interpolation",
    "modes": "connectivity",
    "recalculate_batch_norm": "interpolation",
    "repair": "interpolation",
    "symmetry_groups": "symmetries",
    "tuned_temperature": "interpolation",
    "verify": "alignment",
    "walk": "interpolation",
}

__all__ = [
    "Alignment",
    "Alignments",
    "Element",
    "Group",
    "Modes",
    "Path",
    "Symmetries",
    "Transformation",
    "align",
    "align_many",
    "barrier",
    "interpolate",
    "modes",
    "recalculate_batch_norm",
    "repair",
    "symmetry_groups",
    "tuned_temperature",
    "verify",
    "walk",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
