"""How a benchmark's results are recorded: one JSON object, with what is needed to repeat it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "skillrl",
    "gymnasium",
    "ale-py",
    "mujoco",
    "stable-baselines3",
    "torch",
    "numpy",
    "envpool",
    "sb3-contrib",
    "popgym",
)


def record(name: str, figures: Mapping[str, Any], *, quick: bool) -> None:
    """Print ``figures`` with command, versions and machine as the last line, one JSON object.

    Unless ``quick``, the same is written to ``results/<name>.json``.
    """
    result = {
        **figures,
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"cpu": _processor(), "cores": os.cpu_count(), "system": platform.system()},
    }
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(result, indent=2, allow_nan=False) + "\n"
        (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    print(json.dumps(result, allow_nan=False))


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
