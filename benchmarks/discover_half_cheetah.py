"""Discovery on HalfCheetah against DIAYN, METRA and random rewards, several seeds.

How many skills are live, how fast they run, how many somersaults they turn, and how varied they
are. A skill is live if over 10 episodes from ordinary resets it earns at least 0.2 of the target
per step, and at least twice what the skill before it earns on the same reward.

    python benchmarks/discover_half_cheetah.py                     resumes where it was stopped
    python benchmarks/discover_half_cheetah.py --seeds 5 --skills 20 --runs runs/half-cheetah
    python benchmarks/discover_half_cheetah.py --quick             under 60 seconds
"""

from __future__ import annotations

from comparison import compare_methods

if __name__ == "__main__":
    compare_methods(
        __doc__.splitlines()[0], "HalfCheetah-v5", seeds=5, skills=20, runs="runs/half-cheetah"
    )
