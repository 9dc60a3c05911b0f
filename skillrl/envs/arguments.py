"""Checks of arguments that several environments take."""

import os

import numpy as np
from gymnasium.vector import AutoresetMode

from skillrl.errors import InvalidValueError


def positive_int(name: str, value: int) -> int:
    """``value`` if it is a whole number of at least 1.

    Raises:
        InvalidValueError: otherwise; its message calls the argument ``name``.
    """
    return whole_number(name, value, at_least=1)


def whole_number(name: str, value: int, *, at_least: int) -> int:
    """``value`` if it is a whole number of at least ``at_least``.

    Raises:
        InvalidValueError: otherwise; its message calls the argument ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise InvalidValueError(f"{name}={value!r}: give a whole number, at least {at_least}.")
    return int(value)


def probability(name: str, value: float) -> float:
    """``value`` if it is a number from 0 to 1.

    Raises:
        InvalidValueError: otherwise; its message calls the argument ``name``.
    """
    if not 0 <= value <= 1:
        raise InvalidValueError(f"{name}={value!r}: give a probability, from 0 to 1.")
    return float(value)


def num_threads(number: int | None) -> int:
    """A number of threads; for None, that of the CPUs that the process may use.

    Raises:
        InvalidValueError: if it is no whole number of at least 1.
    """
    if number is not None:
        return positive_int("num_threads", number)
    if hasattr(os, "sched_getaffinity"):  # Linux: without those the process may not use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """Gymnasium's autoreset mode, from itself or from its value, such as ``"SameStep"``.

    Raises:
        InvalidValueError: if there is no such mode.
    """
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        names = ", ".join(repr(each.value) for each in AutoresetMode)
        raise InvalidValueError(f"autoreset_mode={mode!r}: choose from {names}.") from error


def episode_limit(steps: int | None, default: int) -> float:
    """Steps after which an episode is truncated, by ``gymnasium.make``'s rules.

    Args:
        steps: a number of steps, None for ``default``, -1 for no limit.
        default: the limit that the environment is registered with.

    Returns:
        The number of steps, or infinity.

    Raises:
        InvalidValueError: if it is no whole number, or below 1 without being -1.
    """
    if steps is None:
        return default
    if steps == -1:
        return np.inf
    return positive_int("max_episode_steps", steps)
