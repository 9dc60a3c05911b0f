import numpy as np
import pytest

from skillrl.discovery.cells import one_of_each, unseen


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
def test_what_has_moved_is_in_a_new_cell_and_what_looks_a_little_different_is_not(
    picture: np.ndarray, new: bool
) -> None:
    nothing = np.empty((0, 4, 84, 84), np.uint8)
    assert unseen(picture[None], (SEEN[:1], SEEN[1:], nothing)).tolist() == [new]
    last = np.moveaxis(picture, 0, -1)[None]
    assert unseen(last, (np.moveaxis(SEEN, 1, -1),), channels_last=True).tolist() == [new]


def test_all_is_new_where_nothing_was_seen_however_many_there_are() -> None:
    many = np.repeat(SEEN, 1_500, 0)
    assert unseen(many, ()).all()
    assert not unseen(many, (SEEN,)).any()


def test_images_of_any_size_have_cells() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(3, 3, 21, 40), dtype=np.uint8)
    assert unseen(images, (images[:2],)).tolist() == [False, False, True]


def test_positions_are_their_own_cells() -> None:
    positions = np.array([[3, 5], [5, 3], [3, 4]])
    assert unseen(positions, (positions[:1], np.array([[4, 3], [3, 4]]))).tolist() == [
        False,
        True,
        False,
    ]


def test_one_of_each_new_cell() -> None:
    pictures = np.stack([room(14, 56), room(28, 56), room(28, 56, 254), room(35, 56), room(28, 56)])
    rows = one_of_each(pictures, (SEEN,), np.random.default_rng(0))
    assert len(rows) == 2
    assert 3 in rows
    assert {1, 2, 4} & set(rows.tolist())
    assert len(one_of_each(pictures, (SEEN, pictures), np.random.default_rng(0))) == 0
    # Any of a cell's, and not always the first or the last.
    seeds = [one_of_each(pictures, (SEEN,), np.random.default_rng(seed)) for seed in range(30)]
    assert set(np.concatenate(seeds).tolist()) == {1, 2, 3, 4}


def test_there_are_sixteen_shades() -> None:
    greys = np.arange(256, dtype=np.uint8)[:, None, None, None] * np.ones((4, 84, 84), np.uint8)
    rows = one_of_each(greys, (), np.random.default_rng(0))
    assert len(rows) == 16
