"""Discovery from pixels: Montezuma's Revenge, and another game with the same recipe.

Recorded of every skill of every seed: the reward it reached, and in how many of 10 episodes, of
up to six lives each, it enters a room or picks something up, beside what as many of the untrained
policy come to; all but the reward read from the console's memory, which agents never see.
With --restarts half of the episodes begin from saved states on the way of the skill before, as long
as the guide would lead, and there is no guide.

    python benchmarks/discover_montezuma.py                     resumes where it was stopped
    python benchmarks/discover_montezuma.py --seeds 2 --skills 10 --runs runs/montezuma
    python benchmarks/discover_montezuma.py --restarts
    python benchmarks/discover_montezuma.py --game PrivateEye
    python benchmarks/discover_montezuma.py --quick             under 60 seconds, nothing recorded
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from comparison import all_steps, parse, parser, run_all, seeds_of
from record import record
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.places import CELL, places
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.settings import Recipe, RestartRecipe

SLUGS = {"MontezumaRevenge": "montezuma", "PrivateEye": "private_eye", "Pitfall": "pitfall"}


def restarted(recipe: Recipe) -> Recipe:
    """The recipe with restarts from saved states in the place of the guide."""
    return dataclasses.replace(
        recipe,
        guide=dataclasses.replace(recipe.guide, max_steps=0),
        restarts=RestartRecipe(share=0.5, until=recipe.guide.until),
    )


def where(library: SkillLibrary) -> dict[str, Any]:
    """Where the untrained policy goes, in as many episodes as all skills have, and each skill."""
    episodes, skills = library.recipe.evaluation_episodes, range(len(library))
    untrained, _ = places(library, None, episodes=episodes * len(library))
    played = [places(library, skill, episodes=episodes)[0].to_json() for skill in skills]
    return {"untrained": untrained.to_json(), "places": played}


def figures(runs: list[dict[str, Any]], recipe: Recipe) -> dict[str, Any]:
    """What each skill of each seed did, and what a seed's skills did together."""
    seeds = []
    for run in runs:
        went, untrained = run["more"]["places"], run["more"]["untrained"]
        seeds.append(
            {
                "seed": run["seed"],
                "cells": _cells(went),
                "live": sum(skill["live"] for skill in run["skills"]),
                "hours": sum(skill["seconds"] for skill in run["skills"]) / 3_600,
                "untrained": _played(untrained),
                "skills": [
                    {
                        **{key: skill[key] for key in ("mean_reward", "target", "live", "seconds")},
                        "steps": all_steps(skill),
                        **_played(each),
                    }
                    for skill, each in zip(run["skills"], went, strict=True)
                ],
            }
        )
    return {"recipe": dataclasses.asdict(recipe), "seeds": seeds}


def _played(each: dict[str, Any]) -> dict[str, Any]:
    """Episodes, those in which a room was entered or something picked up, cells and score."""
    return {key: each[key] for key in ("episodes", "rooms", "items", "cells", "score")}


def _cells(went: list[dict[str, Any]]) -> int:
    """Cells that were visited by at least one of several."""
    return len({(r, x // CELL, y // CELL) for each in went for r, x, y, _ in each["steps"]})


def main() -> None:
    made = parser(__doc__, seeds=2, skills=10, runs="")
    made.add_argument("--game", default=next(iter(SLUGS)), choices=SLUGS)
    made.add_argument("--restarts", action="store_true", help="saved states, and no guide")
    options = parse(made)
    name = "discover_" + SLUGS[options.game] + ("_restarts" if options.restarts else "")
    if not options.quick and options.runs == Path():
        options.runs = Path("runs") / name
    recipe = recipe_for(f"skillrl/{options.game}-v5")
    recipe = dataclasses.replace(recipe, generations=options.skills)
    if options.restarts:
        recipe = restarted(recipe)
    if options.quick:
        recipe = dataclasses.replace(
            recipe,
            generations=1,
            steps_per_skill=1_024,
            extensions=0,
            evaluation_episodes=1,
            evaluation_steps=50,
            reward=dataclasses.replace(recipe.reward, steps=20),
            samples=dataclasses.replace(
                recipe.samples, num_envs=8, negative_steps=60, positive_repeats=2
            ),
            agent=dataclasses.replace(recipe.agent, num_envs=8, n_epochs=1),
        )
    game, seeds = options.game, seeds_of(options)
    runs = run_all({game: recipe}, options, {game: seeds}, where)
    record(name, figures(runs[game], recipe), quick=options.quick)


if __name__ == "__main__":
    main()
