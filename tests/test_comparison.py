"""Methods of discovery compared."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import pytest

import comparison
from comparison import (
    ENTROPIES,
    SEARCH_SEED,
    Run,
    budget,
    figures,
    outcome,
    rival,
    searched,
    seeds_of,
)
from skillrl.discovery.recipes import recipe_for

RECIPE = recipe_for("HalfCheetah-v5")


def test_rivals_take_as_many_steps_as_our_skills_did_on_average() -> None:
    runs: list[dict[str, Any]] = [
        {"skills": [{"steps": 500_000, "sample_steps": 0}, {"steps": 700_000, "sample_steps": 80}]},
        {"skills": [{"steps": 600_000, "sample_steps": 0}, {"steps": 900_000, "sample_steps": 40}]},
    ]
    assert budget(runs) == 675_030


@pytest.mark.parametrize("method", comparison.RIVALS)
def test_rivals_have_the_same_agent(method: str) -> None:
    variant = rival(RECIPE, method, 1_234)
    assert (variant.method, variant.steps_per_skill) == (method, 1_234)
    assert (variant.attempts, variant.patience) == (1, 0.0)
    assert variant.agent == RECIPE.agent and variant.generations == RECIPE.generations
    assert bool(variant.env_kwargs) == (method == "metra")


def test_a_run_that_is_known_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    def summary(run: Run) -> dict[str, Any]:
        done.append(run.seed)
        return {"seed": run.seed}

    monkeypatch.setattr(comparison, "summary", summary)
    run = Run("ours", RECIPE, 3, 1, tmp_path / "gone", tmp_path, comparison.nothing_more)
    other = dataclasses.replace(run, recipe=dataclasses.replace(RECIPE, patience=0.2))
    assert [outcome(each) for each in (run, run, other)] == [{"seed": 3}] * 3
    assert done == [3, 3]


def test_seeds_count_from_the_first() -> None:
    options = argparse.Namespace(first_seed=10, seeds=3)
    assert [*seeds_of(options)] == [10, 11, 12]


def test_diayn_gets_the_entropy_with_which_its_skills_differ_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = rival(RECIPE, "diayn", 1_000)

    def runs(recipes: dict[str, Any], options: Any, seeds: dict[str, Any]) -> dict[str, Any]:
        assert all([*each] == [SEARCH_SEED] for each in seeds.values())
        assert all(each.steps_per_skill == 500 for each in recipes.values())
        weights = [each.agent.ent_coef for each in recipes.values()]
        assert weights == [each.agent.ent_coef_rewarded for each in recipes.values()]
        assert weights == [*ENTROPIES]
        nats = {ENTROPIES[0]: (0.9, 0.1), ENTROPIES[1]: (0.6, 0.6), ENTROPIES[2]: (0.0, 1.1)}
        return {
            name: [{"growing": [{"information": dict(enumerate(nats[each.agent.ent_coef]))}]}]
            for name, each in recipes.items()
        }

    monkeypatch.setattr(comparison, "run_all", runs)
    chosen, trials = searched(recipe, argparse.Namespace(), share=0.5)
    assert chosen.agent.ent_coef == chosen.agent.ent_coef_rewarded == ENTROPIES[1]
    assert chosen.steps_per_skill == 1_000
    assert [*trials.values()] == [pytest.approx(nats) for nats in (1.0, 1.2, 1.1)]


def run_of(seed: int, *falls: float, steps: int = 1_000) -> dict[str, Any]:
    """What is known of a run whose skills run at 1, 2, … m/s."""
    body = {"forward_velocity": 0.0, "front_somersaults": 0.0, "back_somersaults": 0.0}
    body |= {"upside_down": 0.0}
    skills = [
        {
            "live": True,
            "steps": steps,
            "sample_steps": 200,
            "seconds": 60.0,
            "descriptors": {**body, "forward_velocity": speed, "falls": each, "seconds": 2.0},
        }
        for speed, each in enumerate(falls, start=1)
    ]
    known = {"live": 1.0, "bound": 0.0, "information": {}, "distinct": None}
    known |= {"coverage": 3, "task_return": None}
    return {"seed": seed, "growing": [known], "skills": skills}


def test_speeds_are_those_of_skills_that_do_not_fall() -> None:
    found = figures([run_of(1, 0.0, 0.4, 0.9), run_of(2, 1.0, 1.0, 1.0)], RECIPE)
    # Where all fall there is no such speed, rather than one of zero.
    assert found["fastest forwards"] == [2.0, None]
    assert found["mean"]["fastest forwards"] == 2.0
    assert found["falls"] == [pytest.approx(1 / 3), 1.0]
    assert found["seconds"] == [2.0, 2.0]
    assert "task_return" not in found and "task_return" not in found["mean"]


def test_steps_of_samples_count_for_those_who_have_some() -> None:
    runs = [run_of(1, 0.0)]
    ours, random = (figures(runs, r) for r in (RECIPE, rival(RECIPE, "random-rewards", 1_000)))
    assert ours["steps_per_skill"] == random["steps_per_skill"] == [1_200]
    # Only rewards that ask for what is new judge whether a skill is live.
    assert ours["live"] == [1.0] and "live" not in random
