"""Imports run downwards only, as CONTRIBUTING.md draws the layers."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skillrl"

# Each layer may import those that stand after it …
CHAIN = ["__main__", "cli", "commands", "report", "discovery", "agents", "envs", "rewards"]
# … and these two stand beside the chain: importable from the layer named, and from those above it.
BESIDE = {"permutation": "discovery", "recurrent": "agents"}
# Importable from everywhere.
BOTTOM = ["errors", "files", "images", "randomness"]

# What the layers below reinforcement learning may import besides the standard library.
NUMERICAL = {"numpy", "scipy", "torch"}
THIRD_PARTY = {
    "errors": set(),
    "files": {"numpy", "safetensors", "torch"},
    "images": {"numpy", "PIL"},
    "randomness": {"torch"},
    "permutation": {*NUMERICAL, "lazy_loader"},
    "recurrent": {*NUMERICAL, "lazy_loader"},
    "rewards": NUMERICAL,
}


def allowed(layer: str) -> set[str]:
    """The layers that ``layer`` may import, itself included."""
    if layer in CHAIN:
        below = CHAIN[CHAIN.index(layer) :]
        return {*below, *(name for name, top in BESIDE.items() if top in below), *BOTTOM}
    return {layer, *BOTTOM}


def imported(source: str, module: str) -> Iterator[str]:
    """Full names of what ``source``, the text of ``module``, imports.

    Imports inside functions and under ``if TYPE_CHECKING`` count too, and so do strings that name
    a module of skillrl, such as entry points ("skillrl.envs.maze:MazeEnv").
    """
    package = module.split(".")
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                parts = package[: len(package) - level] if level else []
                base = ".".join([*parts, *([name] if name else [])])
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Constant(value=str(text)) if re.fullmatch(r"skillrl(\.\w+)+(:[\w.]+)?", text):
                yield text.replace(":", ".")


def violations(source: str, module: str) -> list[str]:
    """The imports of ``module`` that the layers forbid."""
    layer = module.split(".")[1]
    found = []
    for name in imported(source, module):
        top, *rest = name.split(".")
        if top == "skillrl":
            if rest != ["__version__"] and rest[0] not in allowed(layer):
                found.append(name)
        elif layer in THIRD_PARTY and top not in sys.stdlib_module_names | THIRD_PARTY[layer]:
            found.append(name)
    return found


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        # In __init__.py, one dot means the package itself: its module name keeps the last part.
        if parts != ("skillrl", "__init__"):
            yield ".".join(parts), path


@pytest.mark.parametrize(("module", "path"), [*modules()], ids=str)
def test_imports_run_downwards(module: str, path: Path) -> None:
    layer = module.split(".")[1]
    assert layer in {*CHAIN, *BESIDE, *BOTTOM}, f"{module} stands in no layer"
    assert violations(path.read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("skillrl.envs.maze", "import skillrl.agents.policy", ["skillrl.agents.policy"]),
        ("skillrl.envs.maze", "from skillrl import agents", ["skillrl.agents"]),
        ("skillrl.envs.maze", "from ..agents import policy", ["skillrl.agents.policy"]),
        ("skillrl.envs.__init__", "from ..agents import policy", ["skillrl.agents.policy"]),
        ("skillrl.envs.maze", "def f():\n  import skillrl.cli", ["skillrl.cli"]),
        ("skillrl.envs.maze", "if TYPE_CHECKING:\n  import skillrl.cli", ["skillrl.cli"]),
        ("skillrl.envs.maze", "x = 'skillrl.agents.policy:P'", ["skillrl.agents.policy.P"]),
        ("skillrl.envs.maze", "import skillrl.recurrent.lru", ["skillrl.recurrent.lru"]),
        ("skillrl.rewards.network", "import gymnasium", ["gymnasium"]),
        ("skillrl.permutation.align", "from skillrl.rewards import R", ["skillrl.rewards.R"]),
        ("skillrl.errors", "import torch", ["torch"]),
        ("skillrl.agents.sac", "from skillrl.recurrent import LRU\nimport gymnasium", []),
        ("skillrl.discovery.loop", "from . import archive\nfrom skillrl import __version__", []),
        ("skillrl.rewards.network", "import json, torch\nfrom skillrl.files import x", []),
        ("skillrl.commands.align", "from skillrl.permutation import align", []),
    ],
)
def test_the_rule_itself(module: str, source: str, expected: list[str]) -> None:
    assert violations(source, module) == expected


def test_importing_skillrl_is_cheap() -> None:
    code = "import sys, skillrl; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    heavy = {"torch", "mujoco", "stable_baselines3", "ale_py", "scipy", "imageio", "tyro", "rich"}
    assert heavy.isdisjoint(loaded.stdout.split())
