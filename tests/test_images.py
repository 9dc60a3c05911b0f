import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import write_idx
from skillrl.errors import InvalidValueError
from skillrl.images import read_images


def test_colours_of_folders(tmp_path: Path) -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[1, 2] = (10, 20, 30)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / split / name / "0.png")
    images = read_images(tmp_path, "train")
    assert images.pixels.shape == (2, 3, 4, 5)
    assert images.pixels[1, :, 1, 2].tolist() == [10, 20, 30]
    assert images.pixels.sum() == 120
    assert images.labels.tolist() == [0, 1]


def test_colours_of_binary_batches(tmp_path: Path) -> None:
    colours = np.zeros((3, 32, 32), np.uint8)
    colours[:, 1, 2] = (10, 20, 30)
    row = bytes([7]) + colours.tobytes()
    for name in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        (tmp_path / f"{name}.bin").write_bytes(row * 2)
    images = read_images(tmp_path, "train")
    assert images.pixels.shape == (10, 3, 32, 32)
    assert images.pixels[9, :, 1, 2].tolist() == [10, 20, 30]
    assert len(read_images(tmp_path, "train", limit=4).labels) == 4


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files(tmp_path: Path, packed: bool) -> None:
    for start, count in (("train", 6), ("t10k", 4)):
        write_idx(tmp_path, start, np.arange(count) % 3, packed=packed)
    images = read_images(tmp_path, "train")
    assert images.pixels.shape == (6, 1, 2, 3)
    # As it is written: number, row, column.
    assert images.pixels[5, 0].tolist() == [[50, 51, 52], [53, 54, 55]]
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert read_images(tmp_path, "test").labels.tolist() == [0, 1, 2, 0]
    assert read_images(tmp_path, "test", limit=1).labels.tolist() == [0, 1, 2]


def test_where_only_mnists_test_images_are_every_fifth_is_tested_on(tmp_path: Path) -> None:
    write_idx(tmp_path, "t10k", np.arange(10))
    assert read_images(tmp_path, "test").labels.tolist() == [0, 5]
    assert read_images(tmp_path, "train").labels.tolist() == [1, 2, 3, 4, 6, 7, 8, 9]


def test_malformed_idx_files(tmp_path: Path) -> None:
    write_idx(tmp_path, "t10k", np.arange(10))
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    content = labels.read_bytes()

    def refuses(message: str) -> None:
        with pytest.raises(InvalidValueError, match=re.escape(message)):
            read_images(tmp_path, "train")

    labels.write_bytes(content[:-1])
    refuses("complete. It begins with 00 00 08 01 and has 17 bytes")
    labels.write_bytes(content[:4] + (9).to_bytes(4, "big") + content[8:-1])
    refuses("Of 't10k' it has 10 images and 9 labels")
    labels.unlink()
    refuses(f"There is no {labels}, nor t10k-labels-idx1-ubyte.gz beside it")
    (tmp_path / f"{labels.name}.gz").write_bytes(gzip.compress(content)[:-9])
    refuses("t10k-labels-idx1-ubyte.gz cannot be read")


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"no folder .*nowhere.train\. The folder of the"):
        read_images(tmp_path / "nowhere", "train")
