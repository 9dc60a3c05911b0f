"""What layers with a diagonal complex recurrence share: the chunk, and its sensitivities.

``h_t = λ ⊙ h_{t−1} + γ ⊙ (B x_t)``. Each unit evolves on its own, and so do the sensitivities of
its state (Zucchet et al. 2023, arXiv 2305.15947):

    e^λ_t = λ e^λ_{t−1} + h_{t−1}     e^γ_t = λ e^γ_{t−1} + B x_t     e^B_t = λ e^B_{t−1} + γ x_tᵀ

Carried are γ e^γ and e^B / γ: each saves a product a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from skillrl.errors import InvalidValueError
from skillrl.recurrent.carry import Carry
from skillrl.recurrent.layer import RealStep, RecurrentLayer, Step
from skillrl.recurrent.recipes import Rule
from skillrl.recurrent.recurrence import diagonal_recurrence, direct

real, complex_ = torch.view_as_real, torch.view_as_complex

# Numbers that a core keeps at hand: the largest sensitivities are advanced in parts of this size.
_CACHED = 2**17


class DiagonalLayer(RecurrentLayer):
    """Base of layers with a diagonal complex recurrence; complex numbers are pairs of real ones.

    A subclass has ``decay()`` and ``gain()``, λ ``(state_size, 2)`` and γ ``(state_size,)``, and
    turns states into outputs by ``_read``.

    Attributes:
        input_weight: B, ``(input_size, state_size, 2)``.
    """

    rules = ("online", "truncated", "one_step", "spatial", "bptt")
    input_weight: nn.Parameter

    def __init__(self, input_size: int, state_size: int, output_size: int, rule: Rule) -> None:
        super().__init__(input_size, state_size, output_size, rule)
        # Of each pair of parts N(0, 1) / √(2 H).
        scale = (2 * input_size) ** -0.5
        self.input_weight = nn.Parameter(torch.randn(input_size, state_size, 2) * scale)

    def decay(self) -> Tensor:
        """Return λ, ``(state_size, 2)``."""
        raise NotImplementedError

    def gain(self) -> Tensor:
        """Return γ, ``(state_size,)``."""
        raise NotImplementedError

    def _read(self, states: Tensor, inputs: Tensor) -> Tensor:
        """Return outputs for states ``(..., state_size, 2)``."""
        raise NotImplementedError

    def _reader(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return ``_read`` with the parameters as they are now."""
        return self._read

    def carried(self) -> dict[str, tuple[int, ...]]:
        units = (self.state_size, 2)
        return {"state": units, "decay": units, "gain": units, "input": (self.input_size, *units)}

    def _chunk(self, inputs: Tensor, carry: Carry, starts: Tensor | None) -> tuple[Tensor, Carry]:
        decay, keep, driven, states = self._states(inputs, carry, starts)
        with torch.no_grad():
            # A copy: the carry outlives the chunk, whose memory a view would hold.
            after = {"state": states[-1].clone()}
            if "input" in carry:
                advanced = _advance(
                    *(decay, keep, inputs, driven, states, carry["state"]),
                    *_sensitivities(carry),
                )
                after |= dict(zip(("decay", "gain", "input"), advanced, strict=True))
        return self._read(states, inputs), Carry(after)

    def _outputs(self, inputs: Tensor, carry: Carry, starts: Tensor | None) -> Tensor:
        return self._read(self._states(inputs, carry, starts)[-1], inputs)

    def _states(
        self, inputs: Tensor, carry: Carry, starts: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """λ, where states are kept, what drives them, and the states ``(time, batch, size, 2)``."""
        decay, gain = self.decay(), self.gain()
        keep = None if starts is None else (~starts).to(inputs.dtype)
        driven = (inputs @ self._drive(gain)).unflatten(-1, (self.state_size, 2))
        if not torch.compiler.is_compiling():
            self._check_backward_mode(decay, driven)
        initial = carry["state"]
        if self.rule == "online" and torch.is_grad_enabled():
            parameters = (decay, gain, self.input_weight)
            initial = _carried_state(initial, *_sensitivities(carry), *parameters)
        if self.rule in ("one_step", "spatial") and torch.is_grad_enabled():
            states = self._cut(decay, driven, initial, keep)
        else:
            states = diagonal_recurrence(decay, driven, initial, keep)
        return decay, keep, driven, states

    def _drive(self, gain: Tensor) -> Tensor:
        """What inputs are multiplied by to drive the states, ``(input_size, 2 * size)``."""
        return (gain.unsqueeze(-1) * self.input_weight).flatten(1)

    def _check_backward_mode(self, *tensors: Tensor) -> None:
        """Refuse tangents: the operations below would take them for zeros."""
        if any(unpack_dual(tensor).tangent is not None for tensor in tensors):
            raise InvalidValueError(
                f"{type(self).__name__} has no derivatives in forward mode, as torch.func.jvp asks "
                "for them: use backward() or torch.autograd.grad."
            )

    @torch.no_grad()
    def sweep(self, inputs: Tensor, carry: Carry, starts: Tensor, chunk: int) -> list[Carry]:
        decay, keep = self.decay(), (~starts).to(inputs.dtype)
        driven = (inputs @ self._drive(self.gain())).unflatten(-1, (self.state_size, 2))

        def side_by_side(values: Tensor) -> Tensor:
            """Chunks as sequences of a batch: ``(chunk, chunks * batch, …)``."""
            return values.unflatten(0, (-1, chunk)).transpose(0, 1).flatten(1, 2)

        keep, inputs, driven = map(side_by_side, (keep, inputs, driven))
        # What each chunk adds, all chunks at once, as if nothing came before them …
        none = self.initial_carry(driven.shape[1], sensitivities="input" in carry)
        states = diagonal_recurrence(decay, driven, none["state"], keep)
        added = {"state": states[-1]}
        if "input" in carry:
            advanced = _advance(
                *(decay, keep, inputs, driven, states, none["state"]), *_sensitivities(none)
            )
            added |= dict(zip(("decay", "gain", "input"), advanced, strict=True))
        shape = (-1, len(starts[0]))
        parts = {name: complex_(value).unflatten(0, shape) for name, value in added.items()}
        # … and what it leaves of what did: λ^chunk of all, with a derivative of its own.
        left = keep.prod(0).unflatten(0, shape).unsqueeze(-1)
        powers = complex_(decay) ** (chunk - 1)
        factors, slopes = complex_(decay) * powers * left, chunk * powers * left
        found = [carry]
        for at in range(len(starts) // chunk):
            before = {name: complex_(value) for name, value in found[-1].items()}
            after = {
                name: torch.addcmul(
                    part[at], factors[at][:, None] if name == "input" else factors[at], before[name]
                )
                for name, part in parts.items()
            }
            if "input" in carry:
                after["decay"].addcmul_(slopes[at], before["state"])
            found.append(Carry({name: real(value) for name, value in after.items()}))
        return found

    def stepper(self) -> Step:
        with torch.no_grad():
            gain = self.gain()
            decay = complex_(self.decay())
            weight = self._drive(gain)
            read = self._reader()

        @torch.no_grad()
        def step(
            inputs: Tensor, carry: Carry, starts: Tensor | None = None
        ) -> tuple[Tensor, Carry]:
            carry = carry.reset(starts)
            driven = complex_((inputs @ weight).view(-1, self.state_size, 2))
            before = complex_(carry["state"])
            state = real(torch.addcmul(driven, decay, before))
            after = {"state": state}
            if "input" in carry:
                of_decay, of_gain, of_input = _sensitivities(carry)
                after["decay"] = _followed(decay, of_decay, before)
                after["gain"] = _followed(decay, of_gain, driven)
                after["input"] = _followed_by_inputs(decay, of_input, inputs)
            return read(state, inputs), Carry(after)

        return step

    @torch.no_grad()
    def real_stepper(self) -> RealStep:
        decay = self.decay()
        weight = self._drive(self.gain())

        @torch.no_grad()
        def step(inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
            driven = (inputs @ weight).unflatten(-1, (self.state_size, 2))
            state = _times(decay, state.masked_fill(starts[:, None, None], 0)) + driven
            return self._read(state, inputs), state

        return step

    def coefficients(self) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return self.decay(), self.gain(), self.input_weight.clone()

    def corrected(self, carry: Carry, then: tuple[Tensor, ...]) -> Carry:
        decay, gain, weight = (
            now - before for now, before in zip(self.coefficients(), then, strict=True)
        )
        of_decay, of_gain, of_input = map(complex_, _sensitivities(carry))
        moved = of_decay * complex_(decay) + of_gain * gain / then[1]
        moved += then[1] * (of_input * complex_(weight)).sum(1)
        # It holds γ e^γ, of which e^γ itself does not depend on γ.
        of_gain = carry["gain"] * (self.gain() / then[1]).unsqueeze(-1)
        return Carry({**carry, "state": carry["state"] + real(moved), "gain": of_gain.detach()})

    def _cut(self, decay: Tensor, driven: Tensor, initial: Tensor, keep: Tensor | None) -> Tensor:
        """States whose gradient reaches back one step at most."""
        with torch.no_grad():
            states = diagonal_recurrence(decay, driven, initial, keep)
            before = torch.cat([initial[None], states[:-1]])
            if keep is not None:
                before = before * keep[..., None, None]
        recurrent = _times(decay, before)
        return (recurrent.detach() if self.rule == "spatial" else recurrent) + driven


def _times(a: Tensor, b: Tensor) -> Tensor:
    """Product of complex numbers that are pairs of real ones."""
    (ar, ai), (br, bi) = a.unbind(-1), b.unbind(-1)
    return torch.stack([ar * br - ai * bi, ar * bi + ai * br], -1)


def _sensitivities(carry: Carry) -> tuple[Tensor, Tensor, Tensor]:
    return carry["decay"], carry["gain"], carry["input"]


def _followed(factor: Tensor, sensitivity: Tensor, came_in: Tensor) -> Tensor:
    """e^λ or e^γ after one step; λ and what came in are complex."""
    return real(torch.addcmul(came_in, factor, complex_(sensitivity)))


def _followed_by_inputs(factor: Tensor, sensitivity: Tensor, inputs: Tensor) -> Tensor:
    """e^B after one step, of inputs ``(batch, input_size)``."""
    # In two passes: torch's fused one is slower, because it multiplies by a factor of 1, too.
    return real((factor * complex_(sensitivity)).add_(inputs.unsqueeze(-1)))


def _unmoved(
    state: Tensor,
    of_decay: Tensor,
    of_gain: Tensor,
    of_input: Tensor,
    decay: Tensor,
    gain: Tensor,
    weight: Tensor,
) -> Tensor:
    """The state, a constant, with the gradient that the past owes the parameters.

    The first-order expansion of the state in the parameters, which at their present values is the
    state itself: ordinary differentiation of what follows then gives the exact gradient.
    """
    return state.clone()


_carried_state_operation = torch.library.custom_op(
    "skillrl::carried_state", _unmoved, mutates_args=()
)


@_carried_state_operation.register_fake
def _(
    state: Tensor,
    of_decay: Tensor,
    of_gain: Tensor,
    of_input: Tensor,
    decay: Tensor,
    gain: Tensor,
    weight: Tensor,
) -> Tensor:
    return torch.empty_like(state)


def _owed(
    grad: Tensor, of_decay: Tensor, of_gain: Tensor, of_input: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of λ, γ and B, given that of the state ``(batch, state_size, 2)``."""
    error = complex_(grad.contiguous())
    to_decay = (complex_(of_decay).conj() * error).sum(0)
    to_gain = (of_gain * grad).sum((0, 2)) / gain
    conjugate = (gain * error).conj().resolve_conj()
    # Without a product as large as all of the sensitivities.
    rows = len(grad) if grad.is_cuda else max(1, _CACHED // of_input[0].numel())
    parts = zip(complex_(of_input).split(rows), conjugate.split(rows), strict=True)
    to_weight = sum((part * owed.unsqueeze(1)).sum(0) for part, owed in parts)
    assert isinstance(to_weight, Tensor)  # of one sequence at least
    return real(to_decay), to_gain, real(to_weight.conj().resolve_conj())


_owed_operation = torch.library.custom_op("skillrl::owed", _owed, mutates_args=())


@_owed_operation.register_fake
def _(
    grad: Tensor, of_decay: Tensor, of_gain: Tensor, of_input: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        of_decay.new_empty(of_decay.shape[1:]),
        torch.empty_like(gain),
        of_input.new_empty(of_input.shape[1:]),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, of_decay, of_gain, of_input, _, gain, _ = inputs
    ctx.save_for_backward(of_decay, of_gain, of_input, gain)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (None, None, None, None, *_owed_operation(grad, *ctx.saved_tensors))


def _direct_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (None, None, None, None, *_owed(grad, *ctx.saved_tensors))


_carried_state_operation.register_autograd(_backward, setup_context=_setup)

_carried_state = direct(_carried_state_operation, _unmoved, _setup, _direct_backward)


@torch.library.custom_op("skillrl::advance_sensitivities", mutates_args=())
def _advance(
    decay: Tensor,
    keep: Tensor | None,
    inputs: Tensor,
    driven: Tensor,
    states: Tensor,
    initial: Tensor,
    of_decay: Tensor,
    of_gain: Tensor,
    of_input: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sensitivities at the end of a chunk, given those at its begin and what happened in it."""
    steps, batch = inputs.shape[:2]
    if steps == 1:
        factor, before = complex_(decay), complex_(initial.contiguous())
        if keep is not None:
            factor, before = factor * keep[0].unsqueeze(-1), before * keep[0].unsqueeze(-1)
        return (
            _followed(factor, of_decay, before),
            _followed(factor, of_gain, complex_(driven[0].contiguous())),
            _followed_by_inputs(factor.unsqueeze(-2), of_input, inputs[0]),
        )
    # λ^(steps − t): what is left at the chunk's end of what came in at each step, and before it.
    powers = complex_(decay).expand(steps, -1).cumprod(0).flip(0)
    weights, whole = torch.cat([powers[1:], torch.ones_like(powers[:1])]), powers[0]
    first, later = complex_(initial.contiguous()), complex_(states)[:-1]
    into = complex_(driven.contiguous())
    if keep is not None:
        # Nothing is left of what came in before the last begin of an episode …
        left = keep.flip(0).cumprod(0).flip(0)
        whole = whole * left[0].unsqueeze(-1)
        # … and where one begins, the state before it has no effect.
        first, later = first * left[0].unsqueeze(-1), later * left[1:].unsqueeze(-1)
        left = torch.cat([left[1:], torch.ones_like(left[:1])])
        inputs = inputs * left.unsqueeze(-1)
        into = into * left.unsqueeze(-1)
    to_decay = whole * complex_(of_decay) + weights[0] * first
    to_decay += (weights[1:].unsqueeze(1) * later).sum(0)
    to_gain = whole * complex_(of_gain) + (weights.unsqueeze(1) * into).sum(0)
    whole = whole.expand(batch, -1).unsqueeze(1)
    left_of_inputs = real(weights).flatten(1)
    to_input = of_input.new_empty(of_input.shape)
    rows = batch if inputs.is_cuda else max(1, _CACHED // of_input[0].numel())
    for begin in range(0, batch, rows):
        part = slice(begin, begin + rows)
        torch.mul(complex_(of_input[part]), whole[part], out=complex_(to_input[part]))
        # All inputs of these sequences side by side: one product of matrices.
        seen = inputs[:, part].flatten(1).t()
        to_input[part].flatten(2).flatten(0, 1).addmm_(seen, left_of_inputs)
    return real(to_decay), real(to_gain), to_input


@_advance.register_fake
def _(
    decay: Tensor,
    keep: Tensor | None,
    inputs: Tensor,
    driven: Tensor,
    states: Tensor,
    initial: Tensor,
    of_decay: Tensor,
    of_gain: Tensor,
    of_input: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(of_decay), torch.empty_like(of_gain), torch.empty_like(of_input)
