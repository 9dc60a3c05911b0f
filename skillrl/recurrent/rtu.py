"""Recurrent trace units: the real-valued sisters of the LRU.

Elelimy et al. 2024 (Real-time recurrent learning using trace units in reinforcement learning,
arXiv 2409.01449). A unit has a state of two real numbers that is turned and shrunk at every step.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from skillrl.errors import InvalidValueError
from skillrl.recurrent.carry import Carry
from skillrl.recurrent.diagonal import DiagonalLayer
from skillrl.recurrent.layer import Expanded, RecurrentLayer
from skillrl.recurrent.lru import Horizon, complement, eigenvalues, spread
from skillrl.recurrent.recipes import Rule

Activation = Literal["relu", "tanh"]
ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


class LinearRTU(DiagonalLayer):
    """Linear recurrent trace unit: ``c_t = λ ⊙ c_{t−1} + γ ⊙ (W x_t)``, outputs ``f(c_t)``.

    The pair of numbers of a unit is a complex one; ``λ = exp(−exp(ν) + i exp(θ))``, and
    ``γ = √(1 − |λ|²)`` is tied to it. All else is as in ``LRU``.

    Args:
        input_size: components of an input.
        state_size: units N; there are 2 N outputs.
        rule: learning rule: online, truncated, one_step, spatial or bptt.
        activation: f, ``"relu"`` or ``"tanh"``.
        r_min: smallest |λ| at first.
        r_max: largest |λ| at first.
        min_phase: smallest phase of λ at first; as in ``LRU``.
        max_phase: largest phase of λ at first.
        horizon: steps that the states should outlive, or a pair; as in ``LRU``.

    >>> outputs, carry = LinearRTU(3, 8)(torch.randn(16, 4, 3))
    >>> outputs.shape
    torch.Size([16, 4, 16])
    """

    def __init__(
        self,
        input_size: int,
        state_size: int,
        *,
        rule: Rule = "online",
        activation: Activation = "relu",
        r_min: float = 0.0,
        r_max: float = 1.0,
        min_phase: float = 0.0,
        max_phase: float = 2 * math.pi,
        horizon: Horizon | None = None,
    ) -> None:
        super().__init__(input_size, state_size, 2 * state_size, rule)
        self.activation = _known(activation)
        self.nu_log, self.theta_log = spread(
            state_size, r_min, r_max, min_phase, max_phase, horizon
        )

    def decay(self) -> Tensor:
        """Return λ, ``(state_size, 2)``."""
        return eigenvalues(self.nu_log, self.theta_log)

    def gain(self) -> Tensor:
        """Return γ, ``(state_size,)``."""
        return complement(self.nu_log)

    def _read(self, states: Tensor, inputs: Tensor) -> Tensor:
        return ACTIVATIONS[self.activation](states.flatten(-2))


class NonlinearRTU(RecurrentLayer):
    """Non-linear recurrent trace unit: ``c_t = f(λ ⊙ c_{t−1} + γ ⊙ (W x_t))``, outputs ``c_t``.

    f acts on either number of a unit's pair. Each unit still evolves on its own, and the rule
    ``"online"`` is exact; but steps follow one another in a loop.

    Args:
        input_size: components of an input.
        state_size: units N; there are 2 N outputs.
        rule: learning rule: online, truncated, one_step, spatial or bptt.
        activation: f, ``"relu"`` or ``"tanh"``.
        r_min: smallest |λ| at first.
        r_max: largest |λ| at first.
        min_phase: smallest phase of λ at first; as in ``LRU``.
        max_phase: largest phase of λ at first.
        horizon: steps that the states should outlive, or a pair; as in ``LRU``.

    >>> outputs, carry = NonlinearRTU(3, 8)(torch.randn(16, 4, 3))
    >>> outputs.shape
    torch.Size([16, 4, 16])
    """

    rules = ("online", "truncated", "one_step", "spatial", "bptt")

    def __init__(
        self,
        input_size: int,
        state_size: int,
        *,
        rule: Rule = "online",
        activation: Activation = "tanh",
        r_min: float = 0.0,
        r_max: float = 1.0,
        min_phase: float = 0.0,
        max_phase: float = 2 * math.pi,
        horizon: Horizon | None = None,
    ) -> None:
        super().__init__(input_size, state_size, 2 * state_size, rule)
        self.activation = _known(activation)
        self.nu_log, self.theta_log = spread(
            state_size, r_min, r_max, min_phase, max_phase, horizon
        )
        scale = (2 * input_size) ** -0.5
        self.input_weight = nn.Parameter(torch.randn(input_size, 2, state_size) * scale)

    def carried(self) -> dict[str, tuple[int, ...]]:
        units, (weights, _, _) = (2, self.state_size), self.input_weight.shape
        # Of both numbers of a pair, to Re λ, Im λ and γ, and to both weights of each input.
        return {"state": units, "own": (3, *units), "input": (weights, 2, *units)}

    def coefficients(self) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return self._coefficients()[0], self.input_weight.clone()

    def corrected(self, carry: Carry, then: tuple[Tensor, ...]) -> Carry:
        own, weight = (now - before for now, before in zip(self.coefficients(), then, strict=True))
        moved = (carry["own"] * own.unsqueeze(1)).sum(1)
        moved += (carry["input"] * weight.unsqueeze(2)).sum((1, 2))
        return Carry({**carry, "state": carry["state"] + moved})

    def _coefficients(self) -> tuple[Tensor, Tensor]:
        """Re λ, Im λ and γ, ``(3, state_size)``, and W, ``(input_size, 2 * state_size)``."""
        decay = eigenvalues(self.nu_log, self.theta_log)
        own = torch.stack([*decay.unbind(-1), complement(self.nu_log)])
        return own, self.input_weight.flatten(1)

    def _chunk(self, inputs: Tensor, carry: Carry, starts: Tensor | None) -> tuple[Tensor, Carry]:
        own, projected, keep, states = self._states(inputs, carry, starts)
        with torch.no_grad():
            after = {"state": states[-1].clone()}
            if "own" in carry:
                after |= self._advance(own, inputs, projected, states, keep, carry)
        return states[1:].flatten(-2), Carry(after)

    def _outputs(self, inputs: Tensor, carry: Carry, starts: Tensor | None) -> Tensor:
        return self._states(inputs, carry, starts)[-1][1:].flatten(-2)

    def _states(
        self, inputs: Tensor, carry: Carry, starts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Coefficients, W x, where states are kept, and the states, from the one before on."""
        own, weight = self._coefficients()
        projected = (inputs @ weight).unflatten(-1, (2, self.state_size))
        keep = None if starts is None else (~starts).to(inputs.dtype)[..., None, None]
        state = carry["state"]
        if self.rule == "online" and torch.is_grad_enabled():
            kept = (carry["own"], carry["input"])
            state = Expanded.apply(state, 2, _owed, own, self.input_weight, *kept)
        states, f = [state], ACTIVATIONS[self.activation]
        gain = own[2] * projected
        for step, driven in enumerate(gain.unbind()):
            before = states[-1] if keep is None else states[-1] * keep[step]
            turned = _turn(own, before.detach() if self.rule == "one_step" else before)
            states.append(f((turned.detach() if self.rule == "spatial" else turned) + driven))
        return own, projected, keep, torch.stack(states)

    def _advance(
        self,
        own: Tensor,
        inputs: Tensor,
        projected: Tensor,
        states: Tensor,
        keep: Tensor | None,
        carry: Carry,
    ) -> dict[str, Tensor]:
        """Sensitivities at the chunk's end."""
        before, after = states[:-1], states[1:]
        if keep is not None:
            before = before * keep
        # f′ by f: of tanh 1 − f², of relu whether f is positive.
        slopes = 1 - after.square() if self.activation == "tanh" else (after > 0).to(after.dtype)
        # Of the last state to each earlier one, ``(batch, 2, 2, state_size)``, backwards in time:
        # what came in at a step moves it by `effects`, and all before the chunk by what remains.
        effect = torch.eye(2, dtype=inputs.dtype, device=inputs.device)[..., None]
        effect = effect.expand(inputs.shape[1], 2, 2, self.state_size)
        effects: list[Tensor] = []
        for step in reversed(range(len(inputs))):
            effects.append(effect * slopes[step].unsqueeze(1))
            first, second = effects[-1].unbind(2)
            effect = torch.stack(
                [first * own[0] + second * own[1], second * own[0] - first * own[1]], 2
            )
            if keep is not None:
                effect = effect * keep[step].unsqueeze(-1)
        pushed = torch.stack(effects[::-1])
        direct = torch.stack(
            [
                before,  # to Re λ
                torch.stack([-before[..., 1, :], before[..., 0, :]], -2),  # to Im λ
                projected,  # to γ
            ],
            -3,
        )
        of_own = torch.einsum("boin,bkin->bkon", effect, carry["own"])
        of_own += torch.einsum("tboin,tbkin->bkon", pushed, direct)
        # A weight of the first number moves the first, one of the second the second.
        driven = torch.einsum("tbh,tboin->bhion", inputs, own[2] * pushed)
        first, second = effect[:, None, None].unbind(4)
        of_first, of_second = carry["input"][..., None, :].unbind(3)
        of_input = driven.addcmul_(first, of_first).addcmul_(second, of_second)
        return {"own": of_own, "input": of_input}


def _owed(grad: Tensor, of_own: Tensor, of_input: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of Re λ, Im λ and γ, and of W, given that of the state."""
    # Number by number: without a product as large as all of the sensitivities.
    by_number = zip(of_input.unbind(3), grad.unbind(1), strict=True)
    first, second = ((part * error[:, None, None]).sum(0) for part, error in by_number)
    return (of_own * grad[:, None]).sum((0, 2)), first + second


def _turn(own: Tensor, pairs: Tensor) -> Tensor:
    """λ times pairs ``(..., 2, state_size)``."""
    first, second = pairs.unbind(-2)
    return torch.stack([own[0] * first - own[1] * second, own[1] * first + own[0] * second], -2)


def _known(activation: Activation) -> Activation:
    if activation not in ACTIVATIONS:
        raise InvalidValueError(
            f"activation should be one of {', '.join(ACTIVATIONS)}. Received {activation!r}."
        )
    return activation
