from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skillrl.discovery.frontier import Frontier
from skillrl.errors import DamagedFileError
from skillrl.files import read_tensors, write_tensors


def places(*columns: int) -> np.ndarray:
    """Positions in one row, which are their own cells."""
    return np.array([[0, column] for column in columns]).reshape(-1, 2)


def explored() -> Frontier:
    """The frontier of three generations.

    After all of them, of the cells reached from the untrained policy four are new, of those from
    skill 0 six, and of those from skill 1 three.
    """
    frontier = Frontier()
    frontier.see(places(0, 0, 1, 2), 0)
    frontier.reach(places(2, 3, 4, 5, 5, 6, 7), 0)
    frontier.see(places(3, 3, 2, 7), 1)
    frontier.reach(places(3, 20, 21, 22, 23, 24, 25, 26), 1)
    frontier.see(places(20, 6), 2)
    frontier.reach(places(20, 21, 30, 31), 2)
    # Of the untrained policy's 4 and 5.
    assert frontier.unseen(places(0, 3, 4, 5, 6, 7)).tolist() == [False] * 2 + [True] * 2 + (
        [False] * 2
    )
    frontier.reach(places(40, 41), 0)
    return frontier


@pytest.mark.parametrize(
    ("parents", "chosen"),
    [
        ([-1, 0], 1),  # 4 / 2, 6 / 2, 3 / 1: of equals the latest
        ([-1, -1], 0),  # 4 / 3, 6 / 1, 3 / 1
        ([0, 1], -1),  # 4 / 1, 6 / 2, 3 / 2
        ([0, 0], -1),  # 4 / 1, 6 / 3, 3 / 1
        ([1, 1], 0),  # 4 / 1, 6 / 1, 3 / 3
    ],
)
def test_the_parent_has_most_new_cells_and_few_children(parents: list[int], chosen: int) -> None:
    assert explored().parent(parents) == chosen


def test_the_first_skill_starts_from_the_untrained_policy() -> None:
    assert Frontier().parent([]) == -1


def test_one_of_each_cell_that_was_first_seen_in_a_generation() -> None:
    frontier, chosen = Frontier(), set()
    frontier.see(places(1, 2), 0)
    way = places(1, 3, 3, 4, 2, 3)
    frontier.see(way, 1)
    frontier.see(places(5), 2)
    for seed in range(30):
        rows = frontier.first_seen(way, 1, np.random.default_rng(seed))
        assert sorted(way[rows, 1]) == [3, 4]
        chosen |= set(rows.tolist())
    # Any of a cell's, and not always the first or the last.
    assert chosen == {1, 2, 3, 5}
    assert len(frontier.first_seen(way, 2, np.random.default_rng(0))) == 0


def test_images_are_in_cells() -> None:
    frontier = Frontier(channels_last=True)
    dark, light = np.zeros((1, 84, 84, 4), np.uint8), np.full((1, 84, 84, 4), 200, np.uint8)
    frontier.see(dark, 0)
    assert frontier.unseen(np.concatenate([light, dark])).tolist() == [True, False]


def walk(key: bool, *columns: int) -> np.ndarray:
    """Thirty pictures of something that walks below a key, which is there or was taken."""
    pictures = np.full((30, 4, 84, 84), 40, np.uint8)
    for step in range(30):
        column = 7 * columns[step % len(columns)]
        pictures[step, :, 56:70, column : column + 7] = 255
    pictures[:, :, 7:14, 70:77] = 255 if key else 40
    return pictures


def door_open(pictures: np.ndarray) -> np.ndarray:
    """The same with something bright in a corner."""
    pictures[:, :, 7:14, 7:14] = 200
    return pictures


def test_where_a_later_life_begins_without_the_key_all_places_are_new(tmp_path: Path) -> None:
    lives = np.arange(20) + np.array([[0], [7]])
    frontier = Frontier()
    frontier.see(walk(True, 1, 2, 3), 0, lives)
    frontier.see(walk(True, 4, 5, 6), 1, lives)
    # It is known only where a life begins with it.
    frontier.see(walk(False, 9), 2, lives[:0])
    frontier.reach(walk(False, 8), 2)
    assert not frontier.unseen(walk(False, 4)).any()
    frontier.see(walk(False, 1, 2, 8), 3, lives)
    assert not frontier.unseen(walk(True, 1, 4)).any()
    assert not frontier.unseen(walk(False, 2)).any()
    new = frontier.unseen(walk(False, 4, 2))
    np.testing.assert_array_equal(new, [True, False] * 15)
    # What was reached before that is not sought any more.
    assert frontier.parent([-1, 0, 1]) == 2
    frontier.reach(walk(False, 4, 2), 2)
    assert frontier.parent([-1, 0, 1, 2]) == 1
    frontier.save(tmp_path / "frontier.safetensors")
    again = Frontier()
    again.restore(tmp_path / "frontier.safetensors", 4)
    np.testing.assert_array_equal(again.unseen(walk(False, 4, 2)), new)
    again.restore(tmp_path / "frontier.safetensors", 3)
    assert not again.unseen(walk(False, 4, 9)).any()


def test_a_change_is_noticed_once() -> None:
    lives = np.arange(20) + np.array([[0], [7]])
    frontier = Frontier()
    frontier.see(walk(True, 1, 2, 3), 0, lives)
    frontier.see(walk(False, 1, 2, 3), 1, lives)
    frontier.see(walk(False, 4, 5, 6), 2, lives)
    assert not frontier.unseen(walk(False, 1, 4)).any()
    # Nor with another one, that was noticed without.
    frontier.see(door_open(walk(True, 1, 2, 3)), 3, lives)
    frontier.see(door_open(walk(False, 4, 5, 6)), 4, lives)
    assert not frontier.unseen(walk(False, 1, 4)).any()
    assert not frontier.unseen(door_open(walk(True, 1, 4))).any()


def test_a_change_that_is_seen_bit_by_bit_is_one() -> None:
    lives = np.arange(20) + np.array([[0], [7]])
    frontier = Frontier()
    frontier.see(walk(True, 1, 2, 3), 0, lives)
    # One of the four windows that show the key's place is covered, now and then.
    covered = walk(False, 1, 2, 3)
    covered[::2, :, 14:21, 63:70] = 255
    frontier.see(covered, 1, lives)
    frontier.see(walk(False, 4, 5), 2, lives)
    assert not frontier.unseen(walk(False, 1, 4)).any()


def test_what_was_reached_before_another_change_is_not_sought_any_more() -> None:
    lives = np.arange(20) + np.array([[0], [7]])
    frontier = Frontier()
    frontier.see(walk(True, 1, 2, 3), 0, lives)
    frontier.see(walk(False, 1, 2, 3), 1, lives)
    frontier.reach(walk(False, 8), 1)
    assert frontier.parent([-1, 0]) == 0
    frontier.see(door_open(walk(False, 8, 9)), 2, lives)
    assert not frontier.unseen(walk(False, 8)).any()
    assert frontier.unseen(door_open(walk(False, 1))).all()
    assert frontier.parent([-1, 0]) == 1


def test_what_the_untrained_policy_was_seen_with_has_not_changed() -> None:
    lives = np.arange(20)[None]
    frontier = Frontier()
    frontier.see(np.concatenate([walk(True, 1, 2), walk(False, 3)]), 0, lives)
    frontier.see(walk(False, 4, 5), 1, np.concatenate([lives, lives]))
    assert not frontier.unseen(walk(True, 4)).any()


def test_what_does_not_stay_while_a_life_begins_has_not_changed() -> None:
    lives = np.arange(20)[None] + np.zeros((2, 1), int)
    frontier = Frontier()
    frontier.see(walk(True, 1, 2), 0, lives)
    flickers = np.concatenate([walk(False, 4, 5)[:19], walk(True, 5)[:1]])
    frontier.see(flickers, 1, lives)
    assert not frontier.unseen(walk(False, 1, 2)).any()


def test_who_stands_still_while_one_life_begins_has_changed_nothing() -> None:
    lives = np.arange(20) + np.array([[0], [30]])
    frontier = Frontier()
    frontier.see(walk(True, 1, 2), 0, lives)
    frontier.see(np.concatenate([walk(True, 4), walk(True, 1, 2)]), 1, lives)
    # Or the second of two would be somewhere new.
    assert not frontier.unseen(np.maximum(walk(True, 4), walk(True, 2))).any()


def test_later_generations_are_dropped_when_a_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "frontier.safetensors"
    whole = explored()
    whole.save(path)
    cells = places(*range(50))
    again = Frontier()
    again.restore(path, 9)
    np.testing.assert_array_equal(again.unseen(cells), whole.unseen(cells))
    assert again.parent([-1, -1]) == 0
    again.restore(path, 1)
    # What skills 0 and 1 were seen in, and what exploration from them reached.
    assert np.flatnonzero(~again.unseen(cells)).tolist() == [0, 1, 2]
    assert again.parent([-1, -1]) == -1
    again.restore(path, 0)
    assert again.unseen(cells).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seen": None}, "holds no frontier"),
        ({"another": torch.zeros(1)}, "holds no frontier"),
        ({"seen": torch.zeros(3, dtype=torch.int64)}, "one generation a cell"),
        ({"reached_in": torch.zeros(3, dtype=torch.int64)}, "one generation a cell"),
        ({"reached": torch.zeros(11, 1, dtype=torch.int64)}, "one generation a cell"),
        ({"seen_in": torch.zeros(6)}, "one generation a cell"),
    ],
)
def test_a_file_that_is_no_frontier_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "frontier.safetensors"
    explored().save(path)
    tensors, description = read_tensors(path)
    changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    write_tensors(path, changed, description)
    frontier = Frontier()
    with pytest.raises(DamagedFileError, match=rf"frontier\.safetensors.*{message}"):
        frontier.restore(path, 1)
    assert frontier.unseen(places(0)).all()
    write_tensors(path, tensors, {"format": "archive"})
    with pytest.raises(DamagedFileError, match="holds no frontier"):
        frontier.restore(path, 1)
