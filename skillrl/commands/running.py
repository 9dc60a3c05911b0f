"""What verbs that take long have in common: Ctrl-C, speed, and how to go on."""

from __future__ import annotations

import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from skillrl.envs.make import find_spec

LINE_INTERVAL = 30.0
"""Seconds between two lines of progress where there is no terminal to draw a bar in."""

# Seconds over which the speed is averaged.
_SPEED_WINDOW = 20.0


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C, or a job scheduler's SIGTERM, set a flag.

    Those that follow have their usual effect.
    """
    interrupted = threading.Event()
    # Only the main thread receives signals. A handler that is not Python's own was set on purpose,
    # SIG_IGN by nohup for one.
    usual = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
    }

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def interrupt(number: int, frame: FrameType | None) -> None:
        restore()
        interrupted.set()
        print(
            "\nStopping once the present rollout, sampling or fit is done. "
            "Ctrl-C again ends the run at once.",
            file=sys.stderr,
        )

    for number in usual:
        signal.signal(number, interrupt)
    try:
        yield interrupted.is_set
    finally:
        restore()


class Pace:
    """How fast a run takes its steps, and how long it still needs.

    Args:
        total: steps of the whole run.
        now: the time in seconds, on any clock.
    """

    def __init__(self, total: int, now: float) -> None:
        self._total = total
        self._start = now
        self._start_steps: int | None = None
        # Times and steps of the run, over which the speed is averaged.
        self._recent: deque[tuple[float, int]] = deque()

    def pause(self) -> None:
        """Take note that no steps were taken until now: the speed is that of what follows."""
        self._recent.clear()

    def after(self, steps: int, now: float) -> list[str]:
        """Take note of the steps taken so far, and return speed and time left, where known."""
        self._recent.append((now, steps))
        while now - self._recent[0][0] > _SPEED_WINDOW:
            self._recent.popleft()
        if self._start_steps is None:
            self._start_steps = steps
        parts = []
        first, first_steps = self._recent[0]
        if steps > first_steps and now > first:
            parts.append(f"{(steps - first_steps) / (now - first):,.0f} steps/s")
        if steps > self._start_steps:
            seconds_a_step = (now - self._start) / (steps - self._start_steps)
            parts.append(f"{duration(max(self._total - steps, 0) * seconds_a_step)} left")
        return parts


def bar(console: Console) -> Progress:
    """Return a bar and what is described beside it, on a second line where it has no room."""
    description = TextColumn("{task.description}", table_column=Column())
    return Progress(SpinnerColumn(), BarColumn(20), description, console=console, transient=True)


def duration(seconds: float) -> str:
    """Return a duration as people read it.

    >>> duration(3671.6)
    '1:01:12'
    """
    return str(timedelta(seconds=round(seconds)))


def import_option(env: str) -> list[str]:
    """Return the option that names the package that registers an environment, where needed.

    >>> import_option("HalfCheetah-v5")
    []
    """
    spec = find_spec(env)
    entry_point: Any = spec.entry_point or spec.vector_entry_point
    module = entry_point if isinstance(entry_point, str) else entry_point.__module__
    package = module.partition(":")[0].partition(".")[0]
    if ":" in env or package in ("gymnasium", "skillrl", "ale_py", "__main__"):
        return []
    return ["--import", package]
