"""Time and peak memory of alignment, against width, depth, and the published one-pass matching.

- Two networks of 64 inputs, relu layers and 10 outputs, their weights drawn, on 5,000 observations,
  on which all units fire. `align` finds the symmetries from the graph, matches by activations, and
  proves the result; "by both" weights are matched, too, group after group until nothing changes (up
  to a width of 2,048: beyond, it takes minutes). "matching" is what Benzing et al. 2022 describe,
  for such networks alone: the cosines of all pairs of units, an optimal assignment per layer, rows
  and columns permuted.
- `align_many` of 16 policies: 17 inputs, two layers of 256 tanh units, 6 outputs, on 10,000
  observations.

Both sides run in turn, with one thread; times are medians. Peak memory is above that of the
warmed-up process with the networks and observations, in a fresh process for each setting.

    python benchmarks/alignment_speed.py            about 25 minutes, on a quiet machine
    python benchmarks/alignment_speed.py --quick
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from memory import peak_mebibytes
from record import record
from skillrl.permutation import align, align_many

INPUTS, OUTPUTS, OBSERVATIONS = 64, 10, 5_000
METHODS = ("activations", "both")
# Widths with two layers, and depths with 1,024 units.
SIZES = [(width, 2) for width in (256, 512, 1_024, 2_048, 4_096)] + [(1_024, 4), (1_024, 8)]
# Above, matching by both takes minutes.
WIDEST_BY_BOTH = 2_048


@torch.no_grad()
def network(seed: int, sizes: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    """Fully connected layers of Kaiming-normal weights, with a mean of zero for every unit."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layer = nn.Linear(before, after)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        # What comes from relu units is positive: in deep layers the sign of a weighted sum of it
        # would be that of the weights' mean on all observations, and many units would never fire.
        layer.weight -= layer.weight.mean(1, keepdim=True)
        nn.init.zeros_(layer.bias)
        layers += [layer, activation()]
    # Nothing behind the outputs.
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def check_active(module: nn.Sequential, inputs: Tensor) -> None:
    """Units that never fire are matched in another way, which takes another time."""
    for layer in module:
        inputs = layer(inputs)
        if isinstance(layer, nn.ReLU):
            assert bool(inputs.any(0).all()), "a unit never fires"


@torch.no_grad()
def matching(a: nn.Sequential, b: nn.Sequential, inputs: Tensor) -> nn.Sequential:
    """Return ``b`` with its units permuted as Benzing et al. 2022 (arXiv 2209.07509) describe."""
    moved = copy.deepcopy(b)
    seen_a, seen_b = inputs, inputs
    before: Any = slice(None)
    for number, (layer_a, layer_b) in enumerate(zip(a, b, strict=True)):
        seen_a, seen_b = layer_a(seen_a), layer_b(seen_b)
        layer = moved[number]
        if not isinstance(layer, nn.Linear):
            continue
        layer.weight.copy_(layer.weight[:, before])
        if number + 1 < len(a):
            units_a, units_b = (torch.relu(seen).T for seen in (seen_a, seen_b))
            units_a, units_b = (nn.functional.normalize(units) for units in (units_a, units_b))
            cosines = (units_a @ units_b.T).numpy()
            before = torch.as_tensor(linear_sum_assignment(cosines, maximize=True)[1])
            layer.weight.copy_(layer.weight[before])
            layer.bias.copy_(layer.bias[before])
    return moved


def drawn(width: int, depth: int) -> tuple[nn.Sequential, nn.Sequential, Tensor]:
    """A pair of networks, and observations."""
    sizes = INPUTS, *[width] * depth, OUTPUTS
    inputs = torch.randn(OBSERVATIONS, INPUTS, generator=torch.Generator().manual_seed(2))
    return network(0, sizes, nn.ReLU), network(1, sizes, nn.ReLU), inputs


def contenders(width: int, depth: int) -> dict[str, Callable[[], object]]:
    """What is compared, on one pair of networks."""
    a, b, inputs = drawn(width, depth)
    found: dict[str, Callable[[], object]] = {
        "matching": lambda: matching(a, b, inputs),
        "align": lambda: align(a, b, inputs),
        "align, not proven": lambda: align(a, b, inputs, verified=False),
    }
    if width <= WIDEST_BY_BOTH:
        found["align by both"] = lambda: align(a, b, inputs, method="both")
    return found


def warm_up() -> None:
    """Load and run everything once."""
    torch.set_num_threads(1)
    for call in contenders(8, 2).values():
        call()


def seconds(width: int, depth: int, rounds: int) -> dict[str, list[float]]:
    """Times of every contender, in turn."""
    warm_up()
    *pair, inputs = drawn(width, depth)
    for each in pair:
        check_active(each, inputs)
    calls = contenders(width, depth)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return times


def peak(width: int, depth: int, name: str) -> float:
    """Peak memory of one contender, in MiB."""
    warm_up()
    return peak_mebibytes(contenders(width, depth)[name])


def many(count: int, method: Any) -> tuple[float, float]:
    """Seconds and peak memory, in MiB, of aligning many policies."""
    warm_up()
    policies = [network(seed, (17, 256, 256, 6), nn.Tanh) for seed in range(count)]
    inputs = torch.randn(10_000, 17, generator=torch.Generator().manual_seed(2))
    started = time.perf_counter()
    memory = peak_mebibytes(lambda: align_many(policies, inputs, method=method))
    return time.perf_counter() - started, memory


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measured(width: int, depth: int, rounds: int) -> dict[str, Any]:
    """Times, peaks and the ratios to the published matching of one size."""
    times = fresh(seconds, width, depth, rounds)
    medians = {name: statistics.median(each) for name, each in times.items()}
    peaks = {name: fresh(peak, width, depth, name) for name in times}
    return {
        "seconds": medians,
        "peak_mebibytes": peaks,
        "time_ratio": {name: each / medians["matching"] for name, each in medians.items()},
        "memory_ratio": {name: each / peaks["matching"] for name, each in peaks.items()},
        "times": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    quick = parser.parse_args().quick
    policies = 3 if quick else 16
    methods = METHODS[:1] if quick else METHODS
    together = {method: fresh(many, policies, method) for method in methods}
    record(
        "alignment_speed",
        {
            "policies": {
                "count": policies,
                **{
                    method: {"seconds": took, "peak_mebibytes": memory}
                    for method, (took, memory) in together.items()
                },
            },
            "sizes": {
                f"{width} × {depth}": measured(width, depth, 1 if quick else 3)
                for width, depth in ([(64, 2)] if quick else SIZES)
            },
            "observations": OBSERVATIONS,
            "threads": 1,
        },
        quick=quick,
    )


if __name__ == "__main__":
    main()
