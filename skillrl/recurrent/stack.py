"""Deep recurrent networks: blocks of norm, recurrence, gated linear unit and residual."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, glu

from skillrl.errors import InvalidValueError
from skillrl.recurrent.carry import Carry
from skillrl.recurrent.layer import RecurrentLayer, Step
from skillrl.recurrent.recipes import Rule

# Width of a block to the layer inside of it.
MakeLayer = Callable[[int], RecurrentLayer]
Readout = Literal["step", "mean"]


class Block(nn.Module):
    """Norm → recurrent layer → gated linear unit → residual (Orvieto et al. 2023).

    Args:
        layer: for inputs of ``width`` components.
        width: components of inputs and outputs.
        dropout: share of the gated unit's outputs that is dropped in training.
    """

    def __init__(self, layer: RecurrentLayer, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layer = layer
        self.gate = nn.Linear(layer.output_size, 2 * width)
        self.dropout = dropout

    def forward(
        self, inputs: Tensor, carry: Carry | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """Process one chunk; see ``RecurrentLayer.forward``."""
        hidden, carry = self.layer(self.norm(inputs), carry, starts)
        return inputs + dropout(glu(self.gate(hidden)), self.dropout, self.training), carry


class RecurrentStack(nn.Module):
    """Encoder, blocks and a read-out; called like a single layer.

    Args:
        input_size: components of an input.
        output_size: components of an output.
        width: components between the blocks.
        depth: blocks.
        layer: from the width to a block's recurrent layer, such as
            ``lambda width: LRU(width, 64)``.
        readout: ``"step"`` for an output at every step; ``"mean"`` for one a chunk, of the mean of
            all steps since the sequence began.
        dropout: share of the gated units' outputs that is dropped in training.

    Raises:
        InvalidValueError: if an argument is out of range.

    >>> from skillrl.recurrent import LRU
    >>> network = RecurrentStack(3, 2, width=16, depth=2, layer=lambda width: LRU(width, 8))
    >>> outputs, carry = network(torch.randn(10, 4, 3))
    >>> outputs.shape, sorted(carry)[:2]
    (torch.Size([10, 4, 2]), ['0.decay', '0.gain'])
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        width: int,
        depth: int,
        layer: MakeLayer,
        readout: Readout = "step",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(width, depth, input_size, output_size) < 1:
            raise InvalidValueError(
                "A stack has at least one input, output, component and block. Received "
                f"input_size={input_size}, output_size={output_size}, width={width}, depth={depth}."
            )
        if readout not in get_args(Readout):
            raise InvalidValueError(
                f"readout should be one of {', '.join(get_args(Readout))}. Received {readout!r}."
            )
        if not 0 <= dropout < 1:
            raise InvalidValueError(f"dropout should be in [0, 1). Received {dropout}.")
        self.readout = readout
        self.encoder = nn.Linear(input_size, width)
        self.blocks = nn.ModuleList(
            Block(_made(layer, width), width, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, output_size)

    def _blocks(self) -> Iterator[Block]:
        return (cast(Block, block) for block in self.blocks)

    def layers(self) -> Iterator[RecurrentLayer]:
        """The recurrent layers, from the input to the output."""
        return (block.layer for block in self._blocks())

    @property
    def rule(self) -> Rule:
        """The learning rule of all layers."""
        return next(self.layers()).rule

    @rule.setter
    def rule(self, rule: Rule) -> None:
        for layer in self.layers():
            layer.rule = rule

    def initial_carry(self, batch_size: int, *, sensitivities: bool | None = None) -> Carry:
        """Return the carry at the begin of sequences; see ``RecurrentLayer.initial_carry``."""
        parts = {
            str(index): layer.initial_carry(batch_size, sensitivities=sensitivities)
            for index, layer in enumerate(self.layers())
        }
        if self.readout == "mean":
            # The sum over the steps so far, and their number.
            pool = self.head.weight.new_zeros(batch_size, self.head.in_features + 1)
            parts["mean"] = Carry({"state": pool})
        return Carry.stack(parts)

    def forward(
        self, inputs: Tensor, carry: Carry | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """Process one chunk.

        Args:
            inputs: ``(time, batch, input_size)``.
            carry: at the end of the chunk before; None where sequences begin.
            starts: where episodes begin, ``(time, batch)``, bool.

        Returns:
            Outputs ``(time, batch, output_size)`` or, of a mean, ``(batch, output_size)``, and the
            carry at the chunk's end.

        Raises:
            InvalidValueError: as in ``RecurrentLayer.forward``, or if the carry is that of another
                network.
        """
        if inputs.dim() != 3 or inputs.shape[-1] != self.encoder.in_features:
            raise InvalidValueError(
                f"The network takes inputs of shape (time, batch, {self.encoder.in_features}). "
                f"Received {tuple(inputs.shape)}."
            )
        parameter = self.encoder.weight
        if inputs.dtype != parameter.dtype or inputs.device != parameter.device:
            raise InvalidValueError(
                f"The inputs are {inputs.dtype} on {inputs.device}, and the parameters of the "
                f"network are {parameter.dtype} on {parameter.device}."
            )
        if carry is not None:
            self._check_parts(carry, inputs.shape[1])
        hidden, parts = self.encoder(inputs), {}
        for index, block in enumerate(self.blocks):
            name = str(index)
            before = None if carry is None else carry.part(name)
            hidden, parts[name] = block(hidden, before, starts)
        hidden = self.norm(hidden)
        if self.readout == "mean":
            pool = None if carry is None else carry["mean.state"]
            hidden, parts["mean"] = self._pooled(hidden, pool, starts)
        return self.head(hidden), Carry.stack(parts)

    def stepper(self) -> Step:
        """Return a function that acts; see ``RecurrentLayer.stepper``.

        Dropout is left out. With a mean as read-out, outputs are of the mean so far.
        """
        steps = [layer.stepper() for layer in self.layers()]

        @torch.no_grad()
        def step(
            inputs: Tensor, carry: Carry, starts: Tensor | None = None
        ) -> tuple[Tensor, Carry]:
            hidden, parts, carry = self.encoder(inputs), {}, carry.reset(starts)
            for index, (block, act) in enumerate(zip(self._blocks(), steps, strict=True)):
                name = str(index)
                seen, parts[name] = act(block.norm(hidden), carry.part(name))
                hidden = hidden + glu(block.gate(seen))
            hidden = self.norm(hidden)
            if self.readout == "mean":
                hidden, parts["mean"] = self._pooled(hidden[None], carry["mean.state"], None)
            return self.head(hidden), Carry.stack(parts)

        return step

    def _pooled(
        self, hidden: Tensor, pool: Tensor | None, starts: Tensor | None
    ) -> tuple[Tensor, Carry]:
        """Mean of all steps since the sequences began; steps of earlier chunks are constants."""
        counted = torch.cat([hidden, torch.ones_like(hidden[..., :1])], -1)
        if starts is not None:
            # Of an episode that ends inside the chunk nothing counts any more.
            left = (~starts).to(hidden.dtype).flip(0).cumprod(0).flip(0)
            pool = None if pool is None else pool * left[0].unsqueeze(-1)
            after = torch.cat([left[1:], torch.ones_like(left[:1])])
            counted = counted * after.unsqueeze(-1)
        total = counted.sum(0) if pool is None else pool + counted.sum(0)
        return total[:, :-1] / total[:, -1:], Carry({"state": total.detach()})

    def _check_parts(self, carry: Carry, batch_size: int) -> None:
        if not isinstance(carry, Carry):
            raise InvalidValueError(
                "The network takes a Carry, as the last chunk or initial_carry(batch_size) "
                f"returned it. Received a {type(carry).__name__}."
            )
        expected = {str(index) for index in range(len(self.blocks))}
        if self.readout == "mean":
            expected.add("mean")
        received = {name.partition(".")[0] for name in carry}
        if received != expected:
            raise InvalidValueError(
                f"The network carries the parts {', '.join(sorted(expected))}. The carry of "
                f"another network holds {', '.join(sorted(received))}."
            )
        pool = (batch_size, self.head.in_features + 1)
        if self.readout == "mean":
            mean, weight = carry["mean.state"], self.head.weight
            if (mean.shape, mean.dtype, mean.device) != (pool, weight.dtype, weight.device):
                raise InvalidValueError(
                    f"With {batch_size} sequence(s) the network carries a mean of shape {pool}, "
                    f"{weight.dtype} on {weight.device}. Received {tuple(mean.shape)}, "
                    f"{mean.dtype} on {mean.device}."
                )


def _made(make: MakeLayer, width: int) -> RecurrentLayer:
    """A new layer for a block.

    Raises:
        InvalidValueError: if it is none, or not as wide as the block.
    """
    layer = None if isinstance(make, nn.Module) else make(width)
    if not isinstance(layer, RecurrentLayer):
        received = make if layer is None else layer
        raise InvalidValueError(
            "layer should be a function from the width to a layer of skillrl.recurrent, such as "
            f"lambda width: LRU(width, 64). Received {received}."
        )
    if layer.input_size != width:
        raise InvalidValueError(
            f"The layer of a block of width {width} takes as many components. Received "
            f"{type(layer).__name__}({layer.extra_repr()})."
        )
    return layer


def parameter_groups(
    network: nn.Module, learning_rate: float, recurrent_share: float = 0.5
) -> list[dict[str, object]]:
    """Return groups for an optimiser, in which recurrences learn more slowly than the rest.

    Args:
        network: any module.
        learning_rate: of all other parameters.
        recurrent_share: of it, for what the layers' states depend on. Source of one half: Zucchet
            et al. 2023.
    """
    recurrent = {
        id(parameter): parameter
        for layer in network.modules()
        if isinstance(layer, RecurrentLayer)
        for parameter in layer.recurrent_parameters()
    }
    rest = [parameter for parameter in network.parameters() if id(parameter) not in recurrent]
    return [
        {"params": rest, "lr": learning_rate},
        {"params": list(recurrent.values()), "lr": learning_rate * recurrent_share},
    ]
