"""What all sequence tasks have in common."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from skillrl.recurrent.stack import Readout

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Batch:
    """Sequences side by side, the time first; they end together."""

    values: Tensor
    """What ``Task.encode`` turns into inputs: ``(time, batch)`` or ``(time, batch, ...)``."""
    targets: Tensor
    """Classes ``(batch,)``, or at every step ``(time, batch, ...)``."""
    counts: Tensor | None = None
    """Steps whose outputs count, ``(time,)``, bool, where there are targets at every step."""
    starts: Tensor | None = None
    """Where sequences begin that are shorter than others, ``(time, batch)``, bool."""


class Ends(Protocol):
    """What a network has to fit at its ends."""

    @property
    def input_size(self) -> int:
        """Components of an input."""
        ...

    @property
    def output_size(self) -> int:
        """Components of an output."""
        ...

    @property
    def readout(self) -> Readout:
        """How outputs are read out."""
        ...


class Task(Protocol):
    """A sequence task: batches, how they are seen, and how well outputs answer.

    Batches hold small values, such as bytes; the inputs of a chunk are made when it is processed,
    so that the memory of a stream does not grow with its length.
    """

    name: str
    """As in ``skillrl sequence NAME``."""
    input_size: int
    """Components of an input."""
    output_size: int
    """Components of an output."""
    readout: Readout
    """How outputs are read out."""
    chance: float
    """Accuracy of a guess that knows the answers' shares and nothing of the sequence."""

    def batches(self, split: Split, batch_size: int, seed: int) -> Iterator[Batch]:
        """One pass over the split, in an order drawn from the seed for training."""
        ...

    def encode(self, values: Tensor) -> Tensor:
        """Inputs ``(time, batch, input_size)`` for some steps of ``Batch.values``."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses ``(..., batch)`` of outputs ``(..., batch, output_size)``."""
        ...

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Which answers are right, of the targets' shape, bool."""
        ...


class Classification:
    """Answers that are one of several classes."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy; see ``Task``."""
        return torch.nn.functional.cross_entropy(
            outputs.movedim(-1, 1) if outputs.dim() > 2 else outputs, targets, reduction="none"
        )

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Whether the likeliest class is right; see ``Task``."""
        return outputs.argmax(-1) == targets


def together(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Put sequences of different lengths side by side so that they end together.

    Args:
        sequences: of steps, ``(time, ...)`` each.

    Returns:
        ``(longest, batch, ...)``, filled with zeros in front, and where each begins,
        ``(longest, batch)``, bool.
    """
    longest = max(map(len, sequences))
    first = sequences[0]
    values = first.new_zeros(longest, len(sequences), *first.shape[1:])
    starts = torch.zeros(longest, len(sequences), dtype=torch.bool)
    for index, sequence in enumerate(sequences):
        begin = longest - len(sequence)
        values[begin:, index] = sequence
        starts[begin, index] = True
    return values, starts


def generator(*words: object) -> torch.Generator:
    """Return a source of randomness for these words and no others.

    Whatever they are: torch would look at the low 32 bits of a number alone.
    """
    seed = random.Random(" ".join(map(str, words))).getrandbits(32)
    return torch.Generator().manual_seed(seed)


def passes(count: int, batch_size: int, split: Split, seed: int) -> Iterator[Tensor]:
    """Numbers of the examples of each batch; in training in random order, and full batches only."""
    if split == "test":
        yield from torch.arange(count).split(batch_size)
        return
    order = torch.randperm(count, generator=generator("order", seed))
    yield from (part for part in order.split(batch_size) if len(part) == batch_size)
