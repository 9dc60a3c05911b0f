"""Fill the README's tables from benchmarks/results.

A table stands in the README between ``<!-- table: NAME -->`` and ``<!-- end -->``; it is made by
the function of that name below, from ``results/NAME.json``.

    python benchmarks/readme_tables.py            write the tables
    python benchmarks/readme_tables.py --check    exit with 1 where the README differs from them
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REGION = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def env_throughput(results: dict[str, Any]) -> str:
    """Steps per second, alone and relative to others, a row for each environment."""
    columns = {
        "vs_sync": "SyncVectorEnv",
        "vs_async": "AsyncVectorEnv",
        "vs_envpool": "EnvPool",
        "vs_envpool_async": "EnvPool, asynchronous",
        "share_of_batch": "bare `mujoco.batch.Batch`",
    }
    rows = []
    for env, speeds in results["steps_per_second"].items():
        ratios = [f"{results[key][env]:.2f}×" for key in columns]
        rows.append([env, f"{speeds['skillrl']:,.0f}", *ratios])
    return table(["", "steps per second", *(f"vs {name}" for name in columns.values())], rows)


def discovery_throughput(results: dict[str, Any]) -> str:
    """Steps per second of both sides, and their ratio."""
    ours, theirs = (results["steps_per_second"][n] for n in ("skillrl", "stable_baselines3"))
    row = [f"{ours:,.0f}", f"{theirs:,.0f}", f"{results['vs_sb3']:.2f}×"]
    return table(["skillrl", "Stable-Baselines3's PPO", "ratio"], [row])


def discover_half_cheetah(results: dict[str, Any]) -> str:
    """Live skills, a row for each seed, and over all seeds."""
    rows = []
    for seed, skills in zip(results["seeds"], results["skills"], strict=True):
        share = sum(skill["mean_reward"] / skill["target"] for skill in skills) / len(skills)
        returns = [skill["task_return"] for skill in skills]
        rows.append(
            [
                str(seed),
                f"{sum(skill['live'] for skill in skills)} of {len(skills)}",
                f"{share:.0%}",
                f"{min(returns):,.0f} to {max(returns):,.0f}",
            ]
        )
    low, high = results["live_share_interval"]
    rows.append(["all", f"{results['live_share']:.0%} ({low:.0%} to {high:.0%})", "", ""])
    columns = ["seed", "live skills", "mean reward, of the target", "return of HalfCheetah's task"]
    return table(columns, rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    table.__name__: table for table in (discover_half_cheetah, env_throughput, discovery_throughput)
}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))


def fill(text: str, results: Path) -> str:
    """Return ``text`` with every table made anew from the folder ``results``."""

    def region(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        if name not in TABLES:
            raise SystemExit(
                f"The README asks for a table {name!r}; there are {', '.join(TABLES)}."
            )
        path = results / f"{name}.json"
        if path.is_file():
            content = TABLES[name](json.loads(path.read_text(encoding="utf-8")))
        else:
            content = f"*Not measured yet: run `python benchmarks/{name}.py`.*\n"
        return f"{start}\n{content}\n{end}"

    return REGION.sub(region, text)


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    filled = fill(text, ROOT / "benchmarks" / "results")
    if "--check" not in sys.argv[1:]:
        readme.write_text(filled, encoding="utf-8")
    elif filled != text:
        raise SystemExit("The README's tables differ from benchmarks/results: run `make readme`.")


if __name__ == "__main__":
    main()
