"""Fill the tables of README.md and benchmarks/README.md from benchmarks/results.

A table stands in a page between ``<!-- table: NAME -->`` and ``<!-- end -->``; it is made by
the function of that name in ``tables``, from ``results/NAME.json``.

    python benchmarks/result_tables.py            write the tables
    python benchmarks/result_tables.py --check    exit with 1 where a page differs from them
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tables import discovery, memory, permutation

RESULTS = Path(__file__).parent / "results"
PAGES = (Path(__file__).parents[1] / "README.md", Path(__file__).parent / "README.md")
REGION = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    **discovery.TABLES,
    **memory.TABLES,
    **permutation.TABLES,
}
# What measures a table, where that is not its script alone.
COMMANDS = {
    "discover_montezuma_restarts": "discover_montezuma.py --restarts",
    "discover_private_eye": "discover_montezuma.py --game PrivateEye",
    "permutation_supervised": "permutation_supervised.py --data DIR",
}


def fill(text: str, results: Path) -> str:
    """Return ``text`` with every table made anew from the folder ``results``."""

    def region(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        if name not in TABLES:
            raise SystemExit(f"There is no table {name!r}; there are {', '.join(TABLES)}.")
        path = results / f"{name}.json"
        if path.is_file():
            content = TABLES[name](json.loads(path.read_text(encoding="utf-8")))
        else:
            command = COMMANDS.get(name, f"{name}.py")
            content = f"*Not measured yet: run `python benchmarks/{command}`.*\n"
        return f"{start}\n{content}\n{end}"

    return REGION.sub(region, text)


def main() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        filled = fill(text, RESULTS)
        if "--check" not in sys.argv[1:]:
            page.write_text(filled, encoding="utf-8")
        elif filled != text:
            raise SystemExit(f"The tables of {page} differ from {RESULTS}: run `make tables`.")


if __name__ == "__main__":
    main()
