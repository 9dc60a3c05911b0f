import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skillrl.errors import InvalidValueError
from skillrl.recurrent.tasks import Reviews, SequentialImages


def write_images(root: Path, *, size: int = 4) -> None:
    for split, count in (("train", 3), ("test", 2)):
        for level, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = np.full((size, size, 3), 50 + 150 * level, np.uint8)
                pixels[0, index] = (255, 0, 0)
                Image.fromarray(pixels).save(folder / f"{index}.png")


def test_images_are_read_row_by_row_in_grey(tmp_path: Path) -> None:
    write_images(tmp_path)
    task = SequentialImages(tmp_path)
    assert (task.output_size, task.chance) == (2, 0.5)
    (batch,) = task.batches("test", 4, seed=0)
    assert batch.values.shape == (16, 4)
    assert batch.targets.tolist() == [0, 0, 1, 1]
    # Red in grey is 76.
    assert batch.values[:3, 1].tolist() == [50, 76, 50]
    assert batch.values[:2, 2].tolist() == [76, 200]
    everything = torch.cat([b.values for b in task.batches("train", 1, seed=0)], 1)
    seen = task.encode(everything)
    assert seen.shape == (16, 6, 1)
    assert seen.mean().item() == pytest.approx(0, abs=1e-5)
    assert seen.std().item() == pytest.approx(1, abs=1e-5)


def test_training_is_shuffled_and_complete(tmp_path: Path) -> None:
    write_images(tmp_path)
    task = SequentialImages(tmp_path, limit=2)
    labels = [[int(b.targets) for b in task.batches("train", 1, seed)] for seed in range(8)]
    assert all(sorted(each) == [0, 0, 1, 1] for each in labels)
    assert len({tuple(each) for each in labels}) > 1


def test_binary_batches(tmp_path: Path) -> None:
    colours = np.zeros((3, 1_024), np.uint8)
    colours[1, 5] = 200  # green: 117.4 in grey
    row = bytes([7]) + colours.tobytes()
    for name in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        (tmp_path / f"{name}.bin").write_bytes(row * 2)
    task = SequentialImages(tmp_path)
    assert len([*task.batches("train", 1, 0)]) == 10
    batch = next(task.batches("test", 2, 0))
    assert batch.targets.tolist() == [7, 7]
    assert batch.values[4:7, 0].tolist() == [0, 117, 0]
    (tmp_path / "data_batch_3.bin").write_bytes(row[:-1])
    with pytest.raises(InvalidValueError, match=r"data_batch_3.*3,073 bytes each.*3,072 bytes"):
        SequentialImages(tmp_path)


def write_reviews(root: Path) -> None:
    for split in ("train", "test"):
        for name, text in (("pos", b"good film"), ("neg", b"bad")):
            (root / split / name).mkdir(parents=True)
            (root / split / name / "0.txt").write_bytes(text)


def test_reviews_end_together(tmp_path: Path) -> None:
    write_reviews(tmp_path / "aclImdb")
    task = Reviews(tmp_path, max_length=8)
    (batch,) = task.batches("test", 2, seed=0)
    assert batch.targets.tolist() == [0, 1]
    assert bytes(batch.values[:, 1].tolist()) == b"good fil"
    assert bytes(batch.values[5:, 0].tolist()) == b"bad"
    assert batch.starts is not None
    assert batch.starts.int().argmax(0).tolist() == [5, 0]
    assert batch.starts.sum() == 2
    assert task.encode(batch.values).argmax(-1)[0, 1] == ord("g")


def test_folders_that_are_missing_or_malformed(tmp_path: Path) -> None:
    def refuses(task: type[SequentialImages] | type[Reviews], message: str) -> None:
        with pytest.raises(InvalidValueError, match=re.escape(message)):
            task(tmp_path)

    refuses(SequentialImages, f"There is no folder {tmp_path / 'train'}")
    refuses(Reviews, f"There is no folder {tmp_path / 'train' / 'neg'}")
    write_reviews(tmp_path)
    refuses(SequentialImages, "holds no images")
    (tmp_path / "test" / "pos" / "0.txt").unlink()
    refuses(Reviews, "holds no texts")


def test_test_images_have_the_classes_of_training(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "test" / "dark").rename(tmp_path / "test" / "bright")
    message = r"classes of .*train, dark, light\. It holds bright, light"
    with pytest.raises(InvalidValueError, match=message):
        SequentialImages(tmp_path)


def test_images_of_two_sizes_and_of_no_format(tmp_path: Path) -> None:
    write_images(tmp_path)
    path = tmp_path / "train" / "light" / "9.png"
    Image.new("L", (5, 5)).save(path)
    with pytest.raises(InvalidValueError, match=r"one size\. .*9\.png has \(5, 5\)"):
        SequentialImages(tmp_path)
    path.write_text("no image")
    with pytest.raises(InvalidValueError, match=r"9\.png cannot be read as an image"):
        SequentialImages(tmp_path)


@pytest.mark.skipif("SKILLRL_DATA" not in os.environ, reason="SKILLRL_DATA names no folder")
def test_real_images(tmp_path: Path) -> None:
    archive = Path(os.environ["SKILLRL_DATA"]) / "cifar10-images.tar.gz"
    if not archive.is_file():
        pytest.skip(f"there is no {archive}")
    with tarfile.open(archive) as tar:
        chosen = [m for m in tar if re.search(r"/000\d\.jpg$", m.name)]
        tar.extractall(tmp_path, members=chosen, filter="data")
    task = SequentialImages(tmp_path)
    batch = next(task.batches("test", 100, 0))
    assert batch.values.shape == (1_024, 100)
    assert torch.bincount(batch.targets).tolist() == [10] * 10
