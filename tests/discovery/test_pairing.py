import numpy as np

from skillrl.agents.returns import Seen
from skillrl.discovery.pairing import Behaviour, pair_skills


def watched(mean: float, spread: float) -> Seen:
    rng = np.random.default_rng(int(1_000 * mean))
    rows = mean + spread * rng.normal(size=(20, 3, 2))
    return Seen(rows, np.array([20, 20, 20]), np.zeros(3))


def test_skills_that_do_the_same_are_paired() -> None:
    first = [watched(0, 1), watched(5, 1), watched(5, 3)]
    other = [first[2], first[0], first[1]]
    short = [watched(5, 2.9)]
    found = pair_skills([[*map(Behaviour.of, run)] for run in (first, other, short)])
    assert [each[1] for each in found] == [(1, 0.0), (2, 0.0), (0, 0.0)]
    assert [2 in each for each in found] == [False, False, True]
    assert found[2][2][0] == 0
    assert found[2][2][1] > 0


def test_a_behaviour_by_hand() -> None:
    observations = np.array([[[1.0, 5.0], [3.0, 5.0]], [[5.0, 5.0], [99.0, 99.0]]])
    # The second episode has one step; what comes after it is of no episode.
    found = Behaviour.of(Seen(observations, np.array([2, 1]), np.zeros(2)))
    assert found.count == 3
    assert found.mean.tolist() == [3, 5]
    np.testing.assert_allclose(found.std, [np.sqrt(8 / 3), 0])


def test_distances_are_in_units_of_what_all_skills_see() -> None:
    near, far = Behaviour(10, np.zeros(2), np.ones(2)), Behaviour(10, np.ones(2), np.ones(2))
    ((_, (paired, distance)),) = [tuple(pair_skills([[near], [far]])[0].values())]
    # Of all together the standard deviation is √(1 + ¼): means differ by 1/√1.25 of it.
    assert paired == 0
    np.testing.assert_allclose(distance, np.sqrt(1 / 1.25 / 2))
