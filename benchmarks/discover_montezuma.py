"""Discovery from pixels: Montezuma's Revenge, and another game with the same recipe.

Recorded of every skill of every seed: the reward it reached, the rooms and positions it visits in
10 episodes from ordinary resets, and what it picks up; all but the reward read from the console's
memory, which agents never see. With --restarts half of the episodes begin from saved states on the
way of the skill before, as long as the guide would lead, and there is no guide.

    python benchmarks/discover_montezuma.py                     resumes where it was stopped
    python benchmarks/discover_montezuma.py --seeds 2 --skills 10 --runs runs/montezuma
    python benchmarks/discover_montezuma.py --steps 200000      where there is less time
    python benchmarks/discover_montezuma.py --restarts --runs runs/montezuma-restarts
    python benchmarks/discover_montezuma.py --game PrivateEye --runs runs/private-eye
    python benchmarks/discover_montezuma.py --quick             under 60 seconds, nothing recorded
"""

from __future__ import annotations

import dataclasses
from typing import Any

from comparison import parse, parser, run_all, seeds_of
from record import record
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.places import places
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.settings import Recipe, RestartRecipe

GAMES = ("MontezumaRevenge", "PrivateEye", "Pitfall")


def restarted(recipe: Recipe) -> Recipe:
    """The recipe with restarts from saved states in the place of the guide."""
    return dataclasses.replace(
        recipe,
        guide=dataclasses.replace(recipe.guide, max_steps=0),
        restarts=RestartRecipe(share=0.5, until=recipe.guide.until),
    )


def where(library: SkillLibrary) -> dict[str, Any]:
    """Where each skill goes."""
    episodes = library.recipe.evaluation_episodes
    return {"places": [places(skill, episodes=episodes)[0].to_json() for skill in library]}


def figures(runs: list[dict[str, Any]], recipe: Recipe) -> dict[str, Any]:
    """What each skill of each seed did, and what a seed's skills did together."""
    seeds = []
    for run in runs:
        went = run["more"]["places"]
        seeds.append(
            {
                "seed": run["seed"],
                "rooms": sorted({room for each in went for room in each["rooms"]}),
                "items": sorted({item for each in went for item in each["items"]}),
                "positions": len({tuple(place[:3]) for each in went for place in each["steps"]}),
                "live": sum(skill["live"] for skill in run["skills"]),
                "hours": sum(skill["seconds"] for skill in run["skills"]) / 3_600,
                "skills": [
                    {
                        **{key: skill[key] for key in ("mean_reward", "live", "steps", "seconds")},
                        "rooms": each["rooms"],
                        "items": each["items"],
                        "positions": len(each["steps"]),
                        "score": each["score"],
                    }
                    for skill, each in zip(run["skills"], went, strict=True)
                ],
            }
        )
    return {"recipe": dataclasses.asdict(recipe), "seeds": seeds}


def main() -> None:
    made = parser(__doc__, seeds=2, skills=10, runs="runs/montezuma")
    made.add_argument("--game", default=GAMES[0], choices=GAMES)
    made.add_argument("--restarts", action="store_true", help="saved states, and no guide")
    made.add_argument("--steps", type=int, help="of a skill; default: the recipe's")
    options = parse(made)
    recipe = recipe_for(f"skillrl/{options.game}-v5")
    recipe = dataclasses.replace(recipe, generations=options.skills)
    if options.steps is not None:
        recipe = dataclasses.replace(
            recipe, steps_per_skill=options.steps, extension=options.steps // 2
        )
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
                recipe.samples, num_envs=4, negative_steps=40, positive_repeats=1
            ),
            agent=dataclasses.replace(recipe.agent, num_envs=8, n_epochs=1),
        )
    game, seeds = options.game, seeds_of(options)
    runs = run_all({game: recipe}, options, {game: seeds}, where)
    name = "discover_montezuma" if game == GAMES[0] else "discover_second_game"
    name += "_restarts" if options.restarts else ""
    record(name, figures(runs[game], recipe), quick=options.quick)


if __name__ == "__main__":
    main()
