"""Discovery on Humanoid against DIAYN, METRA and random rewards, several seeds.

How varied the skills are, after each of them: mutual information with the velocities and the
height, the ground that they cover, how fast a skill hops on one and the same foot for 200 steps on
end with its torso between 1 and 2 m, and for how many steps one does so at 0.5 m/s at least.

    python benchmarks/discover_humanoid.py                     resumes where it was stopped
    python benchmarks/discover_humanoid.py --seeds 2 --skills 16 --runs runs/humanoid
    python benchmarks/discover_humanoid.py --quick             under 60 seconds
"""

from __future__ import annotations

from comparison import compare_methods
from skillrl.discovery.descriptors import FEET, hops, watch
from skillrl.discovery.library import SkillLibrary

ENV = "Humanoid-v5"


# Steps of a hop that is looked for, and its least speed in m/s: who topples is as fast for a while.
LENGTHS = (50, 75, 100, 150, 200)
SPEED = 0.5


def hopping(library: SkillLibrary) -> dict[str, float]:
    """The fastest hop of any skill, in m/s, and the longest at some speed, in steps."""
    fastest = dict.fromkeys(LENGTHS, 0.0)
    for skill in library:
        motion = watch(
            *(skill.policy, ENV, skill.record.env_kwargs, FEET[ENV]),
            episodes=library.recipe.evaluation_episodes,
            steps=1_000,
            seed=library.seed,
        )
        for steps in LENGTHS:
            found = hops(motion, tuple(FEET[ENV]), steps=steps, heights=(1.0, 2.0))
            fastest[steps] = max(fastest[steps], *found.values())
    long = [steps for steps, speed in fastest.items() if speed >= SPEED]
    return {"fastest hop": fastest[LENGTHS[-1]], "longest hop": max(long, default=0)}


if __name__ == "__main__":
    # A trial of DIAYN's settings takes a fifth: the machine has few steps of Humanoid a second.
    compare_methods(
        *(__doc__, ENV), seeds=2, skills=16, runs="runs/humanoid", measure=hopping, search=0.2
    )
