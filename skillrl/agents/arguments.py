"""Keyword arguments that a constructor does not know, found before it is called."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any

from skillrl.errors import InvalidValueError


def check_known(arguments: Iterable[str], known: Collection[str], what: str, option: str) -> None:
    """Refuse arguments that are not known.

    Args:
        arguments: their names.
        known: names of those that there are.
        what: has them, for the message.
        option: by which they were given.

    Raises:
        InvalidValueError: naming the one that is most alike, or all that there are.
    """
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"It has {', '.join(sorted(known)) or 'none'}."
            if near:
                hint = f"Did you mean {near[0]!r}?"
            raise InvalidValueError(f"{what} has no argument {name!r} ({option}). {hint}")


def parameters_of(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's arguments; of a class, also those that it passes on.

    >>> sorted(parameters_of(lambda one, *, other: None))
    ['one', 'other']
    """
    found: set[str] = set()
    for each in _constructors(function):
        parameters = inspect.signature(each).parameters.values()
        variadic = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
        found |= {each.name for each in parameters if each.kind not in variadic}
        if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
            break
    return found - {"self"}


def _constructors(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    if not isinstance(function, type):
        return [function]
    return [vars(base)["__init__"] for base in function.__mro__ if "__init__" in vars(base)]
