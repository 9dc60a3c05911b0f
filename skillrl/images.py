"""Small images with classes, read from a folder that the user names."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from skillrl.errors import InvalidValueError

Split = Literal["train", "test"]

# What ITU-R 601 makes grey of, as Pillow does.
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
# Of MNIST's 10,000 test images, where the others are missing, every fifth is tested on.
_TESTED = 5


@dataclass(frozen=True)
class Images:
    """Images and their classes.

    Attributes:
        pixels: ``(count, channels, height, width)``, uint8; 3 channels, or 1 where they are grey.
        labels: ``(count,)``, int64, from 0.
    """

    pixels: np.ndarray
    labels: np.ndarray


def read_images(
    folder: str | PathLike[str], split: Split, limit: int | None = None, *, grey: bool = False
) -> Images:
    """Return the images to train or to test on.

    Args:
        folder: with ``train/CLASS/*.jpg`` (or png) and ``test/CLASS/*``; or with CIFAR-10's binary
            batches ``data_batch_1.bin`` to ``_5`` and ``test_batch.bin``; or with MNIST's files
            ``train-images-idx3-ubyte`` and so on, packed (``.gz``) or not. Where only those of its
            test images (``t10k-…``) are there, every fifth of these is tested on, and all others
            are trained on.
        split: which of them.
        limit: images that are read of each class; None for all.
        grey: whether colours are made grey.

    Raises:
        InvalidValueError: if the folder is not laid out like that.
    """
    root = Path(folder)
    if (root / "test_batch.bin").is_file():
        images = _binary_batches(root, split, grey)
    elif _packed(root / "t10k-images-idx3-ubyte") is not None:
        images = _idx_files(root, split)
    else:
        return _image_folders(root, split, limit, grey)
    if limit is None:
        return images
    classes = np.unique(images.labels)
    keep = np.concatenate([np.flatnonzero(images.labels == each)[:limit] for each in classes])
    return Images(images.pixels[keep], images.labels[keep])


def _subfolder(path: Path) -> Path:
    if not path.is_dir():
        raise InvalidValueError(
            f"There is no folder {path}. The folder of the data, named with --data or by "
            "SKILLRL_DATA, holds train/CLASS/*.jpg and test/CLASS/*.jpg, or CIFAR-10's binary "
            "batches, or MNIST's IDX files."
        )
    return path


def _image_folders(root: Path, split: Split, limit: int | None, grey: bool) -> Images:
    """Images of ``root/split/CLASS/*``."""
    classes = sorted(path for path in _subfolder(root / split).iterdir() if path.is_dir())
    names = [path.name for path in classes]
    trained = sorted(path.name for path in _subfolder(root / "train").iterdir() if path.is_dir())
    if names != trained:
        raise InvalidValueError(
            f"{root / split} should hold the classes of {root / 'train'}, "
            f"{', '.join(trained)}. It holds {', '.join(names) or 'none'}."
        )
    if len(classes) < 2:
        raise InvalidValueError(f"{root / split} should hold a folder of images for every class.")
    images: list[np.ndarray] = []
    labels = []
    for label, folder in enumerate(classes):
        files = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))[:limit]
        if not files:
            raise InvalidValueError(f"{folder} holds no images (*.jpg or *.png).")
        for file in files:
            try:
                with Image.open(file) as image:
                    images.append(np.asarray(image.convert("L" if grey else "RGB")))
            except (UnidentifiedImageError, OSError) as error:
                raise InvalidValueError(f"{file} cannot be read as an image: {error}.") from None
            if images[-1].shape != images[0].shape:
                raise InvalidValueError(
                    f"All images should be of one size. {file} has {images[-1].shape[:2]}, the "
                    f"first one {images[0].shape[:2]}."
                )
        labels += [label] * len(files)
    stacked = np.stack(images)
    pixels = stacked[:, None] if grey else np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))
    return Images(pixels, np.array(labels))


def _binary_batches(root: Path, split: Split, grey: bool) -> Images:
    """Images of CIFAR-10's binary batches: a byte of the class, then 3 × 32 × 32."""
    names = ["test_batch"] if split == "test" else [f"data_batch_{n}" for n in range(1, 6)]
    rows = []
    for name in names:
        path = root / f"{name}.bin"
        data = path.read_bytes() if path.is_file() else b""
        if not data or len(data) % 3_073:
            raise InvalidValueError(
                f"{path} should hold images of 3,073 bytes each. It "
                + (f"holds {len(data):,} bytes." if data else "is missing or empty.")
            )
        rows.append(np.frombuffer(data, np.uint8).reshape(-1, 3_073))
    examples = np.concatenate(rows)
    labels = examples[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise InvalidValueError(f"{root} holds a class {labels.max()}, and there are ten from 0.")
    pixels = examples[:, 1:].reshape(-1, 3, 32, 32)
    if grey:
        mixed = np.tensordot(pixels.astype(np.float32), _GREY, axes=(1, 0))
        pixels = mixed.round().astype(np.uint8)[:, None]
    return Images(pixels, labels)


def _idx_files(root: Path, split: Split) -> Images:
    """Images of MNIST's files; see ``read_images``."""
    if _packed(root / "train-images-idx3-ubyte") is not None:
        start = "train" if split == "train" else "t10k"
        return Images(*_idx_pair(root, start))
    pixels, labels = _idx_pair(root, "t10k")
    chosen = (np.arange(len(labels)) % _TESTED == 0) == (split == "test")
    return Images(pixels[chosen], labels[chosen])


def _idx_pair(root: Path, start: str) -> tuple[np.ndarray, np.ndarray]:
    pixels = _idx(root / f"{start}-images-idx3-ubyte", dimensions=3)
    labels = _idx(root / f"{start}-labels-idx1-ubyte", dimensions=1)
    if len(pixels) != len(labels):
        raise InvalidValueError(
            f"{root} should hold as many labels as images. Of {start!r} it has {len(pixels):,} "
            f"images and {len(labels):,} labels."
        )
    return pixels[:, None], labels.astype(np.int64)


def _packed(path: Path) -> Path | None:
    """The file of that name, packed or not."""
    for each in (path, path.with_name(f"{path.name}.gz")):
        if each.is_file():
            return each
    return None


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """Unsigned bytes of an IDX file: two zeros, 8, the number of dimensions, sizes, values."""
    found = _packed(path)
    if found is None:
        raise InvalidValueError(f"There is no {path}, nor {path.name}.gz beside it.")
    try:
        content = found.read_bytes()
        data = gzip.decompress(content) if found.suffix == ".gz" else content
    except (OSError, EOFError) as error:
        raise InvalidValueError(f"{found} cannot be read: {error}.") from None
    start = 4 + 4 * dimensions
    sizes = np.frombuffer(data[4:start], ">u4") if len(data) >= start else np.zeros(0)
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) - start != sizes.prod():
        raise InvalidValueError(
            f"{found} should be an IDX file of unsigned bytes in {dimensions} dimension(s), "
            f"complete. It begins with {data[:4].hex(' ')} and has {len(data):,} bytes."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes.astype(int))
