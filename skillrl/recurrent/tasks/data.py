"""Tasks on real images and texts, read from a folder that the user names."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import one_hot

from skillrl.errors import InvalidValueError
from skillrl.recurrent.stack import Readout
from skillrl.recurrent.tasks.task import Batch, Classification, Split, passes, together

Folder = str | PathLike[str]
SPLITS: tuple[Split, ...] = ("train", "test")


class SequentialImages(Classification):
    """Classify small images that are read pixel by pixel, grey, row by row.

    Args:
        folder: with ``train/CLASS/*.jpg`` (or png) and ``test/CLASS/*``, all images of one size; or
            with CIFAR-10's binary batches ``data_batch_1.bin`` to ``_5`` and ``test_batch.bin``.
        limit: images that are read of each class and split; None for all.

    Raises:
        InvalidValueError: if the folder is not laid out like that.
    """

    name = "images"
    readout: Readout = "mean"
    input_size = 1

    def __init__(self, folder: Folder, limit: int | None = None) -> None:
        root = Path(folder)
        read = _binary_batches if (root / "test_batch.bin").is_file() else _image_folders
        self._images, self._labels = {}, {}
        for split in SPLITS:
            self._images[split], self._labels[split] = read(root, split, limit)
        sizes = [images.shape[1] for images in self._images.values()]
        if sizes[0] != sizes[1]:
            raise InvalidValueError(
                f"Images to train and to test on should be of one size. {root} has images of "
                f"{sizes[0]} and of {sizes[1]} pixels."
            )
        self.output_size = int(max(labels.max() for labels in self._labels.values())) + 1
        self.chance = 1 / self.output_size
        seen = self._images["train"].double()
        self._mean, self._std = float(seen.mean()), max(float(seen.std()), 1.0)

    def batches(self, split: Split, batch_size: int, seed: int) -> Iterator[Batch]:
        """See ``Task``."""
        images, labels = self._images[split], self._labels[split]
        for chosen in passes(len(images), batch_size, split, seed):
            yield Batch(images[chosen].t(), labels[chosen])

    def encode(self, values: Tensor) -> Tensor:
        """See ``Task``."""
        return ((values.float() - self._mean) / self._std).unsqueeze(-1)


class Reviews(Classification):
    """Tell positive from negative texts, read byte by byte.

    Args:
        folder: in the layout of IMDB's reviews: ``train/pos/*.txt``, ``train/neg``, ``test/pos``
            and ``test/neg``.
        max_length: bytes that are read of a text; the long-range arena reads 4,096.
        limit: texts that are read of each class and split; None for all.

    Raises:
        InvalidValueError: if the folder is not laid out like that.
    """

    name = "reviews"
    readout: Readout = "mean"
    input_size, output_size, chance = 256, 2, 0.5

    def __init__(self, folder: Folder, max_length: int = 4_096, limit: int | None = None) -> None:
        if max_length < 1:
            raise InvalidValueError(f"max_length should be at least 1. Received {max_length}.")
        root = Path(folder)
        # The archive holds one folder.
        root = root / "aclImdb" if (root / "aclImdb").is_dir() else root
        self._texts: dict[Split, list[Tensor]] = {}
        self._labels = {}
        for split in SPLITS:
            self._texts[split], labels = [], []
            for label, name in enumerate(("neg", "pos")):
                files = sorted(_folder(root / split / name).glob("*.txt"))[:limit]
                if not files:
                    raise InvalidValueError(f"{root / split / name} holds no texts (*.txt).")
                for file in files:
                    text = file.read_bytes()[:max_length] or b" "
                    self._texts[split].append(torch.frombuffer(bytearray(text), dtype=torch.uint8))
                labels += [label] * len(files)
            self._labels[split] = torch.tensor(labels)

    def batches(self, split: Split, batch_size: int, seed: int) -> Iterator[Batch]:
        """See ``Task``."""
        for chosen in passes(len(self._texts[split]), batch_size, split, seed):
            values, starts = together([self._texts[split][index] for index in chosen])
            yield Batch(values, self._labels[split][chosen], starts=starts)

    def encode(self, values: Tensor) -> Tensor:
        """See ``Task``."""
        return one_hot(values.long(), 256).float()


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InvalidValueError(
            f"There is no folder {path}. Name the folder of the data with --data, or set "
            "SKILLRL_DATA; `skillrl sequence --help` says how it should be laid out."
        )
    return path


def _image_folders(root: Path, split: Split, limit: int | None) -> tuple[Tensor, Tensor]:
    """Images ``(count, pixels)``, uint8, and their classes, of ``root/split/CLASS/*``."""
    classes = sorted(path for path in _folder(root / split).iterdir() if path.is_dir())
    names = [path.name for path in classes]
    trained = sorted(path.name for path in _folder(root / "train").iterdir() if path.is_dir())
    if names != trained:
        raise InvalidValueError(
            f"{root / split} should hold the classes of {root / 'train'}, "
            f"{', '.join(trained)}. It holds {', '.join(names) or 'none'}."
        )
    if len(classes) < 2:
        raise InvalidValueError(f"{root / split} should hold a folder of images for every class.")
    images, labels = [], []
    for label, folder in enumerate(classes):
        files = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))[:limit]
        if not files:
            raise InvalidValueError(f"{folder} holds no images (*.jpg or *.png).")
        for file in files:
            try:
                with Image.open(file) as image:
                    images.append(np.asarray(image.convert("L")))
            except (UnidentifiedImageError, OSError) as error:
                raise InvalidValueError(f"{file} cannot be read as an image: {error}.") from None
            if images[-1].shape != images[0].shape:
                raise InvalidValueError(
                    f"All images should be of one size. {file} has {images[-1].shape}, the first "
                    f"one {images[0].shape}."
                )
        labels += [label] * len(files)
    return torch.as_tensor(np.stack(images)).flatten(1), torch.tensor(labels)


def _binary_batches(root: Path, split: Split, limit: int | None) -> tuple[Tensor, Tensor]:
    """Images and classes of CIFAR-10's binary batches: a byte of the class, then 3 × 32 × 32."""
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
    if limit is not None:
        keep = np.concatenate([np.flatnonzero(labels == label)[:limit] for label in range(10)])
        examples, labels = examples[keep], labels[keep]
    colours = examples[:, 1:].reshape(-1, 3, 1_024).astype(np.float32)
    # The weights of ITU-R 601, as Pillow converts colours to grey.
    grey = np.tensordot(colours, np.array([0.299, 0.587, 0.114], np.float32), axes=(1, 0))
    return torch.as_tensor(grey.round().astype(np.uint8)), torch.as_tensor(labels)
