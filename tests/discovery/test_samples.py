import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from skillrl.agents import SkillPolicy
from skillrl.discovery.recipes import SampleRecipe
from skillrl.discovery.samples import (
    asked_for,
    disturbed,
    episode_limit,
    episodes,
    explore,
    far,
    follow,
    gather_negatives,
    gather_positives,
    least_asked,
    liveliest,
    one_cluster,
    one_way,
    persistence,
    told_apart_by,
)
from skillrl.envs import MazeVectorEnv, NeuralRewardVectorWrapper
from skillrl.errors import InvalidValueError

MakeLines = Callable[..., SyncVectorEnv]
RECIPE = SampleRecipe(num_envs=4, negative_steps=3, positive_steps=4, positive_repeats=2)


def walker(pace: float, noise: float = 1e-3) -> SkillPolicy:
    """A policy that walks at a pace in [-1, 1], whatever it observes."""
    torch.manual_seed(0)
    policy = SkillPolicy(
        spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-1.0, 1.0, (1,)), lambda _: 0.0, hidden=(4,)
    )
    with torch.no_grad():
        policy.action_net.weight.zero_()
        mean = 50.0 * pace if abs(pace) == 1 else np.arctanh(pace)
        raw_std = np.log(np.expm1(noise)) if noise > 1e-3 else -50.0
        policy.action_net.bias.copy_(torch.tensor([mean, raw_std]))
    return policy


def maze_policy() -> SkillPolicy:
    torch.manual_seed(0)
    space = spaces.Box(0, 31, (2,), np.int64)
    return SkillPolicy(space, spaces.Discrete(5), lambda _: 0.0, hidden=(4,))


def test_negatives_are_all_that_the_policy_visits(lines: MakeLines) -> None:
    visited, last, *_ = gather_negatives(lines(4), walker(1.0), RECIPE, seed=20)
    # Environment i starts at i and walks three steps of 1; the start is visited too.
    expected = [[i + step, step] for step in range(4) for i in range(4)]
    np.testing.assert_allclose(visited, expected, atol=1e-5)
    np.testing.assert_allclose(last, [[i + 3, 3] for i in range(4)], atol=1e-5)


def test_negatives_hold_what_an_episode_ended_with(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, negative_steps=7)
    visited, last, *_ = gather_negatives(lines(4, limit=3), walker(1.0), recipe, seed=20)
    steps = visited[:, 1].reshape(8, 4)
    assert steps[:, 0].tolist() == [0, 1, 2, 3, 1, 2, 3, 1]
    assert visited[:, 0].reshape(8, 4)[3].tolist() == pytest.approx([3, 4, 5, 6])
    # The environments themselves have gone on to their third episode.
    assert last[:, 1].tolist() == [1] * 4


def test_half_of_the_negatives_are_without_noise(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, num_envs=8, negative_steps=10)
    visited = gather_negatives(lines(8), walker(0.5, noise=1.0), recipe, seed=0).visited
    place = visited[:, 0].reshape(11, 8) - np.arange(8)
    np.testing.assert_allclose(place[:, 4:], np.arange(11)[:, None].repeat(4, 1) * 0.5, atol=1e-4)
    assert (np.abs(place[1:, :4] - place[1:, 4:]) > 1e-3).all()


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
    assert followed.starts.tolist() == [False] * 3 + ["end" in ends]
    gather_positives(env, policy, recipe, followed, seed=20)


def test_positives_follow_episodes_that_have_earned_enough(lines: MakeLines) -> None:
    # Environment i starts at i, walks to i + 3 and earns 1 where it is beyond 3.5: 0, 1, 2 and 3
    # in all, the first one nothing.
    def score(seen: np.ndarray) -> np.ndarray:
        return (seen[:, 0] > 3.5).astype(float)

    recipe = dataclasses.replace(RECIPE, positive_repeats=1, exploration_std=0.01)
    for earned, counted in ((0.0, {0, 1, 2, 3}), (1.0, {1, 2, 3}), (2.5, {3}), (9.0, {0, 1, 2, 3})):
        recipe = dataclasses.replace(recipe, earned=earned)
        env = lines(4)
        followed = gather_negatives(env, walker(1.0), recipe, 20, score)
        assert followed.earned.tolist() == [0, 1, 2, 3]
        _, explorations = gather_positives(env, walker(1.0), recipe, followed, 20, score)
        assert {*explorations.tolist()} == counted


def test_what_earlier_episodes_earned_does_not_count(lines: MakeLines) -> None:
    recipe = dataclasses.replace(RECIPE, negative_steps=7)
    env = lines(4, limit=3)
    followed = gather_negatives(env, walker(1.0), recipe, 20, lambda seen: np.ones(len(seen)))
    # Two episodes of three steps are over, and one step of the third is done.
    assert followed.earned.tolist() == [1] * 4


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
    repeats = [env.steps[9 + 6 * repeat] for repeat in range(3)]
    for position, _ in repeats:
        np.testing.assert_array_equal(position, followed.last)
    assert len(np.unique(followed.last, axis=0)) > 5
    # Each repeat tries something else.
    assert not np.array_equal(repeats[0][1], repeats[1][1])
    assert not np.array_equal(repeats[1][1], repeats[2][1])


def test_uniform_exploration_takes_all_actions_alike() -> None:
    torch.manual_seed(0)
    recipe = SampleRecipe(exploration="uniform")
    act = explore(maze_policy(), recipe, spaces.Discrete(5))
    actions = np.concatenate([act(np.ones((100, 2), np.int64)) for _ in range(50)])
    counts = np.bincount(actions, minlength=5)
    assert (np.abs(counts - 1_000) < 4 * np.sqrt(800)).all()
    box = explore(walker(0.0), recipe, spaces.Box(-1.0, 1.0, (1,)))
    torch.manual_seed(0)
    values = np.concatenate([box(np.zeros((100, 2), np.float32)) for _ in range(50)])
    assert np.histogram(values, 4, (-1, 1))[0] == pytest.approx([1_250] * 4, abs=130)


def test_discrete_actions_are_explored_uniformly_in_any_recipe() -> None:
    act = explore(maze_policy(), SampleRecipe(), spaces.Discrete(5))
    assert set(act(np.ones((100, 2), np.int64)).tolist()) == {0, 1, 2, 3, 4}


def test_scaled_noise_is_the_policys_own_made_larger() -> None:
    torch.manual_seed(0)
    act = explore(walker(0.5), SampleRecipe(exploration_std=0.8), spaces.Box(-1.0, 1.0, (1,)))
    before = np.arctanh(act(np.zeros((10_000, 2), np.float32))[:, 0])
    assert before.std() == pytest.approx(0.8, rel=0.03)
    assert before.mean() == pytest.approx(np.arctanh(0.5), abs=0.03)


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


def test_following_without_noise_takes_the_mean_action() -> None:
    policy, observations = walker(0.5, noise=1.0), np.zeros((3, 2), np.float32)
    assert follow(policy, deterministic=True)(observations) == pytest.approx(0.5)
    assert np.std(follow(policy)(observations)) > 1e-3


def test_an_evaluation_worked_by_hand(lines: MakeLines) -> None:
    # Environment i starts at 4 + i and needs 6 − i steps to reach 10. Its observations are
    # 5 + i … 10, each paid by a tenth of itself: 45, 40, 34 and 27 in tenths.
    env = NeuralRewardVectorWrapper(lines(4, end=9.999), lambda seen: seen[:, 0] / 10)
    mean_reward, task_return = episodes(env, walker(1.0), 24, max_steps=99, deterministic=True)
    assert mean_reward == pytest.approx((4.5 + 4.0 + 3.4 + 2.7) / (6 + 5 + 4 + 3), abs=1e-4)
    assert task_return == pytest.approx((6 + 5 + 4 + 3) / 4)


def test_an_evaluation_counts_the_first_episode_only(lines: MakeLines) -> None:
    # The walkers stand still; the one that starts at 9 would end its episodes at once.
    env = NeuralRewardVectorWrapper(lines(2, end=8.5, limit=6), lambda seen: seen[:, 1])
    mean_reward, task_return = episodes(env, walker(0.0), 28, max_steps=99, deterministic=True)
    assert mean_reward == pytest.approx((1 + 2 + 3 + 4 + 5 + 6 + 1) / 7)
    assert task_return == pytest.approx((6 + 1) / 2)


def test_an_episode_without_an_end_is_evaluated_for_its_first_steps(lines: MakeLines) -> None:
    env = NeuralRewardVectorWrapper(lines(2, limit=10**9), lambda seen: seen[:, 1])
    mean_reward, task_return = episodes(env, walker(0.0), seed=0, max_steps=4, deterministic=True)
    assert mean_reward == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert task_return == 4


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


def test_the_limit_of_gymnasiums_own_vector_environment_is_known() -> None:
    env = gym.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    assert episode_limit(env) == 500
    env.close()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_is_named(value: float) -> None:
    observations = np.array([[0.0, 1.0], [2.0, value]], np.float32)
    with pytest.raises(InvalidValueError, match=rf"not finite: \[ *2\. +{value}\]"):
        follow(walker(1.0))(observations)


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


def test_one_way_is_all_of_some_explorations_that_are_alike() -> None:
    rng = np.random.default_rng(0)
    # 30 explorations of 10 observations: a gait, whose phases differ more than the three places
    # that it is walked at.
    place = np.repeat([0.0, 2.0, 4.0], [8, 10, 12])
    phase = 50.0 * np.sin(np.linspace(0.0, 2 * np.pi, 10, endpoint=False))
    points = np.stack(
        [np.tile(phase, 30), np.repeat(place, 10) + rng.normal(0.0, 0.1, 300)], axis=1
    )
    explorations = np.repeat(np.arange(30), 10)
    order = rng.permutation(300)
    chosen = set()
    for seed in range(20):
        rows = one_way(points[order], explorations[order], 3, np.random.default_rng(seed))
        kept = explorations[order][rows]
        members = np.flatnonzero(place == place[kept[0]])
        np.testing.assert_array_equal(np.sort(kept), np.repeat(members, 10))
        chosen.add(place[kept[0]])
    assert chosen == {0.0, 2.0, 4.0}


def test_explorations_that_are_all_the_same_are_one_way() -> None:
    points, explorations = np.ones((40, 2)), np.repeat(np.arange(8), 5)
    rows = one_way(points, explorations, 4, np.random.default_rng(0))
    assert rows.all()


def moving(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Thirty explorations of forty steps, time by time.

    Component 0 rests at a place of its own in each exploration, 1 drifts at a speed of its own
    around which it swings, and 2 only swings.
    """
    rng = np.random.default_rng(seed)
    place, speed = rng.permutation(30.0 + np.arange(30)), rng.permutation(np.arange(30) - 14.5)
    swing = np.sin(2 * np.pi * np.arange(40) / 20)[:, None]
    points = np.stack(
        [
            place + 0.1 * rng.normal(size=(40, 30)),
            0.5 * speed + 15.0 * swing * rng.choice([-1, 1], 30),
            20.0 * swing * rng.choice([-1, 1], 30),
        ],
        axis=-1,
    )
    return points.reshape(-1, 3), np.tile(np.arange(30), 40)


def test_postures_persist_and_oscillations_do_not() -> None:
    posture, drift, swing = persistence(*moving())
    assert posture > 0.99
    # Variance between: 0.5² (30² - 1) / 12; within: half of 15².
    between = 0.25 * (30**2 - 1) / 12
    assert drift == pytest.approx(between / (between + 15.0**2 / 2), rel=1e-6)
    assert swing == pytest.approx(0.0, abs=1e-12)
    points, explorations = moving()
    assert persistence(1e-4 * points, explorations).tolist() == [0.0, 0.0, 0.0]


def test_directions_are_asked_for_in_turn_the_liveliest_first() -> None:
    points, explorations = moving()
    # One exploration goes much farther up in what drifts, one farther down in what rests.
    points[explorations == 3, 1] += 100.0
    points[explorations == 4, 0] -= 100.0
    earlier: list[str] = []
    for _ in range(6):
        earlier.append(least_asked(points, explorations, 0.1, earlier)[0])
    # Component 2 only oscillates.
    assert earlier == ["+1", "-1", "-0", "+0", "+1", "-1"]
    assert least_asked(points[:, 2:], explorations, 0.1, []) == []


@pytest.mark.parametrize("sign", ["+", "-"])
def test_what_goes_far_is_explorations_of_what_persists(sign: str) -> None:
    points, explorations = moving()
    places = np.array([points[explorations == n, 0].mean() for n in range(30)])
    farthest = np.argsort(places if sign == "-" else -places)[:5]
    # Of these five two are of another kind, which shows in another component.
    points[np.isin(explorations, farthest[:2]), 2] += 500.0
    wanted = far(points, explorations, f"{sign}0", 5 / 30)
    assert set(explorations[wanted]) == set(farthest[2:])
    assert wanted.sum() == 3 * 40


def test_what_is_fast_at_first_only_does_not_go_far() -> None:
    points, explorations = moving()
    step = np.repeat(np.arange(40), 30)
    points[(explorations == 3) & (step < 20), 0] += 1_000.0
    points[(explorations == 4) & (step >= 20), 0] += 100.0
    assert set(explorations[far(points, explorations, "+0", 1 / 30)]) == {4}


def test_what_goes_far_is_single_observations_of_what_does_not_persist() -> None:
    points, explorations = moving()
    wanted = far(points, explorations, "-2", 0.1)
    assert points[wanted, 2].max() < -18.0
    assert len(set(explorations[wanted])) == 30


@pytest.mark.parametrize("kind", ["all", "ways", "lively ways", "directions"])
def test_what_is_asked_for(kind: str) -> None:
    points, explorations = moving()
    recipe, rng = SampleRecipe(clusters=3, lively=0.5), np.random.default_rng(0)
    wanted, name = asked_for(kind, points, explorations, recipe, rng, ["+1", "-1"])
    assert name in (("+0", "-0") if kind == "directions" else (kind,))
    if kind == "all":
        assert wanted.all()
    else:
        # Whole explorations.
        assert 0 < wanted.sum() < len(wanted)
        assert all(len(set(wanted[explorations == n])) == 1 for n in range(30))


def test_images_and_what_only_oscillates_have_no_directions() -> None:
    points, explorations = moving()
    recipe, rng = SampleRecipe(clusters=3), np.random.default_rng(0)
    assert asked_for("directions", points[:, 2:], explorations, recipe, rng)[1] == "ways"
    images = np.repeat(points[:, 0].astype(np.uint8), 4).reshape(-1, 1, 2, 2)
    assert asked_for("directions", images, explorations, recipe, rng)[1] == "ways"


def test_the_liveliest_explorations_change_most_from_step_to_step() -> None:
    # Ten explorations of eight steps, each with its own pace, row by row as they are gathered; one
    # that is far away but still, and one that ended after three steps.
    steps, pace = np.arange(8), np.arange(10.0)
    points = np.concatenate([1_000.0 * (pace == 0) + pace * step for step in steps])[:, None]
    explorations = np.tile(np.arange(10), 8)
    kept = (explorations != 9) | (np.arange(80) < 30)
    rows = liveliest(points[kept], explorations[kept], 0.3)
    assert set(explorations[kept][rows]) == {7, 8, 9}
    assert rows.sum() == 8 + 8 + 3


def test_one_cluster_is_one_of_those_that_are_not_tiny() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat([0.0, 5.0, 10.0], [60, 59, 1])
    points = (centres + rng.normal(0.0, 0.1, 120))[:, None]
    chosen = set()
    for seed in range(20):
        rows = one_cluster(points, 3, np.random.default_rng(seed))
        (centre,) = set(centres[rows])
        assert rows.sum() == (centres == centre).sum()
        chosen.add(centre)
    assert chosen == {0.0, 5.0}


def test_disturbed_copies_move_in_ways_of_their_own() -> None:
    torch.manual_seed(0)
    policy = SkillPolicy(
        spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-1.0, 1.0, (1,)), lambda _: 0.0, hidden=(64,)
    )
    observations = np.random.default_rng(0).normal(size=(4_000, 2)).astype(np.float32)
    act = disturbed(policy, 0.5)
    before_tanh = np.arctanh(act(observations)[:, 0].astype(float))
    mean = np.arctanh(follow(policy, deterministic=True)(observations)[:, 0].astype(float))
    assert (before_tanh - mean).std() == pytest.approx(0.5, rel=0.05)
    # Each copy does the same again where it sees the same …
    np.testing.assert_array_equal(act(observations), np.tanh(before_tanh[:, None]).astype("f4"))
    # … and another one something else.
    same = np.full((4_000, 2), 3.0, np.float32)
    assert np.std(act(same)) > 0.1
    assert not np.array_equal(disturbed(policy, 0.5)(observations), act(observations))


def test_parameter_noise_is_drawn_anew_for_every_repeat() -> None:
    torch.manual_seed(0)
    recipe = SampleRecipe(exploration="parameter-noise", exploration_std=2.0)
    acts = [explore(walker(0.0), recipe, spaces.Box(-1.0, 1.0, (1,))) for _ in range(2)]
    observations = np.ones((50, 2), np.float32)
    assert not np.array_equal(acts[0](observations), acts[1](observations))


def test_groups_told_apart_by_a_component_differ_in_nothing_else() -> None:
    rng = np.random.default_rng(0)
    # Positives are fast and crouch; the others are neither.
    positives = np.array([[5.0, 1.0], [6.0, 1.0], [7.0, 1.0]])
    others = np.array([[0.0, 0.0], [1.0, 0.0]])
    fast, slow = told_apart_by(0, positives, others, rng)
    assert fast.shape == slow.shape == (5, 2)
    assert np.array_equal(fast[:3], positives) and np.array_equal(slow[:2], others)
    assert {*fast[:, 0]} <= {5.0, 6.0, 7.0} and {*slow[:, 0]} <= {0.0, 1.0}
    assert sorted(fast[:, 1]) == [0, 0, 1, 1, 1] and sorted(slow[:, 1]) == [0, 0, 1, 1, 1]
    assert told_apart_by(0, positives, others[:0], rng)[1].shape == (0, 2)
