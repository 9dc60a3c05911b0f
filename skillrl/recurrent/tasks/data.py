"""Tasks on real images and texts, read from a folder that the user names."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from skillrl.errors import InvalidValueError
from skillrl.images import read_images
from skillrl.recurrent.stack import Readout
from skillrl.recurrent.tasks.task import Batch, Classification, Split, passes, together

Folder = str | PathLike[str]
SPLITS: tuple[Split, ...] = ("train", "test")


class SequentialImages(Classification):
    """Classify small images that are read pixel by pixel, grey, row by row.

    Args:
        folder: of images, of one size; see ``read_images``.
        limit: images that are read of each class and split; None for all.

    Raises:
        InvalidValueError: if the folder is not laid out like that.
    """

    name = "images"
    readout: Readout = "mean"
    input_size = 1

    def __init__(self, folder: Folder, limit: int | None = None) -> None:
        self._images, self._labels = {}, {}
        for split in SPLITS:
            found = read_images(folder, split, limit, grey=True)
            self._images[split] = torch.tensor(found.pixels).flatten(1)
            self._labels[split] = torch.tensor(found.labels)
        sizes = [images.shape[1] for images in self._images.values()]
        if sizes[0] != sizes[1]:
            raise InvalidValueError(
                f"Images to train and to test on should be of one size. {folder} has images of "
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
