"""Recipes: every setting of a study of networks of different seeds, documented where defined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from skillrl.errors import InvalidValueError

NetworkName = Literal["dense", "convolutional"]
Method = Literal["activations", "weights", "both"]
"""What tells which units are alike:

- ``"activations"``: what they do on the same observations, one pass over all groups (Benzing et al.
  2022, arXiv 2209.07509); of units that are idle there, the parameters around them;
- ``"weights"``: the parameters around them, group after group until nothing changes (Ainsworth et
  al. 2022, Git Re-Basin, arXiv 2209.04836);
- ``"both"``: the sum of the two cosines, beginning with the activations'.
"""


@dataclass(frozen=True)
class StudyRecipe:
    """Every setting of a study: what is trained, and how it is aligned.

    ``STUDY_RECIPES`` holds those of Benzing et al. 2022 (arXiv 2209.07509).

    Raises:
        InvalidValueError: if a value is out of range.
    """

    network: NetworkName
    """The network, of relu units without biases. "dense": fully connected layers. "convolutional":
    3 × 3 convolutions, a pooling over 2 × 2, convolutions of twice the width, the mean over all
    pixels, and a dense layer."""
    data: str | None = None
    """Folder of the images: DATA/train/CLASS/*.jpg and DATA/test, CIFAR-10's binary batches, or
    MNIST's IDX files; where it is not given, the environment variable SKILLRL_DATA names it."""
    limit: int | None = None
    """Images that are read of each class and split; all where it is not given."""
    width: int = 1_000
    """Units of a hidden layer, or channels of a convolution before the pooling."""
    depth: int = 1
    """Hidden layers, or convolutions before and after the pooling each."""
    method: Method = "activations"
    """What tells which units are alike: what they do on the same images, the weights around them,
    or the sum of both."""
    observations: int = 10_000
    """Training images on which units are compared; all where there are fewer."""
    updates: int = 500
    """Gradient steps."""
    batch_size: int = 100
    """Images of a gradient step."""
    learning_rate: float = 1e-3
    """AdamW's."""
    pairs: int = 5
    """Pairs of networks, each of two seeds of its own."""
    seed: int = 0
    """The first network's; the others' follow."""
    device: str = "cpu"
    """Device that torch computes on, for example cuda."""

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for name in ("network", "method"):
            if getattr(self, name) not in get_args(types[name]):
                raise InvalidValueError(
                    f"{name} should be one of {', '.join(get_args(types[name]))}. Received "
                    f"{getattr(self, name)!r}."
                )
        for name in ("width", "depth", "observations", "batch_size", "pairs"):
            if getattr(self, name) < 1:
                raise InvalidValueError(
                    f"{name} should be at least 1. Received {getattr(self, name)}."
                )
        if self.limit is not None and self.limit < 1:
            raise InvalidValueError(f"limit should be at least 1. Received {self.limit}.")
        for name in ("updates", "seed"):
            if getattr(self, name) < 0:
                raise InvalidValueError(
                    f"{name} should be at least 0. Received {getattr(self, name)}."
                )
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise InvalidValueError(
                f"learning_rate should be positive. Received {self.learning_rate}."
            )


STUDY_RECIPES: dict[str, StudyRecipe] = {
    "dense": StudyRecipe("dense"),
    # A channel is observed at every pixel: fewer images say as much, and fit in memory.
    "convolutional": StudyRecipe("convolutional", width=64, depth=2, observations=1_000),
}
