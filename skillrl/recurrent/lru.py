"""The linear recurrent unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skillrl.errors import InvalidValueError
from skillrl.recurrent.diagonal import DiagonalLayer
from skillrl.recurrent.recipes import Rule

# A number of steps, or from … to ….
Horizon = float | Sequence[float]


class LRU(DiagonalLayer):
    """Linear recurrent unit (Orvieto et al. 2023, arXiv 2303.06349), learnt online.

    ``h_t = λ ⊙ h_{t−1} + γ ⊙ (B x_t)``, ``y_t = Re(C h_t) + D ⊙ x_t``, with complex states, and
    ``λ = exp(−exp(ν) + i exp(θ))``. It is called like ``torch.nn.GRU``, with the time first. The
    learning rules are described at ``RecurrentLayer``; ``"online"`` is that of Zucchet et al. 2023
    (arXiv 2305.15947).

    Args:
        input_size: components H of inputs and outputs.
        state_size: complex states N.
        rule: learning rule: online, truncated, one_step, spatial or bptt.
        r_min: smallest |λ| at first, in [0, r_max).
        r_max: largest |λ| at first, in (r_min, 1].
        min_phase: smallest phase of λ at first, in [0, max_phase). From 0 phases are spread evenly,
            from above 0 evenly on a logarithmic scale.
        max_phase: largest phase of λ at first, in (0, 2π].
        horizon: steps that the states should outlive, in the place of ``r_min``: at first every
            state keeps at least 1/e of what came in that long ago. With a pair, in the place of
            ``r_max``, too, they keep 1/e for different times, evenly spread from the first number
            of steps to the second on a logarithmic scale.
        gain: γ at first; None for √(1 − |λ|²), with which the states of noise have the size of the
            noise. That makes what a single input leaves behind the smaller the longer it lasts; 1
            keeps it as large as it came in.

    Raises:
        InvalidValueError: if an argument is out of range.

    >>> layer = LRU(input_size=3, state_size=8)
    >>> outputs, carry = layer(torch.randn(16, 4, 3))  # 16 steps of 4 sequences
    >>> outputs, carry = layer(torch.randn(16, 4, 3), carry)  # the next 16
    >>> outputs.shape
    torch.Size([16, 4, 3])
    """

    def __init__(
        self,
        input_size: int,
        state_size: int,
        *,
        rule: Rule = "online",
        r_min: float = 0.0,
        r_max: float = 1.0,
        min_phase: float = 0.0,
        max_phase: float = 2 * math.pi,
        horizon: Horizon | None = None,
        gain: float | None = None,
    ) -> None:
        super().__init__(input_size, state_size, input_size, rule)
        if gain is not None and not 0 < gain < math.inf:
            raise InvalidValueError(f"gain should be positive. Received {gain}.")
        self.nu_log, self.theta_log = spread(
            state_size, r_min, r_max, min_phase, max_phase, horizon
        )
        gains = complement(self.nu_log.detach())
        self.gamma_log = nn.Parameter((gains if gain is None else gains.fill_(gain)).log())
        # The conjugate of C: y = Σ Re(C) Re(h) + (−Im(C)) Im(h) is then one product of matrices.
        self.output_weight = nn.Parameter(
            torch.randn(state_size, 2, input_size) / math.sqrt(state_size)
        )
        self.feedthrough = nn.Parameter(torch.randn(input_size))

    def decay(self) -> Tensor:
        """Return λ, ``(state_size, 2)``."""
        return eigenvalues(self.nu_log, self.theta_log)

    def gain(self) -> Tensor:
        """Return γ, ``(state_size,)``."""
        return self.gamma_log.exp()

    def _read(self, states: Tensor, inputs: Tensor) -> Tensor:
        return states.flatten(-2) @ self.output_weight.flatten(0, 1) + self.feedthrough * inputs

    def _reader(self) -> Callable[[Tensor, Tensor], Tensor]:
        weight = self.output_weight.detach().flatten(0, 1).clone()
        feedthrough = self.feedthrough.detach().clone()
        return lambda states, inputs: torch.addcmul(
            states.flatten(-2) @ weight, feedthrough, inputs
        )


def eigenvalues(nu_log: Tensor, theta_log: Tensor) -> Tensor:
    """Return ``exp(−exp(ν) + i exp(θ))`` as pairs, ``(..., 2)``."""
    phase = theta_log.exp()
    magnitude = torch.exp(-nu_log.exp())
    return magnitude.unsqueeze(-1) * torch.stack([phase.cos(), phase.sin()], -1)


def complement(nu_log: Tensor) -> Tensor:
    """Return √(1 − |λ|²), without the difference of numbers that are nearly equal."""
    return (-torch.expm1(-2 * nu_log.exp())).sqrt()


def spread(
    state_size: int,
    r_min: float,
    r_max: float,
    min_phase: float,
    max_phase: float,
    horizon: Horizon | None,
) -> tuple[nn.Parameter, nn.Parameter]:
    """Draw ν and θ of λ, as ``LRU`` describes; |λ|² is uniform on [r_min², r_max²].

    Returns:
        ν and θ, ``(state_size,)`` each.

    Raises:
        InvalidValueError: if an argument is out of range.
    """
    if not 0 < max_phase <= 2 * math.pi:
        raise InvalidValueError(f"max_phase should be in (0, 2π]. Received {max_phase}.")
    if not 0 <= min_phase < max_phase:
        raise InvalidValueError(
            f"min_phase should be in [0, max_phase). Received {min_phase}, and {max_phase}."
        )
    # Away from 0 and 1, where logarithms are infinite.
    draws = torch.rand(2, state_size, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    if isinstance(horizon, Sequence):
        shortest, longest = _from_to(horizon, r_min, r_max)
        magnitude = (-1 / (shortest * (longest / shortest) ** draws[0])).exp()
    else:
        r_min = _smallest(horizon, r_min, r_max)
        magnitude = (r_min**2 + draws[0] * (r_max**2 - r_min**2)).sqrt()
    phase = max_phase * draws[1]
    if min_phase:
        phase = min_phase * (max_phase / min_phase) ** draws[1]
    dtype = torch.get_default_dtype()
    nu_log, theta_log = magnitude.log().neg().log(), phase.log()
    return nn.Parameter(nu_log.to(dtype)), nn.Parameter(theta_log.to(dtype))


def _smallest(horizon: float | None, r_min: float, r_max: float) -> float:
    """The smallest magnitude."""
    if horizon is not None:
        if not horizon >= 1 or r_min != 0.0:
            raise InvalidValueError(
                "horizon is a number of steps, at least 1, in the place of r_min: set one of them, "
                f"and the other to None or 0. Received horizon={horizon}, r_min={r_min}."
            )
        r_min = math.exp(-1 / horizon)
    if not 0 <= r_min < r_max <= 1:
        raise InvalidValueError(
            f"Magnitudes should be 0 ≤ r_min < r_max ≤ 1. Received r_min={r_min}, r_max={r_max}"
            + ("." if horizon is None else f", for a horizon of {horizon} steps.")
        )
    return r_min


def _from_to(horizon: Sequence[float], r_min: float, r_max: float) -> tuple[float, float]:
    """The shortest and the longest horizon."""
    if len(horizon) != 2 or not 1 <= horizon[0] <= horizon[1] < math.inf:
        raise InvalidValueError(
            "horizon is a number of steps, at least 1, or two of them, from the shortest to the "
            f"longest. Received {horizon!r}."
        )
    if r_min != 0.0 or r_max != 1.0:
        raise InvalidValueError(
            "A horizon from the shortest to the longest is in the place of r_min and r_max: leave "
            f"these out. Received {horizon!r}, r_min={r_min} and r_max={r_max}."
        )
    return horizon[0], horizon[1]
