"""Discovery on Walker2d against DIAYN, METRA and random rewards, several seeds.

What the recipe finds untouched, and what it costs: episodes end where the robot falls.

    python benchmarks/discover_walker2d.py                     resumes where it was stopped
    python benchmarks/discover_walker2d.py --rivals diayn --runs runs/walker2d
    python benchmarks/discover_walker2d.py --quick             under 60 seconds
"""

from __future__ import annotations

from comparison import compare_methods

if __name__ == "__main__":
    compare_methods(__doc__, "Walker2d-v5", seeds=3, skills=10, runs="runs/walker2d")
