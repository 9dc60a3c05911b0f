"""Cells of Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))


def plain(value: float | None, form: str) -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else f"{value:z{form}}"


def cell(figures: dict[str, Any], name: str, form: str) -> str:
    """A mean over seeds, and its interval; nothing where there is none."""
    if name not in figures["mean"]:
        return ""
    low, high = figures["interval"][name]
    mean, form = figures["mean"][name], f"z{form}"  # never "-0.0"
    return f"{mean:{form}} ({low:{form}} to {high:{form}})"


def interval(found: dict[str, Any]) -> str:
    """An inter-quartile mean over seeds, and its interval."""
    low, high = found["interval"]
    form = ",.0f" if max(abs(low), abs(high)) >= 20 else ".2f"
    return f"{found['mean']:{form}} ({low:{form}} to {high:{form}})"


def with_error(figure: dict[str, float], form: str = ".1%") -> str:
    """A mean over pairs and its standard error."""
    return f"{figure['mean']:{form}} ± {figure['error']:{form}}"


def within(figure: dict[str, Any], form: str = ".2f") -> str:
    """A mean and its interval, if it has one."""
    mean = f"{figure['mean']:{form}}"
    if figure["interval"] is None:
        return mean
    low, high = figure["interval"]
    return f"{mean} ({low:{form}} to {high:{form}})"


def known(figures: Mapping[str, float], name: str, form: str, unit: str) -> str:
    """A figure and its unit, or nothing where it was not measured."""
    return f"{figures[name]:{form}}{unit}" if name in figures else ""
