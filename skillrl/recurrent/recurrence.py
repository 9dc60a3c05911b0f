"""The diagonal complex recurrence ``h_t = λ ⊙ h_{t−1} + u_t`` over a chunk of time.

Complex numbers are pairs of real ones in the last dimension: that is what is saved, exported and
handed through ``torch.compile``, which sees the two operations below as one node each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _loop(decay: Tensor, inputs: Tensor, initial: Tensor, keep: Tensor | None) -> Tensor:
    """The states, one step after the other: on a CPU faster than any scan, see ``_scan``."""
    states = torch.empty_like(inputs)
    factors = [decay] * len(inputs) if keep is None else (decay * keep.unsqueeze(-1)).unbind()
    last = initial
    for state, value, factor in zip(states.unbind(), inputs.unbind(), factors, strict=True):
        last = torch.addcmul(value, factor, last, out=state)
    return states


def _scan(decay: Tensor, inputs: Tensor, initial: Tensor, keep: Tensor | None) -> Tensor:
    """The states by doubling: log₂(time) passes over all steps, for devices with many cores."""
    states = inputs.clone()
    factors = decay.expand_as(inputs).clone()
    if keep is not None:
        factors *= keep.unsqueeze(-1)
    states[0] += factors[0] * initial
    reach = 1
    while reach < len(inputs):
        states = torch.cat(
            [states[:reach], torch.addcmul(states[reach:], factors[reach:], states[:-reach])]
        )
        factors = torch.cat([factors[:reach], factors[reach:] * factors[:-reach]])
        reach *= 2
    return states


def _recur(decay: Tensor, inputs: Tensor, initial: Tensor, keep: Tensor | None) -> Tensor:
    run = _loop if inputs.device.type == "cpu" else _scan
    return run(decay, inputs, initial, keep)


def direct(
    operation: Callable[..., Tensor],
    compute: Callable[..., Tensor],
    setup: Callable[[Any, tuple[Any, ...], Tensor], None],
    backward: Callable[..., Any],
) -> Callable[..., Tensor]:
    """Return a function that is ``operation`` to compilers, and reached at once by all others.

    To call a registered operation and its gradient takes as long as what small networks compute.

    Args:
        operation: registered with torch, differentiable.
        compute: what it computes, as a plain function.
        setup: what it keeps for its gradient; see ``torch.library.register_autograd``.
        backward: its gradient, as a plain function.
    """

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Tensor:
            output = compute(*inputs)
            setup(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return backward(ctx, *grads)

    def call(*inputs: Any) -> Tensor:
        if torch.compiler.is_compiling():
            return operation(*inputs)
        found: Tensor = Direct.apply(*inputs)
        return found

    return call


def _states(decay: Tensor, inputs: Tensor, initial: Tensor, keep: Tensor | None) -> Tensor:
    complex_ = torch.view_as_complex
    return torch.view_as_real(
        _recur(complex_(decay), complex_(inputs.contiguous()), complex_(initial.contiguous()), keep)
    )


_operation = torch.library.custom_op("skillrl::diagonal_recurrence", _states, mutates_args=())


@_operation.register_fake
def _(decay: Tensor, inputs: Tensor, initial: Tensor, keep: Tensor | None) -> Tensor:
    return torch.empty_like(inputs)


def _gradients(
    grad: Tensor, decay: Tensor, states: Tensor, initial: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    complex_ = torch.view_as_complex
    conjugate = complex_(decay).conj().resolve_conj()
    # What a state owes to the one after it flows back along the same recurrence.
    backwards = complex_(grad.contiguous()).flip(0)
    kept = None if keep is None else torch.cat([torch.zeros_like(keep[:1]), keep[1:].flip(0)])
    zero = torch.zeros_like(backwards[0])
    owed = _recur(conjugate, backwards, zero, kept).flip(0)
    before = torch.cat([complex_(initial.contiguous())[None], complex_(states)[:-1]])
    first = owed[0]
    if keep is not None:
        before = before * keep.unsqueeze(-1)
        first = first * keep[0].unsqueeze(-1)
    to_decay = (before.conj() * owed).sum((0, 1))
    real = torch.view_as_real
    return real(to_decay), real(owed), real(conjugate * first)


_backward_operation = torch.library.custom_op(
    "skillrl::diagonal_recurrence_backward", _gradients, mutates_args=()
)


@_backward_operation.register_fake
def _(
    grad: Tensor, decay: Tensor, states: Tensor, initial: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(decay), torch.empty_like(states), torch.empty_like(initial)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    decay, _, initial, keep = inputs
    ctx.save_for_backward(decay, output, initial, keep)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    return (*_backward_operation(grad, *ctx.saved_tensors), None)


def _direct_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    return (*_gradients(grad, *ctx.saved_tensors), None)


_operation.register_autograd(_backward, setup_context=_setup)

diagonal_recurrence = direct(_operation, _states, _setup, _direct_backward)
"""``h_t = λ ⊙ keep_t h_{t−1} + u_t``: states ``(time, batch, size, 2)``.

Takes λ ``(size, 2)``, u ``(time, batch, size, 2)``, the state before them ``(batch, size, 2)``, and
``keep``, 0 where episodes begin and 1 elsewhere, ``(time, batch)``, or None.
"""
