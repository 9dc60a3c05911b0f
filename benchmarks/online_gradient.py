"""How exact the gradients are that recurrent layers learn from, in float64.

Against backpropagation through the whole sequence: the relative error of the gradient carried
forward, for all parameters of one recurrent layer and of what lies above it, whatever the length of
the chunks and with episodes that begin inside of them; for the layers below, and in stacks, the
cosine between the gradient of every rule and the true one.

    python benchmarks/online_gradient.py            about a minute
    python benchmarks/online_gradient.py --quick
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from record import record
from skillrl.recurrent import (
    GRU,
    LRU,
    LinearRNN,
    LinearRTU,
    NonlinearRTU,
    RecurrentLayer,
    RecurrentStack,
    Rule,
)

BATCH, INPUTS, UNITS = 4, 6, 8
RESETS = 0.05

EXACT: dict[str, Callable[[], RecurrentLayer]] = {
    "lru": lambda: LRU(INPUTS, UNITS, r_min=0.5),
    "linear-rtu": lambda: LinearRTU(INPUTS, UNITS, r_min=0.5),
    "nonlinear-rtu": lambda: NonlinearRTU(INPUTS, UNITS, r_min=0.5),
    "gru, one unit, snap1": lambda: GRU(INPUTS, 1),
    "linear-rnn, one unit, snap1": lambda: LinearRNN(INPUTS, 1),
    "linear-rnn, diagonal, snap1": lambda: diagonal(LinearRNN(INPUTS, UNITS)),
    "gru, diagonal, snap1": lambda: diagonal(GRU(INPUTS, UNITS)),
}
# Rule and length of chunks; 0 for the whole sequence.
RULES: dict[str, tuple[Rule, int]] = {
    "online, chunks of 1": ("online", 1),
    "online, chunks of 16": ("online", 16),
    "online, chunks of 64": ("online", 64),
    "online, one chunk": ("online", 0),
    "truncated, chunks of 16": ("truncated", 16),
    "one_step": ("one_step", 16),
    "spatial": ("spatial", 16),
}


def diagonal(layer: LinearRNN | GRU) -> LinearRNN | GRU:
    """The layer without connections between units, which are still its parameters."""
    with torch.no_grad():
        # Of the one matrix of the linear RNN, of the three of the GRU.
        layer.recurrent_weight.copy_(torch.diag(torch.rand(layer.state_size)))
    return layer


class Stream:
    """Inputs, targets and begins of episodes."""

    def __init__(self, steps: int, outputs: int) -> None:
        self.inputs = torch.randn(steps, BATCH, INPUTS)
        self.targets = torch.randn(steps, BATCH, outputs)
        self.starts = torch.rand(steps, BATCH) < RESETS

    def gradients(
        self, network: nn.Sequential, rule: Rule, chunk: int, *, resets: bool = True
    ) -> dict[str, Tensor]:
        """Gradients of a network of what lies below, the recurrence, and what lies above."""
        below, recurrent, above = network
        assert isinstance(recurrent, RecurrentLayer | RecurrentStack)
        recurrent.rule = rule
        network.zero_grad()
        carry, steps = None, len(self.inputs)
        for begin in range(0, steps, chunk or steps):
            part = slice(begin, begin + (chunk or steps))
            starts = self.starts[part] if resets else None
            hidden, carry = recurrent(below(self.inputs[part]), carry, starts)
            (above(hidden.tanh()) - self.targets[part]).square().sum().backward()
        return {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in network.named_parameters()
        }


def exact(steps: int, seeds: int) -> Iterator[tuple[str, float]]:
    """The largest relative error of any parameter's gradient, by layer and setting."""
    for name, make in EXACT.items():
        rule: Rule = "snap1" if name.endswith("snap1") else "online"
        for chunk in (1, 7, 64, 0):
            for resets in (False, True):
                worst = 0.0
                for seed in range(seeds):
                    torch.manual_seed(seed)
                    layer = make()
                    network = nn.Sequential(
                        nn.Identity(), layer, nn.Linear(layer.output_size, UNITS)
                    )
                    stream = Stream(steps, UNITS)
                    true = stream.gradients(network, "bptt", 0, resets=resets)
                    found = stream.gradients(network, rule, chunk, resets=resets)
                    worst = max(worst, largest_error(found, true))
                length = f"chunks of {chunk}" if chunk else "one chunk"
                yield f"{name}, {length}, {'with' if resets else 'no'} resets", worst


def largest_error(found: dict[str, Tensor], true: dict[str, Tensor]) -> float:
    """The largest relative error of any parameter's gradient."""
    errors = [float((found[name] - true[name]).norm() / true[name].norm()) for name in true]
    return max(error if math.isfinite(error) else math.inf for error in errors)


def stacks(steps: int, seeds: int) -> tuple[dict[str, dict[str, list[float]]], dict[int, float]]:
    """Stacks of layers against the true gradient.

    Returns:
        The cosine, by depth and rule and by part of the network, for each seed; and by depth the
        largest relative error of any parameter where a sequence is one chunk.
    """
    found: dict[str, dict[str, list[float]]] = {}
    errors: dict[int, float] = {}
    for depth in (1, 2, 3, 4):
        for seed in range(seeds):
            torch.manual_seed(seed)
            stack = RecurrentStack(
                *(INPUTS, UNITS),
                width=16,
                depth=depth,
                layer=lambda width: LRU(width, UNITS, r_min=0.9),
            )
            network = nn.Sequential(nn.Linear(INPUTS, INPUTS), stack, nn.Identity())
            stream = Stream(steps, UNITS)
            true = stream.gradients(network, "bptt", 0)
            for rule, (name, chunk) in RULES.items():
                ours = stream.gradients(network, name, chunk)
                if name == "online" and not chunk:
                    errors[depth] = max(errors.get(depth, 0.0), largest_error(ours, true))
                parts = {"everything": ""} | {
                    f"layer {index + 1} of {depth}": f"1.blocks.{index}.layer."
                    for index in range(depth)
                }
                parts["encoder"] = "1.encoder."
                for part, prefix in parts.items():
                    own = found.setdefault(f"depth {depth}, {rule}", {})
                    own.setdefault(part, []).append(cosine(ours, true, prefix))
    return found, errors


def cosine(ours: dict[str, Tensor], true: dict[str, Tensor], prefix: str) -> float:
    """The cosine between two gradients, of the parameters whose names begin so."""
    names = [name for name in true if name.startswith(prefix)]
    a, b = (torch.cat([each[name].flatten() for name in names]) for each in (ours, true))
    return float(nn.functional.cosine_similarity(a, b, dim=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    quick = parser.parse_args().quick
    torch.set_default_dtype(torch.float64)
    steps, seeds = (70, 1) if quick else (512, 5)
    errors = dict(exact(steps, seeds))
    angles, whole = stacks(steps, seeds)
    figures: dict[str, Any] = {
        "max_relative_error": max(errors.values()),
        "relative_errors": errors,
        "cosines": angles,
        "relative_errors_of_stacks_in_one_chunk": whole,
        "steps": steps,
        "seeds": list(range(seeds)),
        "sizes": {"batch": BATCH, "inputs": INPUTS, "units": UNITS, "width": 16},
        "share of steps that begin an episode": RESETS,
    }
    record("online_gradient", figures, quick=quick)


if __name__ == "__main__":
    main()
