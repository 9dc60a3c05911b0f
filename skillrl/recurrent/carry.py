"""What a recurrent network hands from one chunk of time to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skillrl.errors import DamagedFileError, DivergedError, InvalidValueError
from skillrl.files import read_tensors, write_tensors


class Carry(Mapping[str, Tensor]):
    """State and sensitivities at the end of a chunk, for every sequence of a batch; constants.

    A mapping from names to real tensors whose first dimension is the batch; what is complex has
    its real and imaginary parts in the last one. The names are those of the layer that made it,
    and in a stack of layers they begin with the layer's number (``"2.state"``).

    >>> carry = Carry({"state": torch.zeros(8, 5, 2)})
    >>> len(carry.rows([0, 3])["state"]), Carry.concatenate([carry, carry]).batch_size
    (2, 16)
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)

    def __getstate__(self) -> dict[str, Any]:
        # On the CPU: what was learnt on a GPU can be read where there is none.
        return {"_tensors": {name: value.cpu() for name, value in self.items()}}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {tuple(value.shape)}" for name, value in self.items())
        return f"Carry({shapes})"

    @property
    def batch_size(self) -> int:
        """Number of sequences."""
        return len(next(iter(self._tensors.values())))

    def rows(self, index: Any) -> Carry:
        """Return the carry of some of the sequences.

        Args:
            index: a number, a slice, a list of numbers, or a tensor of numbers or truth values,
                ``(batch,)``.
        """
        if isinstance(index, Integral):
            index = [int(index)]
        if isinstance(index, Tensor) and index.dtype == torch.int64:
            # Many times as fast for large rows.
            return Carry({name: value.index_select(0, index) for name, value in self.items()})
        return Carry({name: value[index] for name, value in self.items()})

    @staticmethod
    def concatenate(carries: Sequence[Carry]) -> Carry:
        """Return the carry of all sequences of several batches.

        Raises:
            InvalidValueError: if there is none, or they belong to different networks.
        """
        if not carries:
            raise InvalidValueError("There is no carry to concatenate.")
        for other in carries[1:]:
            if other._kind() != carries[0]._kind():
                raise InvalidValueError(
                    "The carries belong to different networks, or differ in dtype or device: "
                    f"{carries[0]._described()}, and {other._described()}."
                )
        return Carry({name: torch.cat([each[name] for each in carries]) for name in carries[0]})

    def _described(self) -> str:
        kinds = {f"{value.dtype} on {value.device}" for value in self.values()}
        return f"{self} of {', '.join(sorted(kinds))}"

    def _kind(self) -> dict[str, Any]:
        return {n: (v.shape[1:], v.dtype, v.device) for n, v in sorted(self.items())}

    def to(self, *args: Any, **kwargs: Any) -> Carry:
        """Return the carry on another device, or of another dtype, as ``Tensor.to``."""
        return Carry({name: value.to(*args, **kwargs) for name, value in self.items()})

    def reset(self, starts: Tensor | None) -> Carry:
        """Return zeros for sequences that begin anew, even for what is not finite.

        Args:
            starts: which do, ``(batch,)``, bool; None for none of them.
        """
        if starts is None:
            return self
        # On a CPU a look at them costs less than a pass over the sensitivities.
        looks = starts.device.type == "cpu" and not torch.compiler.is_compiling()
        if looks and not starts.any():
            return self
        return Carry(
            {n: v.masked_fill(starts.view(-1, *[1] * (v.dim() - 1)), 0) for n, v in self.items()}
        )

    def without_sensitivities(self) -> Carry:
        """Return the state alone, for acting without learning."""
        return Carry({n: value for n, value in self.items() if n.rpartition(".")[2] == "state"})

    def part(self, prefix: str) -> Carry:
        """Return what belongs to one layer of a stack, under the layer's own names."""
        start = f"{prefix}."
        return Carry({n.removeprefix(start): v for n, v in self.items() if n.startswith(start)})

    @staticmethod
    def stack(parts: Mapping[str, Carry]) -> Carry:
        """Return one carry for several layers; the opposite of ``part``."""
        return Carry({f"{at}.{name}": v for at, part in parts.items() for name, v in part.items()})

    def check_finite(self) -> None:
        """Find numbers that are none.

        Raises:
            DivergedError: naming the layer and the sequence.
        """
        for name, value in self.items():
            if not torch.isfinite(value).all():
                layer, _, what = name.rpartition(".")
                row = int((~torch.isfinite(value.flatten(1))).any(1).nonzero()[0])
                raise DivergedError(
                    f"The {what} of {f'layer {layer}' if layer else 'the layer'} is not finite "
                    f"in sequence {row} of the batch: lower the learning rate, or clip the "
                    "gradient."
                )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the carry to a safetensors file."""
        write_tensors(Path(path), self._tensors, {"format": "carry"})

    @staticmethod
    def load(path: str | PathLike[str]) -> Carry:
        """Return the carry saved in ``path``.

        Raises:
            DamagedFileError: if the file is missing, damaged, or no carry.
        """
        tensors, description = read_tensors(Path(path))
        if description.get("format") != "carry":
            raise DamagedFileError(f"{path} holds no carry but {description.get('format')!r}.")
        return Carry(tensors)
