"""The copy task, and delayed recall: what a memory has to hold, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from skillrl.errors import InvalidValueError
from skillrl.recurrent.stack import Readout
from skillrl.recurrent.tasks.task import Batch, Classification, Split, generator, passes


class Copy:
    """Repeat a random pattern of bits after it has ended.

    A sequence has ``2 * length`` steps: the pattern, then as many in which its steps are to be
    repeated in their order; a cue marks the first of these. Zucchet et al. 2023 use 20 steps of 7
    bits and 20,000 sequences.

    Args:
        length: steps of the pattern.
        bits: of each of its steps.
        sequences: of the training set, which is always the same; 1,000 others are tested on.

    Raises:
        InvalidValueError: if an argument is not positive.
    """

    name = "copy"
    readout: Readout = "step"
    chance = 0.5

    def __init__(self, length: int = 20, bits: int = 7, sequences: int = 20_000) -> None:
        if min(length, bits, sequences) < 1:
            raise InvalidValueError(
                "A pattern has at least one step of one bit. Received "
                f"length={length}, bits={bits}, sequences={sequences}."
            )
        self.length = length
        counts: dict[Split, int] = {"train": sequences, "test": 1_000}
        self._patterns = {
            split: torch.randint(
                *(2, (count, length, bits)), generator=generator("copy", split), dtype=torch.uint8
            )
            for split, count in counts.items()
        }
        self.input_size, self.output_size = bits + 1, bits

    def batches(self, split: Split, batch_size: int, seed: int) -> Iterator[Batch]:
        """See ``Task``."""
        patterns = self._patterns[split]
        counts = torch.arange(2 * self.length) >= self.length
        for chosen in passes(len(patterns), batch_size, split, seed):
            pattern = patterns[chosen].transpose(0, 1)
            values = torch.zeros(2 * self.length, len(chosen), self.input_size, dtype=torch.uint8)
            values[: self.length, :, :-1] = pattern
            values[self.length, :, -1] = 1
            yield Batch(values, torch.cat([torch.zeros_like(pattern), pattern]), counts)

    def encode(self, values: Tensor) -> Tensor:
        """See ``Task``."""
        return values.float()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of the bits of a step; see ``Task``."""
        each = binary_cross_entropy_with_logits(
            outputs, targets.to(outputs.dtype), reduction="none"
        )
        return each.mean(-1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Which bits are right; see ``Task``."""
        return (outputs > 0) == targets.bool()


class Recall(Classification):
    """Say at the end what the first step showed, with noise in between.

    The first step shows one of several cues, the last asks which it was; a distractor channel
    carries normal noise all the time. Nothing shorter than ``delay`` steps can be learnt from.

    Args:
        delay: steps between the cue and the question.
        cues: number of cues.
        sequences: in one pass of the training; each pass draws its own.
        noise: standard deviation of the distractor; a cue is 1.

    Raises:
        InvalidValueError: if an argument is out of range.
    """

    name = "recall"
    readout: Readout = "step"

    def __init__(
        self, delay: int = 1_000, cues: int = 2, sequences: int = 3_200, noise: float = 1.0
    ) -> None:
        if delay < 1 or cues < 2 or sequences < 1 or not noise >= 0:
            raise InvalidValueError(
                "Recall has at least one step of delay, two cues and one sequence, and no negative "
                f"noise. Received delay={delay}, cues={cues}, sequences={sequences}, noise={noise}."
            )
        self.delay, self.cues, self.sequences, self.noise = delay, cues, sequences, noise
        # The cues, the question, the distractor.
        self.input_size, self.output_size = cues + 2, cues
        self.chance = 1 / cues

    def batches(self, split: Split, batch_size: int, seed: int) -> Iterator[Batch]:
        """See ``Task``."""
        source = generator("recall", split, seed if split == "train" else "")
        steps = self.delay + 2
        counts = torch.arange(steps) == steps - 1
        total = self.sequences if split == "train" else 512
        for batch in torch.arange(total).split(batch_size):
            if split == "train" and len(batch) < batch_size:
                return
            size = len(batch)
            cues = torch.randint(self.cues, (size,), generator=source)
            values = torch.zeros(steps, size, self.input_size)
            values[0, :, : self.cues] = one_hot(cues, self.cues).float()
            values[-1, :, self.cues] = 1
            values[:, :, -1] = self.noise * torch.randn(steps, size, generator=source)
            yield Batch(values, cues.expand(steps, -1), counts)

    def encode(self, values: Tensor) -> Tensor:
        """See ``Task``."""
        return values
