"""Frozen dataclasses from JSON, checked field by field: files may be damaged or hostile."""

from __future__ import annotations

import dataclasses
import math
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from skillrl.errors import InvalidValueError

T = TypeVar("T")


def from_json(cls: type[T], value: Any, where: str) -> T:
    """Return the dataclass that ``dataclasses.asdict`` turned into JSON.

    Args:
        cls: a dataclass whose fields are numbers, strings, bools, literals, tuples, dictionaries,
            None, or dataclasses.
        value: what JSON gave.
        where: name of the value in messages.

    Raises:
        InvalidValueError: if a field is missing, unknown, not of its type, or not finite.

    >>> from skillrl.discovery.recipes import GuideRecipe
    >>> from_json(GuideRecipe, {"max_steps": 200, "until": 0.5}, "guide")
    GuideRecipe(max_steps=200, until=0.5)
    """
    if not isinstance(value, dict):
        raise InvalidValueError(f"{where} should be an object. Received {value!r}.")
    types = get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if value.keys() != names:
        odd = ", ".join(sorted(value.keys() ^ names))
        raise InvalidValueError(f"{where} lacks fields or has unknown ones: {odd}.")
    arguments = {}
    for name, item in value.items():
        if dataclasses.is_dataclass(types[name]):
            arguments[name] = from_json(types[name], item, f"{where}.{name}")
        elif not _fits(item, types[name]):
            raise InvalidValueError(f"{where}.{name} has the wrong type. Received {item!r}.")
        else:
            arguments[name] = tuple(item) if isinstance(item, list) else item
    return cls(**arguments)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has the type of a field."""
    if get_origin(hint) is UnionType:
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is Literal:
        return isinstance(value, str)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        # JSON has one kind of number: 1.0 may come back as 1.
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, get_origin(hint) or hint)
