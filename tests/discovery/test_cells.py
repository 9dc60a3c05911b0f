import numpy as np
import pytest

from skillrl.discovery.cells import LASTING, cells_of, told_apart_by_changes, usual_cells


def room(x: int, y: int, shade: int = 255) -> np.ndarray:
    """A dark picture, in four frames, of something of 7 x 14 pixels with its corner at (x, y)."""
    picture = np.full((4, 84, 84), 40, np.uint8)
    picture[:, y : y + 14, x : x + 7] = shade
    return picture


SEEN = np.stack([room(14, 56), room(21, 56)])


@pytest.mark.parametrize(
    ("picture", "new"),
    [
        (room(14, 56), False),
        (room(14, 56, shade=252), False),  # a posture: not half a shade of a square
        (room(28, 56), True),
        (room(14, 42), True),
        (np.where(np.arange(4)[:, None, None] < 3, room(21, 56), room(28, 56)), True),
    ],
    ids=["the same", "another posture", "to the right", "above", "moving"],
)
def test_what_has_moved_is_in_another_cell_and_what_looks_a_little_different_is_not(
    picture: np.ndarray, new: bool
) -> None:
    cells = cells_of(picture[None])
    assert cells.shape == (1, 11 * 11)
    assert (not set(cells[0]) <= set(cells_of(SEEN).flat)) == new
    last = np.moveaxis(picture, 0, -1)[None]
    np.testing.assert_array_equal(cells_of(last, channels_last=True), cells)


def test_two_things_are_not_new_together_unless_they_are_side_by_side() -> None:
    seen = set(cells_of(np.stack([room(14, 56), room(70, 0)])).flat)
    assert set(cells_of(np.maximum(room(14, 56), room(70, 0))[None]).flat) <= seen
    seen |= set(cells_of(room(21, 56)[None]).flat)
    assert not set(cells_of(np.maximum(room(14, 56), room(21, 56))[None]).flat) <= seen


def test_a_shade_belongs_to_its_place() -> None:
    squares = cells_of(np.stack([np.full((4, 84, 84), grey, np.uint8) for grey in (0, 255)]))
    assert len(np.unique(squares)) == squares.size


def test_there_may_be_many_or_none() -> None:
    np.testing.assert_array_equal(
        cells_of(np.repeat(SEEN, 1_500, 0)), np.repeat(cells_of(SEEN), 1_500, 0)
    )
    assert cells_of(np.empty((0, 4, 84, 84), np.uint8)).shape == (0, 121)


def test_images_of_any_size_have_cells() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(3, 3, 21, 40), dtype=np.uint8)
    assert len(np.unique(cells_of(images), axis=0)) == 3


def test_positions_are_their_own_cells() -> None:
    positions = np.array([[3, 5], [5, 3], [3, 4], [3, 5], [0, 2**31 - 1], [1, 0]])
    cells = cells_of(positions)
    assert cells.shape == (6, 1)
    assert cells[0] == cells[3]
    assert len(np.unique(cells)) == 5


def test_there_are_sixteen_shades() -> None:
    greys = np.arange(256, dtype=np.uint8)[:, None, None, None] * np.ones((4, 84, 84), np.uint8)
    assert len(np.unique(cells_of(greys)[:, 0])) == 16


def walk(key: bool, steps: int) -> np.ndarray:
    """Pictures of something that walks to and fro below a key, which is there or was taken."""
    pictures = np.stack([room(7 + 7 * (step % 5), 56) for step in range(steps)])
    pictures[:, :, 7:14, 70:77] = 255 if key else 40
    return pictures


USUAL = usual_cells(cells_of(walk(key=True, steps=50)))


def test_what_is_usual_is_what_nothing_moves_in_front_of() -> None:
    still = room(0, 0, shade=40)
    still[:, 7:14, 70:77] = 255
    np.testing.assert_array_equal(USUAL, cells_of(still[None])[0])


@pytest.mark.parametrize(
    ("steps", "told_apart"), [(LASTING - 1, 0), (LASTING, LASTING), (LASTING + 9, LASTING + 9)]
)
def test_cells_are_told_apart_while_something_has_changed_for_good(
    steps: int, told_apart: int
) -> None:
    with_key, without = cells_of(walk(key=True, steps=30)), cells_of(walk(key=False, steps=steps))
    # Two trajectories at a time: in the one the key is taken, in the other it stays where it is.
    cells = np.stack([np.concatenate([with_key, without]), np.resize(with_key, (30 + steps, 121))])
    together = np.moveaxis(cells, 0, 1).reshape(-1, 121)
    apart = told_apart_by_changes(together, np.arange(len(together)) % 2, USUAL)
    differ = (apart != together).reshape(30 + steps, 2, 121)
    assert not differ[:, 1].any()
    assert not differ[:30, 0].any()
    assert differ[30:, 0].all(1).sum() == told_apart
    assert differ[30:, 0].any(1).sum() == told_apart
    # All of them by the same change: in the same place they are in the same cells.
    if told_apart:
        np.testing.assert_array_equal(apart[2 * 30], apart[2 * 35])


def test_what_changed_in_one_trajectory_did_not_change_in_the_next() -> None:
    cells = cells_of(walk(key=False, steps=2 * LASTING - 2))
    trajectories = np.repeat([4, 3], LASTING - 1)
    np.testing.assert_array_equal(told_apart_by_changes(cells, trajectories, USUAL), cells)


def test_another_room_is_told_by_the_first_window_that_differs() -> None:
    light = walk(key=False, steps=LASTING)
    light[:, :, :50] = 200
    lighter = light.copy()
    lighter[:, :, :50] = 230
    seen = [
        told_apart_by_changes(cells_of(pictures), np.zeros(LASTING, int), USUAL)
        for pictures in (light, lighter)
    ]
    # The floor looks the same in both.
    floor = cells_of(light)[0] == cells_of(lighter)[0]
    assert floor.sum() > 20
    assert (seen[0][0] != seen[1][0]).all()
    assert len(np.unique(seen[0][:, floor][::5])) == floor.sum()
