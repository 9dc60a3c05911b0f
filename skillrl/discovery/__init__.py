"""Open-ended skill discovery: the loop, its recipes, and the library of skills on disk."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skillrl.discovery.library import Skill, SkillLibrary, load_skill
    from skillrl.discovery.recipes import recipe_for
    from skillrl.discovery.run import discover
    from skillrl.discovery.settings import Recipe

# Imported when first used: recipes are read by the command line, which must not load torch.
_MODULES = {
    "Recipe": "settings",
    "Skill": "library",
    "SkillLibrary": "library",
    "discover": "run",
    "load_skill": "library",
    "recipe_for": "recipes",
}

__all__ = ["Recipe", "Skill", "SkillLibrary", "discover", "load_skill", "recipe_for"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
