"""The neural reward function."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn
from torch.nn.functional import conv2d

from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import load_state, read_tensors, write_tensors
from skillrl.rewards.precision import as_numbers, convolution_precision

Kind = Literal["vector", "grid", "image"]


class NeuralReward(nn.Module):
    """A network from an observation to a scalar *activation*; clipped, it is the reward.

    Source: Meier & Mujika 2022 (arXiv 2202.08266). The networks are the paper's, one per kind of
    observation:

    - ``"vector"``: shape ``(n,)``, standardised with frozen statistics, one SiLU layer (the
      paper's has tanh, which asks for no more than the positives that it was fitted to);
    - ``"grid"``: shape ``(2,)``, a row and a column, one-hot on a grid of ``size``, two
      convolutions and a dense layer;
    - ``"image"``: shape ``(channels, height, width)``, values 0 to 255, two convolutions and a
      dense layer. ``channels_last`` says that observations come as ``(height, width, channels)``.

    Args:
        shape: shape of one observation, as the environment gives it.
        kind: kind of observation.
        target: activation that fitting draws positives towards, and negatives towards minus it.
        hidden: units of the dense hidden layer.
        size: rows and columns of the grid; for ``kind="grid"`` only.
        channels_last: layout of images; for ``kind="image"`` only.
        classes: outputs of the network. With more than one it is a classifier of skills, and the
            activation is the log-probability of the class ``label`` above that of a guess,
            ``log q(label | observation) + log(classes)`` (DIAYN, arXiv 1802.06070).
        label: see ``classes``.

    Raises:
        InvalidValueError: if an argument is out of its range.

    >>> reward = NeuralReward((3,), target=5.0)
    >>> reward(torch.zeros(7, 3)).shape
    torch.Size([7])
    >>> reward.reward(np.zeros((7, 3))).shape
    (7,)
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        kind: Kind = "vector",
        *,
        target: float = 5.0,
        hidden: int = 128,
        size: tuple[int, int] | None = None,
        channels_last: bool = False,
        classes: int = 1,
        label: int = 0,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise InvalidValueError(
                f"kind should be one of {', '.join(get_args(Kind))}. Received {kind!r}."
            )
        if not target > 0 or not math.isfinite(target):
            raise InvalidValueError(f"target should be positive and finite. Received {target}.")
        if hidden < 1:
            raise InvalidValueError(f"hidden should be at least 1. Received {hidden}.")
        ranks = {"vector": 1, "grid": 1, "image": 3}
        if len(shape) != ranks[kind] or min(shape, default=0) < 1:
            raise InvalidValueError(
                f"A reward of kind {kind!r} takes observations with {ranks[kind]} dimension(s). "
                f"Received the shape {tuple(shape)}."
            )
        if not 0 <= label < classes:
            raise InvalidValueError(
                f"label should be one of {classes} classes, from 0. Received {label}."
            )
        self.shape = tuple(int(n) for n in shape)
        self.kind = kind
        self.target = float(target)
        self.hidden = int(hidden)
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.channels_last = bool(channels_last)
        self.classes = int(classes)
        self.label = int(label)
        if kind == "vector":
            self.register_buffer("mean", torch.zeros(self.shape))
            self.register_buffer("std", torch.ones(self.shape))
            self.network = nn.Sequential(
                nn.Linear(self.shape[0], hidden), nn.SiLU(), nn.Linear(hidden, classes)
            )
        elif kind == "grid":
            if self.shape != (2,) or self.size is None:
                raise InvalidValueError(
                    "A reward of kind 'grid' takes a row and a column, shape (2,), and the size "
                    f"of the grid. Received the shape {self.shape} and the size {size}."
                )
            self.network = _convolutional(1, self.size, ((4, 5, 3), (8, 4, 3)), hidden, classes)
        else:
            if channels_last:
                height, width, channels = self.shape
            else:
                channels, height, width = self.shape
            layers = ((16, 8, 4), (32, 4, 2))
            self.network = _convolutional(channels, (height, width), layers, hidden, classes)
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def standardise(self, observations: torch.Tensor) -> None:
        """Freeze the statistics of ``observations``, ``(batch, *shape)``, as this network's own.

        Only a reward of kind ``"vector"`` has statistics; the others' inputs are bounded.
        """
        if self.kind != "vector":
            return
        # float64: a mean of many float32 values is not exact enough.
        values = observations.to(torch.float64)
        self.mean.copy_(values.mean(0))
        # A component that hardly moved yet must not be magnified when it moves later.
        self.std.copy_(values.std(0, unbiased=False).clamp_min(1e-2))

    def standardised(self, observations: torch.Tensor) -> torch.Tensor:
        """Return raw observations as ``activation`` takes them.

        Vectors are standardised, and compressed by asinh; float32.

        Raises:
            InvalidValueError: if the observations' shape is not ``(batch, *shape)``.
        """
        if observations.shape[1:] != self.shape:
            raise InvalidValueError(
                f"This reward takes observations of shape (batch, "
                f"{', '.join(map(str, self.shape))}). Received {tuple(observations.shape)}."
            )
        if self.kind != "vector":
            return observations
        # Subtracted before the conversion to float32, which would round large positions.
        # Without a border beyond which more of the same would earn no more; the logarithm keeps
        # what grows without bounds, such as the angle of a body that turns, from hiding the rest.
        return ((observations - self.mean) / self.std).float().asinh()

    def outputs(self, standardised: torch.Tensor) -> torch.Tensor:
        """Return the network's outputs ``(batch, classes)`` for standardised observations."""
        if self.kind == "vector":
            return self.network(standardised)
        if self.kind == "grid":
            return self.network(self._one_hot(standardised))
        return self._convolved(standardised.movedim(-1, 1) if self.channels_last else standardised)

    def _convolved(self, images: torch.Tensor) -> torch.Tensor:
        """Return the outputs for bytes ``(batch, channels, height, width)``, as numbers in [0, 1].

        Divided by 255 are the first convolution's weights, which are fewer than the bytes.
        """
        first, *others = self.network
        assert isinstance(first, nn.Conv2d)
        with convolution_precision(first.weight):
            hidden = as_numbers(images, first.weight)
            hidden = conv2d(hidden, first.weight / 255.0, first.bias, first.stride)
            for module in others[:-1]:
                hidden = module(hidden)
        return others[-1](hidden.to(first.weight.dtype))

    def activation(self, standardised: torch.Tensor) -> torch.Tensor:
        """Return the activations ``(batch,)`` of standardised observations."""
        outputs = self.outputs(standardised)
        if self.classes == 1:
            return outputs.squeeze(-1)
        return outputs.log_softmax(-1)[:, self.label] + math.log(self.classes)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the activations ``(batch,)`` of raw observations ``(batch, *shape)``.

        Raises:
            InvalidValueError: if their shape is another, or a position lies outside of the grid.
        """
        return self.activation(self.standardised(observations))

    def reward(self, observations: np.ndarray) -> np.ndarray:
        """Return the rewards ``(batch,)``, float32 in [0, target], of ``(batch, *shape)``."""
        device = next(self.parameters()).device
        with torch.no_grad():
            activation = self(torch.as_tensor(observations, device=device))
            return activation.clamp(0.0, self.target).cpu().numpy()

    def _one_hot(self, positions: torch.Tensor) -> torch.Tensor:
        assert self.size is not None  # checked by the constructor
        rows, columns = self.size
        outside = (positions < 0) | (positions >= positions.new_tensor(self.size))
        if outside.any():
            worst = positions[outside.any(1)][0].tolist()
            raise InvalidValueError(
                f"The position {worst} lies outside of the {rows}x{columns} grid."
            )
        index = positions[:, 0].long() * columns + positions[:, 1].long()
        grid = torch.zeros(len(positions), rows * columns, device=positions.device)
        grid.scatter_(1, index.unsqueeze(1), 1.0)
        return grid.view(-1, 1, rows, columns)

    def description(self) -> dict[str, Any]:
        """Return what the constructor needs to build this network again, as JSON values."""
        return {
            "shape": list(self.shape),
            "kind": self.kind,
            "target": self.target,
            "hidden": self.hidden,
            "size": None if self.size is None else list(self.size),
            "channels_last": self.channels_last,
            "classes": self.classes,
            "label": self.label,
        }

    def save(self, path: str | PathLike[str]) -> None:
        """Write the network to a safetensors file whose header describes it fully."""
        write_tensors(
            Path(path), self.state_dict(), {"format": "reward", "network": self.description()}
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> NeuralReward:
        """Return the network saved in ``path``. Runs no code of the file.

        Raises:
            DamagedFileError: if the file is missing, damaged, or no reward.
        """
        path = Path(path)
        tensors, description = read_tensors(path)
        if description.get("format") != "reward":
            raise DamagedFileError(
                f"{path} holds no reward but {description.get('format')!r}. "
                "Give the reward.safetensors of a skill."
            )
        try:
            # On the meta device nothing is allocated before the sizes have been compared.
            with torch.device("meta"):
                reward = cls(**description["network"])
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path} describes no valid network: {error}") from None
        load_state(reward, tensors, path)
        if reward.kind == "vector" and not bool((reward.std > 0).all()):
            raise DamagedFileError(f"{path} is damaged: std holds values that are not positive.")
        # As convolutions of images are made.
        layout = torch.channels_last if reward.kind == "image" else torch.preserve_format
        return reward.to(memory_format=layout)  # type: ignore[call-overload]


def _convolutional(
    channels: int,
    size: tuple[int, int],
    layers: tuple[tuple[int, int, int], ...],
    hidden: int,
    classes: int,
) -> nn.Sequential:
    """Convolutions ``(channels, kernel, stride)``, each with a ReLU, a dense layer, outputs."""
    modules: list[nn.Module] = []
    height, width = size
    for out_channels, kernel, stride in layers:
        modules += [nn.Conv2d(channels, out_channels, kernel, stride), nn.ReLU()]
        channels = out_channels
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    if height < 1 or width < 1:
        raise InvalidValueError(f"Observations of {size[0]}x{size[1]} are too small to convolve.")
    features = channels * height * width
    return nn.Sequential(
        *modules, nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    )
