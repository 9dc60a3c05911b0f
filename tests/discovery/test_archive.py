from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skillrl.discovery.archive import Archive
from skillrl.errors import DamagedFileError
from skillrl.files import read_tensors, write_tensors


def negatives(generation: int, count: int) -> np.ndarray:
    """Observations that say which generation and which row they are."""
    rows = np.stack([np.full(count, generation), np.arange(count)], 1)
    return rows.astype(np.float32)


def new_archive(per_generation: int = 10, size: int = 1_000) -> Archive:
    return Archive((2,), np.dtype(np.float32), per_generation, size)


def filled(counts: list[int], per_generation: int = 10) -> Archive:
    archive = new_archive(per_generation)
    for generation, count in enumerate(counts):
        archive.add(negatives(generation, count), generation, np.random.default_rng(generation))
    return archive


def kept(archive: Archive) -> dict[int, int]:
    """How many observations of each generation there are."""
    generations, counts = np.unique(archive.observations[:, 0], return_counts=True)
    return dict(zip(generations.astype(int).tolist(), counts.tolist(), strict=True))


def test_a_bounded_number_of_each_generation_is_kept() -> None:
    archive = filled([100, 3, 10, 11])
    assert kept(archive) == {0: 10, 1: 3, 2: 10, 3: 10}
    assert archive.observations.dtype == np.float32
    # A sample without repetition: no observation is there twice.
    assert len(np.unique(archive.observations, axis=0)) == 33


def test_the_sample_is_drawn_from_all_observations() -> None:
    counts = np.zeros(20)
    for seed in range(300):
        archive = new_archive(per_generation=5)
        archive.add(negatives(0, 20), 0, np.random.default_rng(seed))
        counts[archive.observations[:, 1].astype(int)] += 1
    # Each of the twenty is kept in a quarter of the cases: 75 ± 7.5.
    assert (np.abs(counts - 75) < 4 * 7.5).all()


@pytest.mark.parametrize("count", [4, 30])
def test_some_observations_come_before_the_others(count: int) -> None:
    archive, rng = new_archive(), np.random.default_rng(0)
    first = np.arange(60, 60 + count)
    archive.add(negatives(0, 100), 0, rng, first)
    rows = archive.observations[:, 1].astype(int)
    assert len(np.unique(rows)) == 10
    assert set(rows[:count]) <= set(first)
    if count < 10:
        assert set(first) <= set(rows)
        assert not set(rows[count:]) & set(first)


def test_where_there_is_no_more_room_all_generations_are_cut_alike(tmp_path: Path) -> None:
    path = tmp_path / "archive.safetensors"
    archive, seen = new_archive(10, size=24), []
    for generation in range(6):
        archive.add(negatives(generation, 100), generation, np.random.default_rng(generation))
        archive.save(path)
        archive.restore(path, generation + 1)
        seen.append([*kept(archive).values()])
    assert seen == [[10], [10] * 2, [8] * 3, [6] * 4, [4] * 5, [4] * 6]
    # A run that was killed in the last generation finds what that one found.
    other = new_archive(10, size=24)
    other.restore(path, 5)
    assert kept(other) == dict.fromkeys(range(5), 4)


def test_what_was_added_earlier_stays() -> None:
    archive = filled([100])
    first = archive.observations.copy()
    archive.add(negatives(1, 100), 1, np.random.default_rng(1))
    np.testing.assert_array_equal(archive.observations[:10], first)


@pytest.mark.parametrize("generation", [0, 1, 2, 3, 9])
def test_later_generations_are_dropped_when_a_run_goes_on(generation: int, tmp_path: Path) -> None:
    archive = filled([100, 5, 100])
    archive.save(tmp_path / "archive.safetensors")
    restored = new_archive()
    restored.restore(tmp_path / "archive.safetensors", generation)
    expected = archive.observations[archive.observations[:, 0] < generation]
    np.testing.assert_array_equal(restored.observations, expected)
    assert restored.observations.dtype == np.float32
    # What is dropped can be gathered again, with the same result.
    if generation == 2:
        restored.add(negatives(2, 100), 2, np.random.default_rng(2))
        np.testing.assert_array_equal(restored.observations, archive.observations)
        restored.save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (
            tmp_path / "archive.safetensors"
        ).read_bytes()


def test_images_keep_their_type(tmp_path: Path) -> None:
    archive = Archive((3, 4, 4), np.dtype(np.uint8), 5, 1_000)
    archive.add(np.full((7, 3, 4, 4), 200, np.uint8), 0, np.random.default_rng(0))
    archive.save(tmp_path / "archive.safetensors")
    archive.restore(tmp_path / "archive.safetensors", 1)
    assert archive.observations.shape == (5, 3, 4, 4)
    assert archive.observations.dtype == np.uint8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": torch.zeros(15, 3)}, r"have shape \(2,\)"),
        ({"observations": torch.zeros(15)}, r"have shape \(2,\)"),
        ({"observations": torch.zeros(15, 2, dtype=torch.float64)}, "type float32"),
        ({"generations": torch.zeros(14, dtype=torch.int64)}, "one generation an observation"),
        ({"generations": torch.zeros(15, 1, dtype=torch.int64)}, "one generation an observation"),
        ({"generations": torch.zeros(15)}, "one generation an observation"),
        ({"generations": None}, "holds no archive"),
        ({"observations": None}, "holds no archive"),
        ({"another": torch.zeros(1)}, "holds no archive"),
    ],
)
def test_an_archive_that_does_not_fit_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "archive.safetensors"
    filled([100, 5]).save(path)
    tensors, description = read_tensors(path)
    changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    write_tensors(path, changed, description)
    archive = filled([4])
    with pytest.raises(DamagedFileError, match=rf"archive\.safetensors.*{message}"):
        archive.restore(path, 1)
    assert kept(archive) == {0: 4}


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "archive.safetensors"
    with pytest.raises(DamagedFileError, match=r"archive\.safetensors does not exist"):
        new_archive().restore(path, 1)
    filled([3]).save(path)
    tensors, _ = read_tensors(path)
    write_tensors(path, tensors, {"format": "reward"})
    with pytest.raises(DamagedFileError, match="holds no archive"):
        new_archive().restore(path, 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=r"archive\.safetensors is damaged"):
        new_archive().restore(path, 1)
