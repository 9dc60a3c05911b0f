"""Recurrent layers that learn online, and sequence tasks to try them on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skillrl.recurrent.carry import Carry
    from skillrl.recurrent.layer import RecurrentLayer
    from skillrl.recurrent.lru import LRU
    from skillrl.recurrent.recipes import Rule, SequenceRecipe, sequence_recipe_for
    from skillrl.recurrent.rtu import LinearRTU, NonlinearRTU
    from skillrl.recurrent.snap import GRU, LinearRNN
    from skillrl.recurrent.stack import Block, RecurrentStack, parameter_groups

# Imported when first used: recipes are read by the command line, which must not load torch.
_MODULES = {
    "Block": "stack",
    "Carry": "carry",
    "GRU": "snap",
    "LRU": "lru",
    "LinearRNN": "snap",
    "LinearRTU": "rtu",
    "NonlinearRTU": "rtu",
    "RecurrentLayer": "layer",
    "RecurrentStack": "stack",
    "Rule": "recipes",
    "SequenceRecipe": "recipes",
    "parameter_groups": "stack",
    "sequence_recipe_for": "recipes",
}

__all__ = [
    "GRU",
    "LRU",
    "Block",
    "Carry",
    "LinearRNN",
    "LinearRTU",
    "NonlinearRTU",
    "RecurrentLayer",
    "RecurrentStack",
    "Rule",
    "SequenceRecipe",
    "parameter_groups",
    "sequence_recipe_for",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
