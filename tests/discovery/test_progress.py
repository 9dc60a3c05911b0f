"""When the training of a skill ends."""

import dataclasses

import pytest

from runs import small
from skillrl.discovery.progress import (
    Progress,
    converged,
    ending,
    helped_until,
    may_try_again,
    too_little,
    untouched,
)
from skillrl.discovery.settings import RestartRecipe

# Rollouts of 128 steps: windows of two of them.
RECIPE = dataclasses.replace(
    small("HalfCheetah-v5"), steps_per_skill=20 * 8 * 16, patience=0.1, attempts=3
)
UNGUIDED = dataclasses.replace(RECIPE, guide=dataclasses.replace(RECIPE.guide, max_steps=0))


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ((2.0, 2.0, 2.0, 2.0), True),
        ((2.0, 2.0, 2.04, 2.04), True),  # 0.04 is less than a fiftieth of 5
        ((2.0, 2.0, 2.2, 2.2), False),
        ((2.0, 2.0, 2.0), False),  # two windows of two rollouts are not there yet
        ((9.0, 2.0, 2.0, 2.0, 2.0), True),
        ((0.9, 0.9, 0.9, 0.9), False),  # not live yet: less than a fifth of 5
        ((3.0, 3.0, 2.0, 2.0), True),
    ],
)
def test_training_has_converged_when_the_reward_stops_to_grow(
    rewards: tuple[float, ...], expected: bool
) -> None:
    progress = Progress(0, 0, rewards=rewards)
    assert converged(UNGUIDED, progress, steps=1_000) is expected
    assert not converged(dataclasses.replace(UNGUIDED, patience=0.0), progress, steps=1_000)


def test_what_was_earned_with_help_does_not_count() -> None:
    # Guided or restarted episodes begin where the reward is: it may have to be found without them.
    progress = Progress(0, 0, rewards=(2.0,) * 20)
    guide = dataclasses.replace(RECIPE.guide, max_steps=10, until=0.5)
    restarts = RestartRecipe(share=0.5, until=0.5)
    for recipe in (
        dataclasses.replace(RECIPE, guide=guide),
        dataclasses.replace(UNGUIDED, restarts=restarts),
    ):
        # Half of the steps, and two windows of two rollouts after it.
        assert not converged(recipe, progress, steps=1_280 + 4 * 128 - 1)
        assert converged(recipe, progress, steps=1_280 + 4 * 128)


@pytest.mark.parametrize(
    ("ending_from", "expected"), [(None, (600, 1_000)), (100, (100, 500)), (700, (600, 1_000))]
)
def test_noise_shrinks_for_as_long_wherever_the_ending_begins(
    ending_from: int | None, expected: tuple[int, int]
) -> None:
    agent = dataclasses.replace(RECIPE.agent, anneal_from=0.6)
    recipe = dataclasses.replace(RECIPE, steps_per_skill=1_000, agent=agent)
    assert ending(recipe, Progress(0, 0, ending_from=ending_from)) == expected


@pytest.mark.parametrize(
    ("steps", "best", "attempt", "expected"),
    [
        (512, 0.09, 0, True),  # a fifth of the steps, less than a fiftieth of 5
        (511, 0.09, 0, False),
        (512, 0.11, 0, False),
        (512, 0.09, 1, True),
        (512, 0.09, 2, False),  # the last attempt
    ],
)
def test_a_reward_is_given_up_when_it_is_not_met(
    steps: int, best: float, attempt: int, expected: bool
) -> None:
    progress = Progress(0, 0, attempt=attempt, rewards=(0.0, best, 0.01))
    assert untouched(RECIPE, progress, steps) is expected
    assert may_try_again(RECIPE, progress) is (attempt < 2)


@pytest.mark.parametrize(
    ("rewards", "extensions", "expected"),
    [
        ((0.0,) * 18 + (2.4, 2.4), 0, True),  # the last tenth earns less than half of 5
        ((0.0,) * 18 + (2.6, 2.6), 0, False),
        ((9.0,) * 18 + (2.4, 2.4), 1, True),
        ((2.4,) * 20, 2, False),  # as often as allowed
        ((0.09,) * 20, 0, False),  # it was never met
    ],
)
def test_training_goes_on_while_too_little_is_earned(
    rewards: tuple[float, ...], extensions: int, expected: bool
) -> None:
    recipe = dataclasses.replace(UNGUIDED, extensions=2, extension=640, extend_below=0.5)
    progress = Progress(0, 0, rewards=rewards, extensions=extensions)
    assert too_little(recipe, progress) is expected
    # Noise shrinks at the end of what there is, as long as it would have otherwise.
    begin, end = ending(recipe, Progress(0, 0))
    assert ending(recipe, progress) == (begin + 640 * extensions, end + 640 * extensions)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        # Of twenty rollouts sixteen are guided: of the last four the last two count.
        ((0.0,) * 18 + (2.4, 2.4), True),
        ((0.0,) * 18 + (2.6, 2.6), False),
        ((2.6,) * 18 + (2.4, 2.4), True),
    ],
)
def test_what_guided_episodes_earn_ends_no_training(
    rewards: tuple[float, ...], expected: bool
) -> None:
    guide = dataclasses.replace(RECIPE.guide, max_steps=10, until=0.8)
    recipe = dataclasses.replace(RECIPE, guide=guide, extensions=2, extend_below=0.5)
    assert too_little(recipe, Progress(0, 0, rewards=rewards)) is expected
    # Nine tenths guided, of forty: four are left, of which two count, not the last tenth.
    guide = dataclasses.replace(guide, until=0.9)
    recipe = dataclasses.replace(recipe, guide=guide, steps_per_skill=40 * 8 * 16)
    assert too_little(recipe, Progress(0, 0, rewards=(0.0,) * 36 + (5.0, 5.0, 1.0, 1.0)))


def test_extensions_are_guided_as_well() -> None:
    recipe = dataclasses.replace(RECIPE, steps_per_skill=1_000, extensions=2, extension=500)
    until = [helped_until(recipe, Progress(0, 0, extensions=n), 0.6) for n in range(3)]
    assert until == [600, 1_300, 1_800]
