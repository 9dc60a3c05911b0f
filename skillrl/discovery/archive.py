"""The archive of negatives: what all earlier skills looked like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from skillrl.errors import DamagedFileError
from skillrl.files import read_tensors, write_tensors


class Archive:
    """A sample of the observations of every earlier generation.

    Args:
        shape: shape of one observation.
        dtype: of the observations.
        per_generation: observations kept of each generation, as long as there is room.
        size: observations kept in all. Where there are more generations than have room, all are
            cut to the same number, those that came first in a sample being kept.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype, per_generation: int, size: int
    ) -> None:
        self.per_generation = per_generation
        self.size = size
        self.observations = np.empty((0, *shape), dtype)
        self._generations = np.empty(0, np.int64)

    def add(
        self,
        observations: np.ndarray,
        generation: int,
        rng: np.random.Generator,
        first: ArrayLike = (),
    ) -> None:
        """Keep a sample of ``observations``, the negatives of ``generation``.

        It is random, but that those in the rows ``first`` come before the others, as many of them
        as have room.
        """
        kept = min(len(observations), self.per_generation, self.size)
        # In random order, so that the first ones of a generation are a sample of it, too.
        rows = rng.permutation(len(observations))
        rows = rows[np.argsort(~np.isin(rows, first), kind="stable")]
        observations = observations[rows[:kept]]
        self.observations = np.concatenate([self.observations, observations])
        new = np.full(len(observations), generation)
        self._generations = np.concatenate([self._generations, new])

    def save(self, path: Path) -> None:
        """Write the archive to a safetensors file."""
        tensors = {"observations": self.observations, "generations": self._generations}
        write_tensors(path, tensors, {"format": "archive"})

    def restore(self, path: Path, generation: int) -> None:
        """Read the negatives of all generations before ``generation``, as many as have room.

        A run that was killed may have saved more; they are gathered again.

        Raises:
            DamagedFileError: if the file is damaged or belongs to another environment.
        """
        tensors, description = read_tensors(path)
        if description.get("format") != "archive" or tensors.keys() != {
            "observations",
            "generations",
        }:
            raise DamagedFileError(f"{path} holds no archive of observations.")
        observations, generations = (
            tensors[name].numpy() for name in ("observations", "generations")
        )
        wanted = self.observations
        if observations.shape[1:] != wanted.shape[1:] or observations.dtype != wanted.dtype:
            raise DamagedFileError(
                f"{path} holds observations of shape {observations.shape[1:]} and type "
                f"{observations.dtype}; the environment's have shape {wanted.shape[1:]} and type "
                f"{wanted.dtype}."
            )
        if generations.shape != observations.shape[:1] or generations.dtype != np.int64:
            raise DamagedFileError(
                f"{path} is damaged: it should tell one generation an observation."
            )
        room = self.size // max(1, generation)
        rows = [np.flatnonzero(generations == earlier)[:room] for earlier in range(generation)]
        kept = np.concatenate([*rows, np.empty(0, np.int64)])
        self.observations = observations[kept]
        self._generations = generations[kept]
