"""The frontier: what skills were seen doing, and what exploration from each of them came upon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skillrl.discovery.cells import cells_of, change_of, told_apart
from skillrl.discovery.settings import Recipe
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import read_tensors, write_tensors
from skillrl.rewards import NeuralReward

_NAMES = ("seen", "seen_in", "reached", "reached_in", "changes", "changes_in")


class Frontier:
    """Cells in which skills were seen, and those that exploration reached.

    A generation sees the skill before it, and explores from there. All cells are kept: of images
    some thousand a generation. Where a game goes on after a life lost, they are told apart by what
    has changed: by what the untrained policy was never seen with, and what stays as it is while
    later lives begin. Of several changes the one that was noticed last tells which. All places of
    another room are told apart, too, once lives begin in it.

    Args:
        channels_last: whether the channels of images come last.
    """

    def __init__(self, channels_last: bool = False) -> None:
        self.channels_last = channels_last
        nothing = np.empty(0, np.int64)
        # Cells, and the generations in which they were first seen, reached, or noticed as changes.
        self._seen, self._seen_in = nothing, nothing
        self._reached, self._reached_in = nothing, nothing
        self._changes, self._changes_in = nothing, nothing

    def see(
        self, observations: np.ndarray, generation: int, begins: np.ndarray | None = None
    ) -> None:
        """Take note of what the last skill was seen doing.

        Args:
            observations: what was seen, ``(n, *shape)``.
            generation: its number.
            begins: rows of those with which later lives began, ``(lives, steps)``.
        """
        plain = cells_of(observations, self.channels_last)
        of_images = plain.shape[1] > 1
        if begins is not None and of_images and generation > 0:
            self._notice(plain[begins], generation)
        # As they were reached before the latest changes were known, too.
        before = [self._changes_in <= number for number in (0, *np.unique(self._changes_in))]
        ways = [told_apart(plain, self._changes[b], self._changes_in[b]) for b in before]
        new = np.setdiff1d(np.concatenate(ways), self._seen)
        self._seen = np.concatenate([self._seen, new])
        self._seen_in = np.concatenate([self._seen_in, np.full(len(new), generation)])

    def reach(self, observations: np.ndarray, generation: int) -> None:
        """Take note of what exploration from the last skill reached, ``(n, *shape)``."""
        cells = np.unique(self._cells(observations))
        self._reached = np.concatenate([self._reached, cells])
        self._reached_in = np.concatenate([self._reached_in, np.full(len(cells), generation)])

    def unseen(self, observations: np.ndarray) -> np.ndarray:
        """Find the observations in some of whose cells no skill was seen, ``(n,)``."""
        return np.any(~np.isin(self._cells(observations), self._seen), axis=1)

    def first_seen(
        self, observations: np.ndarray, generation: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Choose one observation of each cell that was first seen in a generation.

        Args:
            observations: which were seen then, ``(n, *shape)``.
            generation: its number.
            rng: source of the choice among those of a cell.

        Returns:
            Their rows.
        """
        order = rng.permutation(len(observations))
        found = self._cells(observations)[order]
        cells, firsts = np.unique(found, return_index=True)
        new = np.isin(cells, self._seen[self._seen_in == generation])
        return np.unique(order[firsts[new] // found.shape[1]])

    def parent(self, parents: Sequence[int]) -> int:
        """Choose the skill to start from: where exploration came upon most that is still new.

        The number of cells in which no skill was seen yet is divided by one more than the number of
        the skill's children, so that one whose children come to nothing is left in peace.

        Args:
            parents: of all skills, in their order; -1 for the untrained policy.

        Returns:
            The skill's number; -1 for the untrained policy.
        """
        new = ~np.isin(self._reached, self._seen)
        skills = range(-1, len(parents))
        worth = [
            np.count_nonzero(new & (self._reached_in == skill + 1)) / (1 + parents.count(skill))
            for skill in skills
        ]
        # Of equals the latest.
        return max(skills, key=lambda skill: (worth[skill + 1], skill))

    def save(self, path: Path) -> None:
        """Write the cells to a safetensors file."""
        tensors = {name: getattr(self, f"_{name}") for name in _NAMES}
        write_tensors(path, tensors, {"format": "frontier"})

    def restore(self, path: Path, generation: int) -> None:
        """Read the cells of all generations before ``generation``.

        Raises:
            DamagedFileError: if the file is damaged.
        """
        tensors, description = read_tensors(path)
        if description.get("format") != "frontier" or tensors.keys() != set(_NAMES):
            raise DamagedFileError(
                f"{path} holds no frontier of this version: begin the run again, in another folder."
            )
        arrays = [tensors[name].numpy() for name in _NAMES]
        if any(array.dtype != np.int64 or array.ndim != 1 for array in arrays) or (
            [*map(len, arrays[::2])] != [*map(len, arrays[1::2])]
        ):
            raise DamagedFileError(f"{path} is damaged: it should tell one generation a cell.")
        for name, cells, generations in zip(_NAMES[::2], arrays[::2], arrays[1::2], strict=True):
            kept = generations < generation
            setattr(self, f"_{name}", cells[kept])
            setattr(self, f"_{name}_in", generations[kept])

    def _cells(self, observations: np.ndarray) -> np.ndarray:
        return self._told_apart(cells_of(observations, self.channels_last))

    def _told_apart(self, cells: np.ndarray) -> np.ndarray:
        return told_apart(cells, self._changes, self._changes_in)

    def _notice(self, begins: np.ndarray, generation: int) -> None:
        """Take note of what has changed where later lives begin, ``(lives, steps, windows)``."""
        first, stay = begins[:, 0], (begins == begins[:, :1]).all(1)
        # A change that is seen bit by bit is one: what was seen with it when it was noticed belongs
        # to it, as all that the untrained policy was seen with belongs to none.
        belongs = self._seen[self._seen_in == change_of(self._seen)]
        new = stay & ~np.isin(first, self._changes) & ~np.isin(self._told_apart(first), belongs)
        cells, lives = np.unique(first[new], return_counts=True)
        new = cells[lives > 1]  # somebody stands still once
        self._changes = np.concatenate([self._changes, new])
        self._changes_in = np.concatenate([self._changes_in, np.full(len(new), generation)])


def frontier_for(recipe: Recipe, reward: NeuralReward) -> Frontier | None:
    """Return an empty frontier where a recipe needs one; None of vectors, which have no cells.

    Raises:
        InvalidValueError: if skills are to start from the frontier of vectors.
    """
    if reward.kind == "vector":
        if recipe.parent == "frontier":
            raise InvalidValueError(
                "parent='frontier' is for images and for positions on a grid. Received "
                f"{recipe.env!r}, which shows vectors: use 'last' or 'any'."
            )
        return None
    if recipe.parent == "frontier" or "new cells" in recipe.samples.asks_for:
        return Frontier(reward.channels_last)
    return None
