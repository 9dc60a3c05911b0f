"""Discovery on Humanoid against DIAYN, METRA and random rewards, several seeds.

How varied the skills are, after each of them: mutual information with the velocities and the
height, the ground that they cover, and how fast a skill hops on one and the same foot for 200 steps
on end with its torso between 1 and 2 m.

    python benchmarks/discover_humanoid.py                     resumes where it was stopped
    python benchmarks/discover_humanoid.py --seeds 2 --skills 10 --runs runs/humanoid
    python benchmarks/discover_humanoid.py --quick             under 60 seconds
"""

from __future__ import annotations

from comparison import compare_methods
from skillrl.discovery.descriptors import FEET, hops, watch
from skillrl.discovery.library import SkillLibrary

ENV = "Humanoid-v5"


def fastest_hop(library: SkillLibrary) -> dict[str, float]:
    """The fastest hop of any skill, in m/s."""
    fastest, episodes = 0.0, library.recipe.evaluation_episodes
    for skill in library:
        motion = watch(
            *(skill.policy, ENV, skill.record.env_kwargs, FEET[ENV]),
            episodes=episodes,
            steps=1_000,
            seed=library.seed,
        )
        found = hops(motion, tuple(FEET[ENV]), heights=(1.0, 2.0))
        fastest = max(fastest, *found.values())
    return {"fastest hop": fastest}


if __name__ == "__main__":
    compare_methods(__doc__, ENV, seeds=2, skills=10, runs="runs/humanoid", measure=fastest_hop)
