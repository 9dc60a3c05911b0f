"""What all recurrent layers have in common: how they are called, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, get_args

import torch
from torch import Tensor, nn

from skillrl.errors import InvalidValueError
from skillrl.recurrent.carry import Carry
from skillrl.recurrent.recipes import Rule


class Step(Protocol):
    """One step of a layer or a network; see ``RecurrentLayer.stepper``."""

    def __call__(
        self, inputs: Tensor, carry: Carry, starts: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """Return outputs and the carry after one step."""
        ...


RealStep = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# Gradients of parameters, of that of a state and what is kept; see ``Expanded``.
Owed = Callable[..., tuple[Tensor, ...]]


class RecurrentLayer(nn.Module):
    """A recurrent layer that is called like ``torch.nn.GRU``, chunk after chunk of a sequence.

    Learning rules, of which each layer has some:

    - ``"online"``: sensitivities of the state to the layer's parameters are carried from chunk to
      chunk, so that the gradient of these parameters, and of everything above the layer, is that of
      backpropagation through the whole sequence, whatever the length of the chunks. Of what lies
      below the layer it lacks what flows through the state at a chunk's border. Chunks of one step
      are the algorithm of Zucchet et al. 2023 (arXiv 2305.15947).
    - ``"truncated"``: the state is carried as a constant.
    - ``"one_step"``: at every step the last state is a constant.
    - ``"spatial"``: at every step what the recurrence adds is a constant, so that how much the last
      state counts is not learnt.
    - ``"bptt"``: as ``"truncated"``, for whole sequences in one chunk.
    - ``"snap1"``: as ``"online"``, with those sensitivities alone that a parameter has by way of
      the unit it belongs to (SnAp-1, Menick et al. 2021, arXiv 2006.07232).

    Args:
        input_size: components of an input.
        state_size: units.
        output_size: components of an output.
        rule: the learning rule, an attribute that may be set at any time.

    Raises:
        InvalidValueError: if a size is not positive, or the layer does not have the rule.
    """

    rules: ClassVar[tuple[Rule, ...]]

    def __init__(self, input_size: int, state_size: int, output_size: int, rule: Rule) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("state_size", state_size)):
            if not hasattr(size, "__index__") or size < 1:
                raise InvalidValueError(
                    f"{name} should be a whole number, at least 1. Received {size}."
                )
        self.input_size = input_size
        self.state_size = state_size
        self.output_size = output_size
        self.rule = rule

    @property
    def rule(self) -> Rule:
        """The learning rule."""
        return self._rule

    @rule.setter
    def rule(self, rule: Rule) -> None:
        if rule not in self.rules:
            known = "has" if rule in get_args(Rule) else "knows"
            raise InvalidValueError(
                f"{type(self).__name__} {known} no rule {rule!r}: use one of "
                f"{', '.join(self.rules)}."
            )
        self._rule = rule

    @property
    def carries_sensitivities(self) -> bool:
        """Whether the rule needs sensitivities."""
        return self.rule in ("online", "snap1")

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.state_size}, rule={self.rule!r}"

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that the state depends on: all but those of a linear read-out."""
        for name, parameter in self.named_parameters():
            if name not in ("output_weight", "feedthrough"):
                yield parameter

    def carried(self) -> dict[str, tuple[int, ...]]:
        """Shapes of what is carried, without the batch; the first is the state."""
        raise NotImplementedError

    def initial_carry(self, batch_size: int, *, sensitivities: bool | None = None) -> Carry:
        """Return the carry at the begin of ``batch_size`` sequences: zeros.

        Args:
            batch_size: number of sequences.
            sensitivities: whether sensitivities are carried, too; None for whether the rule needs
                them. A carry without any is enough for acting, and half as dear.
        """
        if sensitivities is None:
            sensitivities = self.carries_sensitivities
        like = next(self.parameters())
        shapes = self.carried()
        names = [*shapes] if sensitivities else ["state"]
        return Carry({name: like.new_zeros(batch_size, *shapes[name]) for name in names})

    def forward(
        self, inputs: Tensor, carry: Carry | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """Process one chunk.

        Args:
            inputs: ``(time, batch, input_size)``.
            carry: at the end of the chunk before; None where sequences begin.
            starts: where episodes begin, ``(time, batch)``, bool: state and sensitivities are zero
                before these steps.

        Returns:
            Outputs ``(time, batch, output_size)``, and the carry at the chunk's end.

        Raises:
            InvalidValueError: if shapes, dtypes or devices do not fit, or the rule needs
                sensitivities that the carry does not hold.
        """
        self._check_inputs(inputs, 3, starts)
        if carry is None:
            # Nothing is learnt from where there are no gradients.
            wanted = self.carries_sensitivities and torch.is_grad_enabled()
            carry = self.initial_carry(inputs.shape[1], sensitivities=wanted)
        self._check_carry(carry, inputs.shape[1])
        return self._chunk(inputs, carry, starts)

    def outputs(self, inputs: Tensor, carry: Carry, starts: Tensor | None = None) -> Tensor:
        """Return the outputs of one chunk alone, where nothing follows it; see ``forward``."""
        self._check_inputs(inputs, 3, starts)
        self._check_carry(carry, inputs.shape[1])
        return self._outputs(inputs, carry, starts)

    def _chunk(self, inputs: Tensor, carry: Carry, starts: Tensor | None) -> tuple[Tensor, Carry]:
        raise NotImplementedError

    def _outputs(self, inputs: Tensor, carry: Carry, starts: Tensor | None) -> Tensor:
        return self._chunk(inputs, carry, starts)[0]

    @torch.no_grad()
    def sweep(self, inputs: Tensor, carry: Carry, starts: Tensor, chunk: int) -> list[Carry]:
        """Return the carries where chunks begin, and at the end of the last, without gradients.

        What the layer would carry from chunk to chunk, for less than processing them costs where a
        layer knows how.

        Args:
            inputs: of several chunks, ``(chunks * chunk, batch, input_size)``.
            carry: before the first.
            starts: where episodes begin, ``(chunks * chunk, batch)``, bool.
            chunk: steps of a chunk.

        Returns:
            A carry for each chunk and one for the end.
        """
        found = [carry]
        for part, begins in zip(inputs.split(chunk), starts.split(chunk), strict=True):
            found.append(self(part, found[-1], begins)[1])
        return found

    def stepper(self) -> Step:
        """Return a function that acts: one step, with the parameters as they are now.

        It is to be taken anew when they have changed: it may have kept what follows from them.

        It takes inputs ``(batch, input_size)``, a carry and, where episodes may begin, ``starts``
        ``(batch,)``, and returns outputs ``(batch, output_size)`` and the carry; sensitivities are
        carried where the carry holds them. There are no gradients and, to be quick, no checks.
        """

        def step(
            inputs: Tensor, carry: Carry, starts: Tensor | None = None
        ) -> tuple[Tensor, Carry]:
            with torch.no_grad():
                outputs, carry = self._chunk(inputs[None], carry.reset(starts), None)
            return outputs[0], carry

        return step

    def real_stepper(self) -> RealStep:
        """Return ``stepper`` as ordinary operations on real numbers, to be exported elsewhere.

        It takes inputs ``(batch, input_size)``, the carry's state, and ``starts`` ``(batch,)``, and
        returns outputs ``(batch, output_size)`` and the state.
        """

        @torch.no_grad()
        def step(inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
            carry = Carry({"state": state}).reset(starts)
            outputs, carry = self._chunk(inputs[None], carry, None)
            return outputs[0], carry["state"]

        return step

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return what the state is a function of, as constants; see ``corrected``."""
        raise InvalidValueError(
            f"The states of {type(self).__name__} cannot be corrected to first order."
        )

    def corrected(self, carry: Carry, then: tuple[Tensor, ...]) -> Carry:
        """Return a carry whose state is, to first order, what the present parameters would give.

        Args:
            carry: with sensitivities.
            then: ``coefficients()`` at the time of the carry.

        Raises:
            InvalidValueError: if the layer has no such correction.
        """
        raise NotImplementedError

    def _check_inputs(self, inputs: Tensor, rank: int, starts: Tensor | None) -> None:
        parameter = next(self.parameters())
        wanted = "(time, batch, {})" if rank == 3 else "(batch, {})"
        if not isinstance(inputs, Tensor):
            raise InvalidValueError(
                f"{type(self).__name__} takes a tensor of inputs of shape "
                f"{wanted.format(self.input_size)}. Received a {type(inputs).__name__}."
            )
        if inputs.dim() != rank or inputs.shape[-1] != self.input_size:
            raise InvalidValueError(
                f"{type(self).__name__} takes inputs of shape {wanted.format(self.input_size)}. "
                f"Received {tuple(inputs.shape)}."
            )
        if inputs.dtype != parameter.dtype or inputs.device != parameter.device:
            raise InvalidValueError(
                f"The inputs are {inputs.dtype} on {inputs.device}, and the parameters of "
                f"{type(self).__name__} are {parameter.dtype} on {parameter.device}."
            )
        if 0 in inputs.shape[:-1]:
            raise InvalidValueError(
                f"A chunk has at least one step of one sequence. Received {tuple(inputs.shape)}."
            )
        if parameter.dtype not in (torch.float32, torch.float64):
            raise InvalidValueError(
                f"{type(self).__name__} computes in float32 or float64. Its parameters are "
                f"{parameter.dtype}."
            )
        if starts is not None and not isinstance(starts, Tensor):
            raise InvalidValueError(
                f"starts should be a tensor. Received a {type(starts).__name__}."
            )
        if starts is not None and (
            starts.shape != inputs.shape[:-1]
            or starts.dtype != torch.bool
            or starts.device != inputs.device
        ):
            raise InvalidValueError(
                f"starts should be bool of shape {tuple(inputs.shape[:-1])} on {inputs.device}, as "
                f"the inputs. Received {starts.dtype} of shape {tuple(starts.shape)} on "
                f"{starts.device}."
            )

    def _check_carry(self, carry: Carry, batch_size: int) -> None:
        shapes, name = self.carried(), type(self).__name__
        if not isinstance(carry, Carry):
            raise InvalidValueError(
                f"{name} takes a Carry, as the last chunk or initial_carry(batch_size) returned "
                f"it. Received a {type(carry).__name__}."
            )
        if "state" not in carry or not {*carry} <= {*shapes}:
            raise InvalidValueError(
                f"{name} carries {', '.join(shapes)}. The carry of another network holds "
                f"{', '.join(carry)}."
            )
        if self.carries_sensitivities and torch.is_grad_enabled() and {*carry} != {*shapes}:
            missing = [key for key in shapes if key not in carry]
            raise InvalidValueError(
                f"The rule {self.rule!r} of {name} needs sensitivities, and the carry, which holds "
                f"{', '.join(carry)}, lacks {', '.join(missing)}: take it with "
                "initial_carry(batch_size), or from a chunk with sensitivities."
            )
        parameter = next(self.parameters())
        for key, value in carry.items():
            expected = (batch_size, *shapes[key])
            if value.shape != expected:
                raise InvalidValueError(
                    f"With {batch_size} sequence(s), {name} carries {key} of shape {expected}. "
                    f"Received {tuple(value.shape)}."
                )
            if value.dtype != parameter.dtype or value.device != parameter.device:
                raise InvalidValueError(
                    f"The carry is {value.dtype} on {value.device}, and the parameters of {name} "
                    f"are {parameter.dtype} on {parameter.device}."
                )


class Expanded(torch.autograd.Function):
    """A state with the gradient that the past owes the parameters.

    The first-order expansion of the state in the parameters, which at their present values is the
    state itself; so that only its gradient needs the sensitivities.

    Call ``Expanded.apply(state, parameters, owed, *parameters, *kept)``: the number of parameters,
    and what turns the gradient of the state, with tensors that are kept for it, into theirs.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, parameters: int, owed: Owed, *tensors: Tensor) -> Tensor:
        """Return a copy of the state."""
        ctx.save_for_backward(*tensors[parameters:])
        ctx.owed = owed
        return state.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the state and the parameters."""
        kept = ctx.saved_tensors
        return (grad, None, None, *ctx.owed(grad, *kept), *[None] * len(kept))
