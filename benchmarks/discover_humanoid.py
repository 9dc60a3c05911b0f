"""Discovery on Humanoid against DIAYN and random rewards, several seeds.

How varied the skills are, after each of them: mutual information with the velocities and the
height, the ground that they cover, and how far a skill hops on one and the same foot.

    python benchmarks/discover_humanoid.py                     resumes where it was stopped
    python benchmarks/discover_humanoid.py --seeds 2 --skills 10 --runs runs/humanoid
    python benchmarks/discover_humanoid.py --quick             under 60 seconds
"""

from __future__ import annotations

from comparison import compare_methods

if __name__ == "__main__":
    compare_methods(
        __doc__.splitlines()[0], "Humanoid-v5", seeds=2, skills=10, runs="runs/humanoid"
    )
