"""Recipes: every setting of a sequence experiment, documented where it is defined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from skillrl.errors import InvalidValueError

TaskName = Literal["copy", "recall", "listops", "images", "reviews"]
LayerName = Literal["lru", "linear-rtu", "nonlinear-rtu", "linear-rnn", "gru"]
Rule = Literal["online", "truncated", "one_step", "spatial", "bptt", "snap1"]


@dataclass(frozen=True)
class SequenceRecipe:
    """Every setting of a sequence experiment. ``SEQUENCE_RECIPES`` holds those of the paper.

    Raises:
        InvalidValueError: if a value is out of range.
    """

    task: TaskName
    """The task. "copy": repeat a pattern of bits. "recall": say at the end what the first step
    showed. "listops": evaluate nested lists. "images": classify images read pixel by pixel, from
    DATA/train/CLASS/*.jpg and DATA/test, or CIFAR-10's binary batches. "reviews": tell positive
    from negative texts read byte by byte, from DATA/train/{pos,neg}/*.txt and DATA/test."""
    data: str | None = None
    """Folder of the images or texts; where it is not given, the environment variable SKILLRL_DATA
    names it."""
    sequences: int | None = None
    """Training sequences of a task that is drawn at random (copy 20,000, recall 3,200 each time
    anew, listops 96,000), or examples that are read of each class and split of images and texts,
    all of them where it is not given."""
    length: int | None = None
    """Steps of the pattern to copy (20 where it is not given), of the delay to recall after
    (1,000), or the most tokens of an expression (2,000) or bytes of a text (4,096)."""
    layer: LayerName = "lru"
    """Recurrent layer."""
    rule: Rule = "online"
    """Learning rule. "online": gradients are carried forward, exact for a layer's own parameters
    whatever the length of the chunks. "truncated": they end where a chunk begins. "one_step": at
    every step. "spatial": what the recurrence adds is not learnt from. "bptt": backpropagation
    through the whole sequence. "snap1": the approximation that linear-rnn and gru have in the place
    of "online"."""
    chunk: int = 1
    """Steps of a chunk, except with the rule "bptt"; 1 is the paper's algorithm, and more are
    faster and come closer to bptt in the lower layers."""
    depth: int = 4
    """Blocks."""
    width: int = 128
    """Components between the blocks."""
    state_size: int = 64
    """Units of a recurrent layer, complex where the layer is."""
    r_min: float = 0.0
    """Smallest magnitude of an eigenvalue at first, for lru and rtu."""
    r_max: float = 1.0
    """Largest magnitude of an eigenvalue at first, for lru and rtu."""
    horizon: float | None = None
    """Steps that the states should outlive at first, in the place of `r_min`, for lru and rtu."""
    dropout: float = 0.0
    """Share of a block's outputs that is dropped in training."""
    updates: int = 2_000
    """Gradient steps, each on one batch of whole sequences."""
    batch_size: int = 32
    """Sequences of a batch."""
    learning_rate: float = 3e-3
    """AdamW's at the start; it falls to 0 along a cosine."""
    recurrent_share: float = 0.5
    """Share of the learning rate that the recurrences have."""
    weight_decay: float = 0.0
    """Of all parameters but those of the recurrences."""
    max_grad_norm: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Of everything random."""
    device: str = "cpu"
    """Device that torch computes on, for example cuda."""

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for name in ("task", "layer", "rule"):
            if getattr(self, name) not in get_args(types[name]):
                raise InvalidValueError(
                    f"{name} should be one of {', '.join(get_args(types[name]))}. Received "
                    f"{getattr(self, name)!r}."
                )
        for name in ("chunk", "depth", "width", "state_size", "updates", "batch_size"):
            if getattr(self, name) < 1:
                raise InvalidValueError(
                    f"{name} should be at least 1. Received {getattr(self, name)}."
                )
        for name in ("sequences", "length", "horizon"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise InvalidValueError(f"{name} should be at least 1. Received {value}.")
        for name in ("recurrent_share", "weight_decay"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InvalidValueError(f"{name} should be at least 0. Received {value}.")
        if not 0 <= self.dropout < 1:
            raise InvalidValueError(f"dropout should be in [0, 1). Received {self.dropout}.")
        for name in ("learning_rate", "max_grad_norm"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InvalidValueError(f"{name} should be positive. Received {value}.")


# Sizes and epochs of Zucchet et al. 2023 (arXiv 2305.15947), who search the learning rate; those of
# long sequences are for a GPU.
SEQUENCE_RECIPES: dict[str, SequenceRecipe] = {
    "copy": SequenceRecipe("copy", batch_size=50, updates=25 * 400, dropout=0.1),
    "recall": SequenceRecipe(
        "recall",
        horizon=1_000,
        chunk=16,
        depth=1,
        width=32,
        state_size=32,
    ),
    "listops": SequenceRecipe(
        "listops",
        r_min=0.9,
        r_max=0.999,
        width=256,
        state_size=128,
        updates=40 * 3_000,
        learning_rate=1e-3,
    ),
    "images": SequenceRecipe(
        "images",
        r_min=0.9,
        r_max=0.999,
        width=256,
        state_size=128,
        batch_size=100,
        updates=180 * 500,
        learning_rate=1e-3,
    ),
    "reviews": SequenceRecipe(
        "reviews",
        r_min=0.9,
        r_max=0.999,
        width=64,
        updates=35 * 781,
        learning_rate=1e-3,
    ),
}


def sequence_recipe_for(task: str) -> SequenceRecipe:
    """Return the recipe of a task.

    Raises:
        InvalidValueError: if there is no such task.

    >>> sequence_recipe_for("copy").updates
    10000
    """
    if task not in SEQUENCE_RECIPES:
        raise InvalidValueError(
            f"There is no task {task!r}: use one of {', '.join(SEQUENCE_RECIPES)}."
        )
    return SEQUENCE_RECIPES[task]
