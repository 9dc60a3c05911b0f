import dataclasses
import functools
import json
import math
from typing import Any

import pytest

from skillrl.discovery.recipes import RECIPES, recipe_for
from skillrl.discovery.settings import (
    AgentRecipe,
    GuideRecipe,
    Recipe,
    RewardRecipe,
    SampleRecipe,
    TransferRecipe,
    recipe_from_json,
)
from skillrl.errors import InvalidValueError

EVERYTHING = Recipe(
    env="Some/Env-v3",
    env_kwargs={"a": 1, "b": {"c": [1, 2, None]}, "name": "x"},
    generations=3,
    reward=RewardRecipe(target=0.1, weight_decay=1e-5),
    samples=SampleRecipe(exploration="uniform"),
    guide=GuideRecipe(max_steps=7, until=0.5),
    agent=AgentRecipe(hidden=(32,), activation="relu", gamma=1.0),
    transfer=TransferRecipe(head="zero", reuse_value=False),
)


@pytest.mark.parametrize("recipe", [*RECIPES.values(), Recipe(env="x"), EVERYTHING])
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    text = json.dumps(dataclasses.asdict(recipe), allow_nan=False)
    assert recipe_from_json(json.loads(text)) == recipe


def test_whole_numbers_may_stand_for_fractions() -> None:
    value = dataclasses.asdict(Recipe(env="x"))
    value["agent"]["gamma"] = 1
    assert recipe_from_json(json.loads(json.dumps(value))).agent.gamma == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(env="x", generations=0), "generations should be at least 1. Received 0"),
        (lambda: Recipe(env="x", steps_per_skill=-5), "steps_per_skill .* Received -5"),
        (
            lambda: Recipe(env="x", algorithm="sac", steps_per_skill=200),
            "learning_starts should be less than the 200 steps .* Received 10,000",
        ),
        (lambda: RewardRecipe(batch_size=2), "batch_size should be at least 4. Received 2"),
        (lambda: RewardRecipe(learning_rate=math.nan), "learning_rate .* Received nan"),
        (lambda: GuideRecipe(until=1.5), r"until should be in \[0.0, 1.0\]. Received 1.5"),
        (lambda: GuideRecipe(max_steps=-1), "max_steps .* Received -1"),
        (lambda: AgentRecipe(gamma=1.01), r"gamma should be in \[0.0, 1.0\]. Received 1.01"),
        (lambda: AgentRecipe(n_epochs=0), "n_epochs .* Received 0"),
        (lambda: SampleRecipe(exploration_std=0.0), "exploration_std .* Received 0.0"),
        (
            lambda: SampleRecipe(exploration="boldly"),  # type: ignore[arg-type]
            "exploration should be one of .*'uniform'. Received 'boldly'",
        ),
        (
            lambda: TransferRecipe(head="new"),  # type: ignore[arg-type]
            "head should be one of 'noise', 'zero', 'keep'. Received 'new'",
        ),
        (
            lambda: AgentRecipe(activation="gelu"),  # type: ignore[arg-type]
            "activation should be one of 'silu', 'tanh', 'relu'. Received 'gelu'",
        ),
    ],
)
def test_a_value_out_of_its_range_is_named(make: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make()


def places(value: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all fields of a nested recipe."""
    paths = []
    for name, item in value.items():
        paths.append((*prefix, name))
        if isinstance(item, dict) and name != "env_kwargs":
            paths += places(item, (*prefix, name))
    return paths


def described() -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(EVERYTHING)))


def test_fields_that_lack_take_their_defaults_and_unknown_ones_are_named() -> None:
    for *parents, name in places(described()):
        value = described()
        inner, expected = value, EVERYTHING
        for parent in parents:
            inner, expected = inner[parent], getattr(expected, parent)
        del inner[name]
        if name == "env":  # the only one without a default
            with pytest.raises(InvalidValueError, match="lacks fields or has unknown ones: env"):
                recipe_from_json(value)
        else:
            found: Any = recipe_from_json(value)
            for parent in parents:
                found = getattr(found, parent)
            default = getattr(functools.reduce(getattr, parents, Recipe("x")), name)
            assert found == dataclasses.replace(expected, **{name: default})
        inner["novelty"] = 1
        with pytest.raises(InvalidValueError, match="novelty"):
            recipe_from_json(value)


def test_values_of_another_type_are_refused() -> None:
    hostile: list[Any] = [None, "ten", True, 1.5, -math.inf, [], ["a"], [[1]], {}, {"a": 1}]
    for *parents, name in places(described()):
        for item in hostile:
            value = described()
            inner = value
            for parent in parents:
                inner = inner[parent]
            kind = type(inner[name])
            inner[name] = item
            if type(item) is kind and not (isinstance(item, dict) and name != "env_kwargs"):
                continue  # right in type, and where it is out of range, that is tested above
            if (name, item) == ("hidden", []):
                continue  # no hidden layers
            if kind is dict and item == {}:
                continue  # a group that an earlier version did not have
            with pytest.raises(InvalidValueError):
                recipe_from_json(value)


@pytest.mark.parametrize("value", [None, [], "recipe", 1])
def test_what_is_no_recipe_at_all_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValueError, match="recipe should be an object"):
        recipe_from_json(value)


def test_recipes_cannot_be_changed_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe_for("x").generations = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "name", ["num_envs", "num_threads", "autoreset_mode", "render_mode", "saves_states"]
)
def test_arguments_that_the_loop_sets_itself_are_refused(name: str) -> None:
    with pytest.raises(InvalidValueError, match=f"env_kwargs cannot hold {name}"):
        Recipe("HalfCheetah-v5", env_kwargs={name: 3})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_settings_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InvalidValueError, match="target should be finite"):
        RewardRecipe(target=value)
