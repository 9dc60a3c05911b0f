"""Layers whose units act on one another, to compare with: SnAp-1 is what online learning can do.

The sensitivity of a unit's state to a parameter is kept only where the parameter is the unit's own,
and is passed on only through the unit's effect on itself: the diagonal of the Jacobian. Source:
Menick et al. 2021 (A practical sparse approximation for real time recurrent learning,
arXiv 2006.07232), which are chunks of one step; within longer ones all ways count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from skillrl.errors import InvalidValueError
from skillrl.recurrent.carry import Carry
from skillrl.recurrent.layer import Expanded, RecurrentLayer
from skillrl.recurrent.recipes import Rule


class LinearRNN(RecurrentLayer):
    """Dense linear recurrence: ``h_t = A h_{t−1} + B x_t``, ``y_t = C h_t + D ⊙ x_t``.

    Args:
        input_size: components of inputs and outputs.
        state_size: units.
        rule: learning rule: snap1, truncated or bptt.
        radius: spectral radius of A at first, about, in (0, 1].

    >>> outputs, carry = LinearRNN(3, 8)(torch.randn(16, 4, 3))
    >>> outputs.shape
    torch.Size([16, 4, 3])
    """

    rules = ("snap1", "truncated", "bptt")

    def __init__(
        self, input_size: int, state_size: int, *, rule: Rule = "snap1", radius: float = 0.9
    ) -> None:
        super().__init__(input_size, state_size, input_size, rule)
        if not 0 < radius <= 1:
            raise InvalidValueError(f"radius should be in (0, 1]. Received {radius}.")
        # The eigenvalues of a matrix of independent N(0, 1/N) fill the unit disc.
        recurrent = torch.randn(state_size, state_size) * radius / math.sqrt(state_size)
        self.recurrent_weight = nn.Parameter(recurrent)
        self.input_weight = nn.Parameter(
            torch.randn(state_size, input_size) / math.sqrt(input_size)
        )
        self.output_weight = nn.Parameter(
            torch.randn(input_size, state_size) / math.sqrt(state_size)
        )
        self.feedthrough = nn.Parameter(torch.randn(input_size))

    def carried(self) -> dict[str, tuple[int, ...]]:
        units = self.state_size
        return {
            "state": (units,),
            "recurrent": (units, units),
            "input": (units, self.input_size),
        }

    def _chunk(self, inputs: Tensor, carry: Carry, starts: Tensor | None) -> tuple[Tensor, Carry]:
        keep = None if starts is None else (~starts).to(inputs.dtype).unsqueeze(-1)
        states, driven = [carry["state"]], inputs @ self.input_weight.t()
        for step in range(len(inputs)):
            before = states[-1] if keep is None else states[-1] * keep[step]
            state = torch.addmm(driven[step], before, self.recurrent_weight.t())
            if step == 0 and self.rule == "snap1" and torch.is_grad_enabled():
                passed = self.recurrent_weight.detach().diagonal()
                passed = passed.clone() if keep is None else passed * keep[0]
                weights = (self.recurrent_weight, self.input_weight)
                kept = (carry["recurrent"], carry["input"])
                state = Expanded.apply(state, 2, _owed, *weights, passed, *kept)
            states.append(state)
        with torch.no_grad():
            after = {"state": states[-1].detach().clone()}
            if "input" in carry:
                diagonal = self.recurrent_weight.diagonal()[:, None]
                recurrent, own = carry["recurrent"], carry["input"]
                for step in range(len(inputs)):
                    before = states[step]
                    if keep is not None:
                        before = before * keep[step]
                        recurrent, own = (s * keep[step].unsqueeze(-1) for s in (recurrent, own))
                    recurrent = (diagonal * recurrent).add_(before[:, None])
                    own = (diagonal * own).add_(inputs[step][:, None])
                after |= {"recurrent": recurrent, "input": own}
        outputs = torch.stack(states[1:]) @ self.output_weight.t()
        return outputs + self.feedthrough * inputs, Carry(after)


class GRU(RecurrentLayer):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), with the equations of torch's.

    Args:
        input_size: components of an input.
        state_size: units, and components of an output.
        rule: learning rule: snap1, truncated or bptt.

    >>> outputs, carry = GRU(3, 8)(torch.randn(16, 4, 3))
    >>> outputs.shape
    torch.Size([16, 4, 8])
    """

    rules = ("snap1", "truncated", "bptt")

    def __init__(self, input_size: int, state_size: int, *, rule: Rule = "snap1") -> None:
        super().__init__(input_size, state_size, state_size, rule)
        # Reset gate, update gate and candidate, as in torch.nn.GRU.
        bound = 1 / math.sqrt(state_size)

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(3, state_size, *shape).uniform_(-bound, bound))

        self.input_weight, self.recurrent_weight = uniform(input_size), uniform(state_size)
        self.input_bias, self.recurrent_bias = uniform(), uniform()

    def carried(self) -> dict[str, tuple[int, ...]]:
        gates = (3, self.state_size)
        return {
            "state": (self.state_size,),
            "input": (*gates, self.input_size),
            "recurrent": (*gates, self.state_size),
            "input_bias": gates,
            "recurrent_bias": gates,
        }

    def _chunk(self, inputs: Tensor, carry: Carry, starts: Tensor | None) -> tuple[Tensor, Carry]:
        return self._run(inputs, carry, starts, followed=True)

    def _outputs(self, inputs: Tensor, carry: Carry, starts: Tensor | None) -> Tensor:
        return self._run(inputs, carry, starts, followed=False)[0]

    def _run(
        self, inputs: Tensor, carry: Carry, starts: Tensor | None, *, followed: bool
    ) -> tuple[Tensor, Carry]:
        """As ``_chunk``; where no chunk follows, without the sensitivities at the end."""
        keep = None if starts is None else (~starts).to(inputs.dtype).unsqueeze(-1)
        weights = {
            "input": self.input_weight,
            "recurrent": self.recurrent_weight,
            "input_bias": self.input_bias,
            "recurrent_bias": self.recurrent_bias,
        }
        state = carry["state"]
        driven = torch.einsum("tbi,gni->tbgn", inputs, self.input_weight) + self.input_bias
        sensitivities = {name: carry[name] for name in weights if name in carry}
        outputs = []
        for step in range(len(inputs)):
            if keep is not None:
                state = state * keep[step]
                sensitivities = {
                    name: s * keep[step].view(-1, *[1] * (s.dim() - 1))
                    for name, s in sensitivities.items()
                }
            before = state
            recurrent = (
                torch.einsum("bi,gni->bgn", before, self.recurrent_weight) + self.recurrent_bias
            )
            reset, update = (driven[step, :, :2] + recurrent[:, :2]).sigmoid().unbind(1)
            candidate = (driven[step, :, 2] + reset * recurrent[:, 2]).tanh()
            state = candidate + update * (before - candidate)
            if sensitivities:
                with torch.no_grad():
                    passed, sensitivities = self._advance(
                        sensitivities, inputs[step], before, recurrent, reset, update, candidate
                    )
                if step == 0 and self.rule == "snap1" and torch.is_grad_enabled():
                    kept = [passed[name] for name in weights]
                    state = Expanded.apply(state, 4, _owed_by_gates, *weights.values(), *kept)
            if not followed:
                sensitivities = {}  # only the first step learns from them
            outputs.append(state)
        after = {"state": state.detach().clone(), **sensitivities}
        return torch.stack(outputs), Carry(after)

    def _advance(
        self,
        sensitivities: dict[str, Tensor],
        inputs: Tensor,
        before: Tensor,
        recurrent: Tensor,
        reset: Tensor,
        update: Tensor,
        candidate: Tensor,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a step leaves of sensitivities, and what they are with what it adds."""
        # Of the new state to what each gate and the candidate add up before their non-linearity …
        to_candidate = (1 - update) * (1 - candidate.square())
        to_reset = to_candidate * recurrent[:, 2] * reset * (1 - reset)
        to_update = (before - candidate) * update * (1 - update)
        from_input = torch.stack([to_reset, to_update, to_candidate], 1)
        # … where the reset gate stands between the candidate and what the state gives it.
        from_state = torch.stack([to_reset, to_update, to_candidate * reset], 1)
        # Of each unit's new state to its own last one: the diagonal of the Jacobian.
        diagonals = self.recurrent_weight.diagonal(dim1=1, dim2=2)
        itself = update + (from_state * diagonals).sum(1)
        passed = {
            name: itself.view(len(itself), 1, -1, *[1] * (s.dim() - 3)) * s
            for name, s in sensitivities.items()
        }
        return passed, {
            "input": passed["input"].addcmul(from_input.unsqueeze(-1), inputs[:, None, None]),
            "recurrent": passed["recurrent"].addcmul(
                from_state.unsqueeze(-1), before[:, None, None]
            ),
            "input_bias": passed["input_bias"] + from_input,
            "recurrent_bias": passed["recurrent_bias"] + from_state,
        }


def _owed(grad: Tensor, passed: Tensor, *sensitivities: Tensor) -> tuple[Tensor, ...]:
    """Gradients of weights, given that of the state and what it passes on of the last one."""
    error = (passed * grad).unsqueeze(-1)
    return tuple((each * error).sum(0) for each in sensitivities)


def _owed_by_gates(grad: Tensor, *passed: Tensor) -> tuple[Tensor, ...]:
    """The same of all gates' weights and biases, ``(batch, 3, state_size, …)``."""
    return tuple(
        (each * grad.view(len(grad), 1, -1, *[1] * (each.dim() - 3))).sum(0) for each in passed
    )
