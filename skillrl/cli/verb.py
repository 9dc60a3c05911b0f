"""What the verbs of the command line have in common: how their arguments are read."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import sys
from collections import abc
from typing import Annotated, Any, Protocol, Self

import tyro

from skillrl.errors import InvalidValueError


class Verb(Protocol):
    """A verb with its parsed arguments."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments that follow the verb on the command line."""
        ...

    def execute(self) -> None:
        """Call the verb's command and print what it returns."""
        ...


class Parsed:
    """Arguments that are read by tyro from a dataclass's fields."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments; ``--help`` and mistakes in them end the program."""
        return cls._read(arguments)

    @classmethod
    def _read(cls, arguments: abc.Sequence[str], default: Self | None = None) -> Self:
        if not {"-h", "--help"}.isdisjoint(arguments):
            # Printed here, because tyro rearranges lines; --help goes on alone, because tyro
            # leaves out of it what the line has given already.
            print(inspect.getdoc(cls), end="\n\n")
            arguments = ["--help"]
        return tyro.cli(
            cls,
            prog=f"skillrl {name_of(cls)}",
            description="",
            args=arguments,
            default=tyro.MISSING_NONPROP if default is None else default,
            # One flag a boolean, the one that changes its default; where defaults may be those of a
            # run to resume, both, so that the same line goes on with it.
            config=(tyro.conf.FlagCreatePairsOff,) if default is None else (),
        )


def name_of(verb: type) -> str:
    """Return what a verb is called on the command line.

    >>> name_of(type("SomeVerb", (), {}))
    'some-verb'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "-", verb.__name__).lower()


# An option's value as a JSON object.
Json = Annotated[
    dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda strings: _json_object(strings[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
]
Imports = Annotated[
    tuple[str, ...],
    tyro.conf.arg(name="import", metavar="PACKAGE"),
    tyro.conf.UseAppendAction,
]


def import_packages(packages: abc.Sequence[str]) -> None:
    """Import the packages that register the user's environments."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise InvalidValueError(
                f"--import {package} failed: {error}. It must be installed in the environment of "
                f"{sys.executable}, or lie in the current folder."
            ) from error


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object such as '{{\"key\": 1}}' is needed, not {text}")
    return value


def shallow_dict(recipe: Any) -> dict[str, Any]:
    """Return a dataclass's fields and their values, dataclasses among them as they are."""
    return {item.name: getattr(recipe, item.name) for item in dataclasses.fields(recipe)}
