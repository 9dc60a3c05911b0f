"""Discovery on Ant against DIAYN, METRA and random rewards, several seeds.

How varied the skills are, after each of them: mutual information with the velocities and the
height, and the ground that they cover.

    python benchmarks/discover_ant.py                     resumes where it was stopped
    python benchmarks/discover_ant.py --seeds 2 --skills 8 --runs runs/ant
    python benchmarks/discover_ant.py --quick             under 60 seconds
"""

from __future__ import annotations

from comparison import compare_methods

if __name__ == "__main__":
    compare_methods(__doc__, "Ant-v5", seeds=2, skills=8, runs="runs/ant", search=0.2)
