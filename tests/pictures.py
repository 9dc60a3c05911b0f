"""Small images that tests write."""

import gzip
from pathlib import Path

import numpy as np


def write_idx(root: Path, start: str, labels: np.ndarray, *, packed: bool = False) -> None:
    """Write MNIST's two files: 2 × 3 images whose ``n``-th has the values ``10 n`` to ``10 n + 5``.

    Args:
        root: the folder.
        start: of the names, ``"train"`` or ``"t10k"``.
        labels: as many as images.
        packed: whether to pack them.
    """
    values = (10 * np.arange(len(labels))[:, None] + np.arange(6)) % 256
    write_images(root, start, values.astype(np.uint8).reshape(-1, 2, 3), labels, packed=packed)


def write_images(
    root: Path, start: str, images: np.ndarray, labels: np.ndarray, *, packed: bool = False
) -> None:
    """Write MNIST's two files, of images ``(count, height, width)``."""
    for name, values in (
        (f"{start}-images-idx3-ubyte", images),
        (f"{start}-labels-idx1-ubyte", labels.astype(np.uint8)),
    ):
        sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
        data = bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()
        path = root / f"{name}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(data) if packed else data)
