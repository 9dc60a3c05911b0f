"""How much memory a call takes at most: Linux counts it."""

from __future__ import annotations

from collections.abc import Callable


def peak_mebibytes(call: Callable[[], object]) -> float:
    """Peak memory of a call, in MiB above what the process holds before it."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is from now on
    before = _kilobytes("VmRSS")
    call()
    return (_kilobytes("VmHWM") - before) / 1_024


def _kilobytes(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
