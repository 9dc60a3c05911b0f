"""How a benchmark's results are recorded: one JSON object, with what is needed to repeat it.

What each long training came to is kept in a file of its own: a benchmark that was stopped goes on
from there, on another machine too.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from skillrl.files import write_json

RESULTS = Path(__file__).parent / "results"
OUTCOMES = Path(__file__).parent / "outcomes"
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
        **_where(),
    }
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(result, indent=2, allow_nan=False) + "\n"
        (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    print(json.dumps(result, allow_nan=False))


def once(
    folder: Path, title: str, settings: Mapping[str, Any], find: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Return what ``find()`` came to, which is called only where ``folder`` does not know it.

    What it knows was found by the code of that time: after a change of it the file is to go.

    Args:
        folder: of the files.
        title: for people.
        settings: all that the outcome depends on, as JSON; others have another file.
        find: returns the outcome, as JSON.
    """
    slug = "".join(each if each.isalnum() else "-" for each in title.lower())
    text = json.dumps(settings, sort_keys=True)
    path = folder / f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    if not path.exists():
        write_json(path, {"settings": settings, "outcome": find(), **_where()})
    outcome: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["outcome"]
    return outcome


def passing_folder() -> Path:
    """Make a folder that is gone when the process ends."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _where() -> dict[str, Any]:
    """Versions and machine."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"cpu": _processor(), "cores": os.cpu_count(), "system": platform.system()},
    }


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
