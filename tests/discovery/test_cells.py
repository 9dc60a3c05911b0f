import numpy as np
import pytest

from skillrl.discovery.cells import cells_of, told_apart


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


def walk(key: bool) -> np.ndarray:
    """Pictures of something that walks below a key, which is there or was taken."""
    pictures = np.stack([room(7 * step, 56) for step in range(5)])
    pictures[:, :, 7:14, 70:77] = 255 if key else 40
    return pictures


def test_where_something_has_changed_all_places_are_new() -> None:
    with_key, without = cells_of(walk(key=True)), cells_of(walk(key=False))
    # The four windows that show the square where the key was.
    taken = np.setdiff1d(without, with_key)
    assert len(taken) == 4
    one = np.ones(4, int)
    np.testing.assert_array_equal(told_apart(with_key, taken, one), with_key)
    apart = told_apart(without, taken, one)
    assert not np.isin(apart, with_key).any()
    # Other places with the same change are as much alike as they were.
    np.testing.assert_array_equal(apart[:, :, None] == apart.T, without[:, :, None] == without.T)


def test_the_latest_change_tells_which() -> None:
    cells = np.array([[1, 5, 9], [2, 5, 9], [2, 6, 9], [1, 6, 9], [3, 5, 9]])
    # Two windows show one thing: where one of them is covered, the other one will do.
    *_, nine = told_apart(cells, np.array([6, 2, 3]), np.array([8, 4, 4])).T
    assert nine[0] == 9
    assert nine[1] == nine[4]
    assert nine[2] == nine[3]
    assert len({*nine.tolist()}) == 3
