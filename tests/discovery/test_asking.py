import numpy as np
import pytest

from skillrl.discovery.asking import (
    DIRECTIONS,
    asked_for,
    far,
    lasting,
    least_asked,
    liveliest,
    one_cluster,
    one_way,
    persistence,
    told_apart_by,
)
from skillrl.discovery.settings import SampleRecipe


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


def test_velocities_are_not_of_what_turns_back_at_once() -> None:
    points, explorations = moving()
    # What drifts swings much more, too.
    points[:, 1] += points[:, 2]
    assert 0.03 < persistence(points, explorations)[1] < 0.1
    recipe, rng = SampleRecipe(clusters=3), np.random.default_rng(0)
    asked = [asked_for(kind, points, explorations, recipe, rng)[1] for kind in DIRECTIONS]
    assert [each[1] for each in asked] == ["1", "0"]
    rolling = points[:, 1:]
    assert asked_for("velocities", rolling, explorations, recipe, rng)[1] == "ways"


def test_what_is_new_is_asked_for_if_there_is_enough_of_it() -> None:
    points, explorations = moving()
    recipe, rng = SampleRecipe(), np.random.default_rng(0)
    # A seventh, or one in five hundred.
    for new in (np.arange(len(points)) % 7 == 3, np.arange(len(points)) % 500 < 2):
        wanted, name = asked_for("new cells", points, explorations, recipe, rng, new=new)
        assert name == "new cells"
        np.testing.assert_array_equal(wanted, new)
    # Hardly anything is, or vectors have no cells.
    for few in (np.arange(len(points)) == 3, None):
        wanted, name = asked_for("new cells", points, explorations, recipe, rng, new=few)
        assert name == "all"
        assert wanted.all()


def test_images_and_what_only_oscillates_have_no_directions() -> None:
    points, explorations = moving()
    recipe, rng = SampleRecipe(clusters=3), np.random.default_rng(0)
    assert asked_for("directions", points[:, 2:], explorations, recipe, rng)[1] == "ways"
    images = np.repeat(points[:, 0].astype(np.uint8), 4).reshape(-1, 1, 2, 2)
    assert asked_for("directions", images, explorations, recipe, rng)[1] == "ways"
    on_a_grid = points[:, :2].astype(np.int64)
    assert asked_for("directions", on_a_grid, explorations, recipe, rng)[1] == "ways"


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


def test_images_that_grow_darker_are_not_lively() -> None:
    # One is darker by one from step to step, the other by ten, or lighter.
    images = np.zeros((2, 5, 1, 4, 4), np.uint8)
    images[0] += np.arange(100, 95, -1, dtype=np.uint8)[:, None, None, None]
    images[1] += np.array([10, 20, 10, 20, 10], np.uint8)[:, None, None, None]
    rows = liveliest(images.reshape(10, 1, 4, 4), np.repeat([0, 1], 5), 0.5)
    assert rows.tolist() == 5 * [False] + 5 * [True]


def test_explorations_that_last_are_those_that_nothing_cut_short() -> None:
    # Three of ten are whole.
    lengths = np.array([5, 40, 3, 40, 9, 12, 40, 1, 2, 7])
    explorations = np.repeat(np.arange(10), lengths)
    rows = lasting(explorations)
    assert set(explorations[rows]) == {1, 3, 6}
    # None is: the quarter of them that was cut short last.
    lengths = np.array([5, 20, 3, 21, 9, 12, 4, 1])
    explorations = np.repeat(np.arange(8), lengths)
    assert set(explorations[lasting(explorations)]) == {1, 3}
    # All are.
    assert lasting(np.repeat(np.arange(8), 5)).all()


@pytest.mark.parametrize("kind", ["ways", "lively ways", "directions"])
def test_who_falls_is_not_asked_for_however_far_or_lively(kind: str) -> None:
    points, explorations = moving()
    # Half of the explorations fall: faster and faster, for five steps.
    first = np.arange(len(points)) // 30 < 5
    falls = explorations % 2 == 1
    points[falls & first, 1] += 1_000.0 * explorations[falls & first]
    kept = ~falls | first
    points, explorations = points[kept], explorations[kept]
    recipe = SampleRecipe(lively=0.5, clusters=4)
    wanted, _ = asked_for(kind, points, explorations, recipe, np.random.default_rng(0))
    assert wanted.any()
    assert not (explorations[wanted] % 2).any()
    # The paper's loop asks for all of it.
    wanted, _ = asked_for("all", points, explorations, recipe, np.random.default_rng(0))
    assert wanted.all()


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
