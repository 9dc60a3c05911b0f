import numpy as np
import pytest

from skillrl.discovery.cells import cells_of


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
    (cell,) = cells_of(picture[None])
    assert (cell not in cells_of(SEEN)) == new
    assert cells_of(np.moveaxis(picture, 0, -1)[None], channels_last=True) == [cell]


def test_there_may_be_many_or_none() -> None:
    np.testing.assert_array_equal(
        cells_of(np.repeat(SEEN, 1_500, 0)), np.repeat(cells_of(SEEN), 1_500)
    )
    assert cells_of(np.empty((0, 4, 84, 84), np.uint8)).shape == (0,)


def test_images_of_any_size_have_cells() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(3, 3, 21, 40), dtype=np.uint8)
    assert len(set(cells_of(images))) == 3


def test_positions_are_their_own_cells() -> None:
    positions = np.array([[3, 5], [5, 3], [3, 4], [3, 5]])
    first, second, third, fourth = cells_of(positions)
    assert first == fourth
    assert len({first, second, third}) == 3


def test_there_are_sixteen_shades() -> None:
    greys = np.arange(256, dtype=np.uint8)[:, None, None, None] * np.ones((4, 84, 84), np.uint8)
    assert len(set(cells_of(greys))) == 16
