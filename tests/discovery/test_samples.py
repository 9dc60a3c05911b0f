import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from skillrl.agents import SkillPolicy
from skillrl.discovery import samples
from skillrl.discovery.following import episode_limit
from skillrl.discovery.samples import gather_negatives, gather_positives
from skillrl.discovery.settings import SampleRecipe
from skillrl.envs import MazeVectorEnv
from skillrl.envs.wrapping import TransparentVectorWrapper
from skillrl.errors import InvalidValueError
from walkers import maze_policy, walker

MakeLines = Callable[..., SyncVectorEnv]
RECIPE = SampleRecipe(num_envs=4, negative_steps=3, positive_steps=4, positive_repeats=2)


def test_negatives_are_all_that_the_policy_visits(lines: MakeLines) -> None:
    visited, *_, (end,) = gather_negatives(lines(4), walker(1.0), RECIPE, seed=20)
    # Environment i starts at i and walks three steps of 1; the start is visited too.
    expected = [[i + step, step] for step in range(4) for i in range(4)]
    np.testing.assert_allclose(visited, expected, atol=1e-5)
    np.testing.assert_allclose(end.observations, [[i + 3, 3] for i in range(4)], atol=1e-5)


def test_negatives_hold_what_an_episode_ended_with(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, negative_steps=7)
    visited, *_, (end,) = gather_negatives(lines(4, limit=3), walker(1.0), recipe, seed=20)
    steps = visited[:, 1].reshape(8, 4)
    assert steps[:, 0].tolist() == [0, 1, 2, 3, 1, 2, 3, 1]
    assert visited[:, 0].reshape(8, 4)[3].tolist() == pytest.approx([3, 4, 5, 6])
    # The environments themselves have gone on to their third episode.
    assert end.observations[:, 1].tolist() == [1] * 4


class Lives(TransparentVectorWrapper):
    """Environments that lose a life every so many steps of an episode."""

    def __init__(self, env: Any, *every: int) -> None:
        super().__init__(env)
        self.every, self.age = np.array(every), np.zeros(len(every), int)

    def reset(self, **kwargs: Any) -> Any:
        """Reset the environments."""
        observations, infos = self.env.reset(**kwargs)
        self.age[:] = 0
        return observations, self._told(infos)

    def step(self, actions: Any) -> Any:
        """Step the environments."""
        *outcome, infos = self.env.step(actions)
        self.age = np.where(outcome[2] | outcome[3], 0, self.age + 1)
        return (*outcome, self._told(infos))

    def _told(self, infos: dict[str, Any]) -> dict[str, Any]:
        return {**infos, "lives": 6 - self.age // self.every}


def test_it_is_told_where_later_lives_begin(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, num_envs=3, negative_steps=85)
    env = Lives(lines(3, limit=60), 25, 19, 99)
    followed = gather_negatives(env, walker(1.0), recipe, seed=20)
    # Lives of 25 steps began at steps 25, 50 and, of the next episode, 85; others were too short,
    # until their episode ended, or the only ones.
    begins = followed.visited[followed.begins]
    assert begins[..., 1].tolist() == [[*range(25, 45)]]
    assert (begins[..., 0] - begins[..., 1]).round().tolist() == [[0] * 20]
    assert (followed.begins[:, 0] // 3).tolist() == [25]


def test_the_way_to_a_life_lost_does_not_count(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, num_envs=2, positive_steps=9, before_end=2)
    env = Lives(lines(2, limit=99), 8, 99)
    followed = gather_negatives(env, walker(1.0), recipe, seed=20)
    positives, explorations = gather_positives(env, walker(1.0), recipe, followed, seed=20)
    # Of steps 4 to 12 the life is lost in the eighth.
    first = positives[explorations == 0][:, 1]
    assert first.tolist() == [4, 5, *range(8, 13)]
    assert positives[explorations == 1][:, 1].tolist() == [*range(4, 13)]


def test_a_time_limit_is_no_life_lost(lines: MakeLines) -> None:
    recipe = SampleRecipe(
        num_envs=1, negative_steps=3, positive_steps=9, positive_repeats=1, before_end=2
    )
    # A life is won every three steps, and the next episode begins with six again.
    env = Lives(lines(1, limit=8), -3)
    followed = gather_negatives(env, walker(1.0), recipe, seed=20)
    positives, _ = gather_positives(env, walker(1.0), recipe, followed, seed=20)
    assert positives[:, 1].tolist() == [4, 5, 6, 7]


def test_half_of_the_negatives_are_without_noise(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, num_envs=8, negative_steps=10)
    visited = gather_negatives(lines(8), walker(0.5, noise=1.0), recipe, seed=0).visited
    place = visited[:, 0].reshape(11, 8) - np.arange(8)
    np.testing.assert_allclose(place[:, 4:], np.arange(11)[:, None].repeat(4, 1) * 0.5, atol=1e-4)
    assert (np.abs(place[1:, :4] - place[1:, 4:]) > 1e-3).all()


def test_all_negatives_are_with_noise_where_skills_have_it() -> None:
    policy = maze_policy()
    assert not policy.noiseless
    env = Recorded(50)
    gather_negatives(env, policy, RECIPE, seed=0)
    # Without noise all environments would have taken the same step from the same cell.
    first = env.steps[0][1]
    assert len(np.unique(first[:25])) > 1 and len(np.unique(first[25:])) > 1


def test_positives_begin_where_the_policy_led_and_end_with_the_episode(lines: MakeLines) -> None:
    # Three steps are followed, the fourth is explored, the fifth ends the episode.
    env = lines(4, limit=5)
    followed = gather_negatives(env, walker(1.0), RECIPE, seed=20)
    positives, _ = gather_positives(env, walker(1.0), RECIPE, followed, seed=20)
    # Two repeats of four environments; without saved states the second one starts anew, with
    # seeds of its own: 24 to 27.
    assert positives[:, 1].tolist() == [4] * 8
    starts = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    assert (np.abs(positives[:, 0] - starts - 3) <= 1.0).all()


def test_positives_are_cut_at_the_first_termination_of_each_environment(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, positive_repeats=1, exploration_std=0.01)
    env = lines(4, end=6.5)
    followed = gather_negatives(env, walker(1.0), recipe, seed=20)
    positives, _ = gather_positives(env, walker(1.0), recipe, followed, seed=20)
    # Environment i is at 3 + i and goes on by 1: 3, 2, 1 and 0 observations before 6.5.
    expected = [[4, 4], [5, 4], [6, 4], [5, 5], [6, 5], [6, 6]]
    np.testing.assert_allclose(positives, expected, atol=1e-4)


class Counter(SkillPolicy):
    """Walks, and remembers how many steps of the episode it has seen."""

    def predict(self, observation: Any, state: Any = None, *arguments: Any) -> Any:
        starts = arguments[0]
        before = np.zeros(len(observation), int) if state is None else state[0]
        count = np.where(starts, 0, before) + 1
        # Steps are counted from 0, in the observation.
        assert (count == observation[:, 1] + 1).all()
        return np.ones((len(observation), 1), np.float32), (count,)


@pytest.mark.parametrize("exploration", ["scaled-noise", "parameter-noise"])
@pytest.mark.parametrize(
    ("ends", "steps"),
    # The second episodes have begun, or the last environment's begins with the last observation.
    [({}, 7), ({"limit": 7}, 9), ({"end": 9.5}, 7)],
)
def test_exploration_remembers_the_way_to_where_it_begins(
    exploration: Any, ends: dict[str, Any], steps: int, lines: MakeLines
) -> None:
    recipe = dataclasses.replace(
        RECIPE, negative_steps=steps, positive_steps=3, exploration=exploration
    )
    env, policy = lines(4, **ends), walker(1.0)
    policy.__class__ = Counter
    followed = gather_negatives(env, policy, recipe, seed=20)
    assert followed.moments[0].starts.tolist() == [False] * 3 + ["end" in ends]
    gather_positives(env, policy, recipe, followed, seed=20)


def test_what_comes_just_before_a_termination_does_not_count(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, positive_repeats=1, exploration_std=0.01, before_end=1)
    for end, expected in (
        ({"end": 6.5}, [[4, 4], [5, 4], [5, 5]]),
        ({"limit": 5}, [[4, 4], [5, 4], [6, 4], [7, 4]]),  # the time is up: nothing was lost
    ):
        env = lines(4, **end)
        followed = gather_negatives(env, walker(1.0), recipe, seed=20)
        positives, _ = gather_positives(env, walker(1.0), recipe, followed, seed=20)
        np.testing.assert_allclose(positives, expected, atol=1e-4)


def test_positives_follow_episodes_that_have_earned_enough(
    lines: MakeLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Environment i starts at i, walks to i + 3 and earns 1 where it is beyond 3.5: 0, 1, 2 and 3
    # in all, the first one nothing; and then 1 in each of four steps of exploration.
    def score(seen: np.ndarray) -> np.ndarray:
        return (seen[:, 0] > 3.5).astype(float)

    recipe = dataclasses.replace(RECIPE, positive_repeats=1, exploration_std=0.01)
    for earned, enough, counted in (
        (0.0, 0.05, [4, 4, 4, 4]),
        (2.5, 0.05, [2, 3, 4, 4]),
        (5.5, 0.05, [0, 0, 1, 2]),
        (6.5, 0.05, [0, 0, 1, 2]),  # which one has earned: the second has 6, and so has another
        (9.0, 0.05, [0, 0, 1, 2]),
        (6.5, 0.5, [1, 2, 3, 4]),  # which one has earned: half of them are to count, and have 4
    ):
        monkeypatch.setattr(samples, "_ENOUGH", enough)
        recipe = dataclasses.replace(recipe, earned=earned)
        env = lines(4)
        followed = gather_negatives(env, walker(1.0), recipe, 20, score)
        assert followed.moments[0].earned.tolist() == [0, 1, 2, 3]
        _, explorations = gather_positives(env, walker(1.0), recipe, followed, 20, score)
        assert np.bincount(explorations, minlength=4).tolist() == counted


def test_a_few_that_have_earned_enough_are_enough(lines: MakeLines) -> None:
    # Environment i walks to i + 3, explores to i + 43, and earns 1 where it is beyond 45.5: the
    # last one 7, the one before it 6. Of 15 of 400 observations the episode has earned 2.5.
    def score(seen: np.ndarray) -> np.ndarray:
        return (seen[:, 0] > 45.5).astype(float)

    recipe = SampleRecipe(
        num_envs=10,
        negative_steps=3,
        positive_steps=40,
        positive_repeats=1,
        exploration_std=0.01,
        earned=2.5,
    )
    env = lines(10)
    followed = gather_negatives(env, walker(1.0), recipe, 20, score)
    _, explorations = gather_positives(env, walker(1.0), recipe, followed, 20, score)
    assert np.bincount(explorations, minlength=10).tolist() == 5 * [0] + [1, 2, 3, 4, 5]


def test_what_earlier_episodes_earned_does_not_count(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, negative_steps=7)
    env = lines(4, limit=3)
    followed = gather_negatives(env, walker(1.0), recipe, 20, lambda seen: np.ones(len(seen)))
    # Two episodes of three steps are over, and one step of the third is done.
    assert followed.moments[0].earned.tolist() == [1] * 4
    assert followed.lasts == 3


class Recorded(MazeVectorEnv):
    """A maze that remembers where each step began and which action was taken."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def step(self, actions: np.ndarray) -> Any:
        self.steps.append((self.get_state()["observations"].copy(), np.array(actions)))
        return super().step(actions)


def test_exploration_is_repeated_from_the_same_states_where_they_can_be_restored() -> None:
    env = Recorded(50)
    recipe = SampleRecipe(
        num_envs=50, negative_steps=9, positive_steps=6, positive_repeats=3, exploration="uniform"
    )
    followed = gather_negatives(env, maze_policy(), recipe, seed=0)
    positives, _ = gather_positives(env, maze_policy(), recipe, followed, seed=0)
    assert positives.shape == (3 * 6 * 50, 2)
    # The policy was followed once only.
    assert len(env.steps) == 9 + 3 * 6
    end = followed.moments[0].observations
    repeats = [env.steps[9 + 6 * repeat] for repeat in range(3)]
    for position, _ in repeats:
        np.testing.assert_array_equal(position, end)
    assert len(np.unique(end, axis=0)) > 5
    # Each repeat tries something else.
    assert not np.array_equal(repeats[0][1], repeats[1][1])
    assert not np.array_equal(repeats[1][1], repeats[2][1])


def test_exploration_may_set_out_from_moments_on_the_way(lines: MakeLines) -> None:
    recipe = dataclasses.replace(
        RECIPE,
        explores_from="way",
        negative_steps=10,
        positive_steps=4,
        positive_repeats=3,
        earned=4.0,
    )
    env = lines(4)
    followed = gather_negatives(env, walker(1.0), recipe, 20, _one)
    assert len(followed.visited) == 11 * 4
    # The last of them leaves four of the ten steps.
    assert [moment.observations[0, 1] for moment in followed.moments] == [2, 4, 6]
    positives, explorations = gather_positives(env, walker(1.0), recipe, followed, 20, _one)
    for repeat, begin in enumerate((2, 4, 6)):
        mine = positives[explorations == 4 * repeat]
        # Those count from which on four steps have been taken, and earned 1 each.
        assert mine[:, 1].tolist() == [step for step in range(begin + 1, begin + 5) if step >= 4]
        # Without saved states each begins anew, with seeds of its own: 20, 24 and 28.
        assert (np.abs(mine[:, 0] - (20 + 4 * repeat) % 10 - begin) <= mine[:, 1] - begin).all()


def _one(seen: np.ndarray) -> np.ndarray:
    return np.ones(len(seen))


def test_the_way_is_followed_once_where_states_can_be_restored() -> None:
    env = Recorded(50)
    recipe = SampleRecipe(
        num_envs=50,
        negative_steps=12,
        positive_steps=6,
        positive_repeats=3,
        explores_from="way",
        exploration="uniform",
    )
    followed = gather_negatives(env, maze_policy(), recipe, seed=0)
    gather_positives(env, maze_policy(), recipe, followed, seed=0)
    assert len(env.steps) == 12 + 3 * 6
    for repeat, moment in enumerate(followed.moments):
        # Where the policy was after 2, 4 and 6 steps.
        for begun in (2 * repeat + 2, 12 + 6 * repeat):
            np.testing.assert_array_equal(env.steps[begun][0], moment.observations)


def test_all_explorations_set_out_from_where_enough_was_earned() -> None:
    env = Recorded(50)
    recipe = SampleRecipe(
        num_envs=50,
        negative_steps=12,
        positive_steps=6,
        positive_repeats=3,
        explores_from="way",
        earned=3.0,
        exploration="uniform",
    )
    rich = np.arange(50) < 5

    def score(seen: np.ndarray) -> np.ndarray:
        return rich.astype(float)

    followed = gather_negatives(env, maze_policy(), recipe, 0, score)
    _positives, explorations = gather_positives(env, maze_policy(), recipe, followed, 0, score)
    # After 4 and 6 steps five environments have earned 3, after 2 steps none has.
    starts = np.concatenate([moment.observations[rich] for moment in followed.moments[1:]])
    possible = {tuple(position) for position in starts}
    begun = [env.steps[12 + 6 * repeat][0] for repeat in range(3)]
    assert {tuple(position) for position in np.concatenate(begun)} == possible
    # Not one exploration is in vain, and no two repeats are alike.
    assert len(np.unique(explorations)) == 150
    assert not np.array_equal(begun[0], begun[1])


class Restorable(TransparentVectorWrapper):
    """Walkers that can be put back to where they were, and remember where that was."""

    def __init__(self, env: SyncVectorEnv) -> None:
        super().__init__(env)
        self.walkers: list[Any] = [each.unwrapped for each in env.envs]
        self.begun: list[np.ndarray] = []

    def get_state(self) -> dict[str, np.ndarray]:
        return {"places": np.array([(each.place, each.steps) for each in self.walkers])}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.begun.append(state["places"])
        for each, (place, steps) in zip(self.walkers, state["places"], strict=True):
            each.place, each.steps = place, int(steps)


@pytest.mark.parametrize("pay", [0.0, 1.0])
def test_what_is_drawn_from_the_way_keeps_its_memory_and_its_place(
    pay: float, lines: MakeLines
) -> None:
    recipe = dataclasses.replace(
        RECIPE,
        negative_steps=12,
        positive_steps=3,
        positive_repeats=6,
        explores_from="way",
        earned=4.0,
    )
    env, policy = Restorable(lines(4, end=9.5)), walker(1.0)
    # It fails where what it remembers is not of the place it sees.
    policy.__class__ = Counter

    def score(seen: np.ndarray) -> np.ndarray:
        return np.full(len(seen), pay)

    followed = gather_negatives(env, policy, recipe, 20, score)
    # Episodes end at different times; one begins with a moment's last observation.
    steps = np.concatenate([moment.observations[:, 1] for moment in followed.moments])
    assert len(np.unique(steps)) > 4
    assert any(moment.starts.any() for moment in followed.moments)
    gather_positives(env, policy, recipe, followed, 20, score)
    begun = {int(step) for places in env.begun for step in places[:, 1]}
    # Where nothing is earned, all have earned as much as the best.
    assert begun <= {step for step in steps if step >= 4 * pay}
    assert len(begun) >= 3
    assert (0 in begun) == (pay == 0)


def test_one_lucky_episode_is_not_all_that_is_explored_from(lines: MakeLines) -> None:
    recipe = dataclasses.replace(
        RECIPE,
        negative_steps=10,
        positive_steps=4,
        positive_repeats=3,
        explores_from="way",
        earned=100.0,
    )
    env, pay = Restorable(lines(10)), np.array([20.0, *range(1, 10)])
    followed = gather_negatives(env, walker(1.0), recipe, 20, lambda seen: pay)
    assert [moment.step for moment in followed.moments] == [2, 4, 6]
    gather_positives(env, walker(1.0), recipe, followed, 20, lambda seen: pay)
    # The first has 120 after six steps, as no other has, and the most after four.
    begun = {(round(place), int(step)) for places in env.begun for place, step in places}
    assert begun == {(6, 6), (4, 4)}


@pytest.mark.parametrize("steps", [40, 39])
def test_a_way_is_longer_than_what_is_explored_from_it(steps: int) -> None:
    with pytest.raises(InvalidValueError, match=f"more than positive_steps.*40.*Received {steps}"):
        SampleRecipe(explores_from="way", negative_steps=steps, positive_steps=40)
    assert SampleRecipe(negative_steps=steps, positive_steps=40).explores_from == "end"


def test_samples_depend_on_torchs_seed_alone(lines: MakeLines) -> None:
    def gather(seed: int) -> np.ndarray:
        env = Recorded(20)
        recipe = SampleRecipe(num_envs=20, negative_steps=5, exploration="uniform")
        policy = maze_policy()
        torch.manual_seed(seed)
        followed = gather_negatives(env, policy, recipe, seed=0)
        positives, _ = gather_positives(env, policy, recipe, followed, seed=0)
        return np.concatenate([followed.visited, positives])

    np.testing.assert_array_equal(gather(1), gather(1))
    assert not np.array_equal(gather(1), gather(2))


@pytest.mark.parametrize(
    ("limit", "steps"),
    [
        (1_000, 300),  # an episode is longer than both
        (50, 260),  # five whole episodes, and ten steps of one that has forty left to explore
        (100, 260),
        (340, 300),
        (339, 299),
        (40, 300),  # exploration takes a whole episode: there is no better time to begin
        (None, 300),
    ],
)
def test_an_episode_has_room_left_to_explore(limit: int | None, steps: int) -> None:
    class Counting(MazeVectorEnv):
        count = 0

        def step(self, actions: np.ndarray) -> Any:
            self.count += 1
            return super().step(actions)

    recipe = SampleRecipe(num_envs=2, negative_steps=300, positive_steps=40)
    env = Counting(2, autoreset_mode=AutoresetMode.SAME_STEP, max_episode_steps=limit or -1)
    assert episode_limit(env) == limit
    followed = gather_negatives(env, maze_policy(), recipe, seed=0)
    assert (env.count, len(followed.visited)) == (steps, 2 * (steps + 1))
    positives, _ = gather_positives(env, maze_policy(), recipe, followed, seed=0)
    if limit is None or limit > 40:
        # All but the last step of those that end just then.
        assert len(positives) >= 8 * 2 * 39


def test_explorations_are_told_apart(lines: MakeLines) -> None:
    # Walkers 0 to 3 begin at 0 to 3; the fastest ends its episode before the others.
    env = lines(4, end=8.5)
    recipe = dataclasses.replace(RECIPE, positive_steps=3, exploration_std=0.01)
    followed = gather_negatives(env, walker(1.0), recipe, seed=20)
    positives, explorations = gather_positives(env, walker(1.0), recipe, followed, seed=20)
    assert len(explorations) == len(positives)
    for repeat in range(2):
        for index in range(4):
            mine = positives[explorations == 4 * repeat + index]
            # Each exploration is one walk, whose steps are counted one by one.
            assert (np.diff(mine[:, 1]) == 1).all()
            np.testing.assert_allclose(np.diff(mine[:, 0]), 1.0, atol=0.05)
