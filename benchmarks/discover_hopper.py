"""Discovery on Hopper against DIAYN, METRA and random rewards, several seeds.

What the recipe finds untouched, and what it costs: episodes end where the robot falls.

    python benchmarks/discover_hopper.py                     resumes where it was stopped
    python benchmarks/discover_hopper.py --rivals diayn --runs runs/hopper
    python benchmarks/discover_hopper.py --quick             under 60 seconds
"""

from __future__ import annotations

from comparison import compare_methods

if __name__ == "__main__":
    compare_methods(__doc__, "Hopper-v5", seeds=3, skills=10, runs="runs/hopper")
