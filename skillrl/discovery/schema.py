"""Frozen dataclasses from JSON, checked field by field: files may be damaged or hostile."""

from __future__ import annotations

import dataclasses
import math
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from skillrl.errors import InvalidValueError

T = TypeVar("T")


def from_json(cls: type[T], value: Any, where: str, *, defaults: bool = False) -> T:
    """Return the dataclass that ``dataclasses.asdict`` turned into JSON.

    Args:
        cls: a dataclass whose fields are numbers, strings, bools, literals, tuples, dictionaries,
            None, or dataclasses.
        value: what JSON gave.
        where: name of the value in messages.
        defaults: whether fields that are missing take their defaults, where they have one.

    Raises:
        InvalidValueError: if a field is missing, unknown, not of its type, or not finite.

    >>> from skillrl.discovery.settings import GuideRecipe
    >>> from_json(GuideRecipe, {"max_steps": 200, "until": 0.5}, "guide")
    GuideRecipe(max_steps=200, until=0.5)
    >>> from_json(GuideRecipe, {"until": 0.5}, "guide", defaults=True)
    GuideRecipe(max_steps=0, until=0.5)
    """
    if not isinstance(value, dict):
        raise InvalidValueError(f"{where} should be an object. Received {value!r}.")
    types = get_type_hints(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    names = {f.name for f in fields}
    optional = {f.name for f in fields if defaults and _has_default(f)}
    if odd := (value.keys() - names) | (names - optional - value.keys()):
        raise InvalidValueError(
            f"{where} lacks fields or has unknown ones: {', '.join(sorted(odd))}. Another version "
            "of skillrl may have written it."
        )
    arguments = {
        name: _value(types[name], item, f"{where}.{name}", defaults) for name, item in value.items()
    }
    return cls(**arguments)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _value(hint: Any, item: Any, where: str, defaults: bool) -> Any:
    """The value of a field whose type is ``hint``."""
    # Of a dataclass or None, the dataclass.
    kinds: list[Any] = [k for k in (get_args(hint) or (hint,)) if dataclasses.is_dataclass(k)]
    if kinds and not (item is None and hint is not kinds[0]):
        return from_json(kinds[0], item, where, defaults=defaults)
    if not _fits(item, hint):
        raise InvalidValueError(f"{where} has the wrong type. Received {item!r}.")
    return tuple(item) if isinstance(item, list) else item


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
    if get_origin(hint) is dict:
        of_keys, of_values = get_args(hint)
        return isinstance(value, dict) and all(
            _fits(key, of_keys) and (of_values is Any or _fits(item, of_values))
            for key, item in value.items()
        )
    return isinstance(value, get_origin(hint) or hint)
