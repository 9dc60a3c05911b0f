"""skillrl: agents that discover skills without a task reward.

Importing it registers the environments ``skillrl/…`` with Gymnasium and loads little else; the
names below are loaded when they are first used.

>>> import skillrl
>>> skillrl.load_skill.__module__
'skillrl.discovery.library'
"""

from importlib import import_module
from typing import TYPE_CHECKING

from skillrl.envs.registration import register_envs

if TYPE_CHECKING:
    from skillrl.discovery.library import load_skill as load_skill

__version__ = "0.1.0"

__all__ = ["load_skill"]

# Public name → the module that defines it.
_LAZY = {"load_skill": "skillrl.discovery.library"}

register_envs()


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
