"""What learning online costs: memory over time, a step that carries sensitivities, a chunk.

- Peak memory of a training pass above the warmed-up process, in a fresh process for each length, of
  four blocks, with chunks of 32 steps and with backpropagation through the whole sequence;
  inputs are made chunk by chunk.
- One step of inference that also carries the sensitivities against the fastest plain one, for one
  sequence: floating-point operations, time, and the memory of parameters and state.
- A chunk of 32 steps of 32 sequences, the same two, and the training step with its backward pass.
- Forward and backward pass of a chunk against torch's LSTM and GRU of equal width.

Both sides of a ratio run in turn; ratios are of medians.

    python benchmarks/online_cost.py            about 5 minutes, on a quiet machine
    python benchmarks/online_cost.py --quick
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from memory import peak_mebibytes
from record import record
from skillrl.recurrent import LRU, Carry, LinearRTU, RecurrentStack, Rule

SIZES = ((64, 128), (256, 256))  # states N, components H
BATCH, CHUNK = 32, 32


def peak(steps: int, rule: Rule) -> float:
    """Peak memory in MiB, above the process before, of one training pass."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = RecurrentStack(
        *(128, 8), width=128, depth=4, layer=lambda width: LRU(width, 64, rule=rule)
    )

    def train(steps: int, batch: int) -> None:
        network.zero_grad()
        carry, length = None, steps if rule == "bptt" else CHUNK
        for _ in range(0, steps, length):
            outputs, carry = network(torch.randn(length, batch, 128), carry)
            outputs.square().mean().backward()

    train(CHUNK, 1)
    return peak_mebibytes(lambda: train(steps, BATCH))


def memory(lengths: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Peaks in MiB, by rule and length."""
    found: dict[str, dict[str, float]] = {"online": {}, "bptt": {}}
    context = multiprocessing.get_context("spawn")
    for rule, peaks in found.items():
        for steps in lengths:
            with context.Pool(1) as pool:
                peaks[str(steps)] = pool.apply(peak, (steps, rule))
    return found


def in_turn(
    contenders: dict[str, Callable[[], object]], *, calls: int, rounds: int
) -> dict[str, float]:
    """Median microseconds a call of each contender."""
    for call in contenders.values():
        for _ in range(3):
            call()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            started = time.perf_counter()
            for _ in range(calls):
                call()
            times[name].append((time.perf_counter() - started) / calls * 1e6)
    return {name: statistics.median(each) for name, each in times.items()}


def operations(states: int, components: int, *, each: int) -> tuple[int, int]:
    """Real multiplications and additions of a plain step, and of one with sensitivities.

    A complex product with a complex addition takes 8. ``each`` is what an entry of e^B takes: 7,
    because inputs are real, or the 8 that are run, with zeros added to imaginary parts.
    """
    plain = 2 * (2 * states) * components  # B x
    plain += 8 * states  # λ h + …
    plain += 2 * (2 * states) * components + 2 * components  # Re(C h) + D x
    sensitivities = 8 * states + 8 * states  # e^λ, e^γ
    sensitivities += each * states * components  # e^B
    return plain, plain + sensitivities


def numbers(layer: LRU, carry: Carry) -> int:
    """Real numbers of the parameters and the carry."""
    return sum(p.numel() for p in layer.parameters()) + sum(v.numel() for v in carry.values())


def one_step(states: int, components: int, calls: int, rounds: int) -> dict[str, Any]:
    """A step with sensitivities relative to a plain one, for one sequence."""
    layer = LRU(components, states)
    act, inputs = layer.stepper(), torch.randn(1, components)
    carries = {
        "plain": layer.initial_carry(1, sensitivities=False),
        "online": layer.initial_carry(1),
    }
    times = in_turn(
        {name: lambda carry=carry: act(inputs, carry) for name, carry in carries.items()},  # type: ignore[misc]
        calls=calls,
        rounds=rounds,
    )
    needed, run = (operations(states, components, each=each) for each in (7, 8))
    return {
        "compute_ratio": needed[1] / needed[0],
        "compute_ratio_as_run": run[1] / run[0],
        "time_ratio": times["online"] / times["plain"],
        "memory_ratio": numbers(layer, carries["online"]) / numbers(layer, carries["plain"]),
        "microseconds": times,
    }


def one_chunk(states: int, components: int, calls: int, rounds: int) -> dict[str, Any]:
    """A chunk with sensitivities relative to a plain one, and the training step."""
    layer = LRU(components, states)
    inputs = torch.randn(CHUNK, BATCH, components)
    plain, online = layer.initial_carry(BATCH, sensitivities=False), layer.initial_carry(BATCH)

    def infer(carry: Carry) -> None:
        with torch.no_grad():
            layer(inputs, carry)

    def train(rule: Rule, carry: Carry) -> None:
        layer.rule = rule
        layer.zero_grad()
        layer(inputs, carry)[0].sum().backward()

    times = in_turn(
        {
            "plain": lambda: infer(plain),
            "online": lambda: infer(online),
            "training, truncated": lambda: train("truncated", plain),
            "training, online": lambda: train("online", online),
        },
        calls=calls,
        rounds=rounds,
    )
    return {
        "chunk_time_ratio": times["online"] / times["plain"],
        "training_time_ratio": times["training, online"] / times["training, truncated"],
        "training_to_plain_inference": times["training, online"] / times["plain"],
        "microseconds": times,
    }


def others(width: int, calls: int, rounds: int) -> dict[str, Any]:
    """Forward and backward pass of a chunk, of torch's layers and ours, at equal width."""
    torch.manual_seed(0)
    inputs = torch.randn(CHUNK, BATCH, width)
    # As many real numbers of state as an LSTM has, two for each unit, or a GRU with half of them.
    ours = {
        f"{kind.__name__}, N {units}": kind(width, units)
        for kind in (LRU, LinearRTU)
        for units in (width, width // 2)
    }
    theirs = {"LSTM": nn.LSTM(width, width), "GRU": nn.GRU(width, width)}
    carries = {name: layer.initial_carry(BATCH) for name, layer in ours.items()}

    def ours_once(name: str) -> None:
        ours[name].zero_grad()
        ours[name](inputs, carries[name])[0].sum().backward()

    def theirs_once(name: str) -> None:
        theirs[name].zero_grad()
        theirs[name](inputs)[0].sum().backward()

    times = in_turn(
        {
            **{name: lambda name=name: ours_once(name) for name in ours},  # type: ignore[misc]
            **{name: lambda name=name: theirs_once(name) for name in theirs},  # type: ignore[misc]
        },
        calls=calls,
        rounds=rounds,
    )
    return {
        "vs_lstm": times["LSTM"] / times[f"LRU, N {width}"],
        "vs_gru": times["GRU"] / times[f"LRU, N {width // 2}"],
        "microseconds": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 seconds, nothing recorded")
    quick = parser.parse_args().quick
    lengths = (64, 256) if quick else (512, 2_048, 8_192)
    rounds = 3 if quick else 25
    peaks = memory(lengths)
    growth = {rule: each[str(lengths[-1])] / each[str(lengths[0])] for rule, each in peaks.items()}
    torch.set_num_threads(1)
    sizes = {f"N {n}, H {h}": (n, h) for n, h in SIZES}
    record(
        "online_cost",
        {
            "online_memory_growth": growth["online"],
            "bptt_memory_growth": growth["bptt"],
            "peak_mebibytes": peaks,
            "step": {name: one_step(*each, 200, rounds) for name, each in sizes.items()},
            "chunk": {name: one_chunk(*each, 10, rounds) for name, each in sizes.items()},
            "others": {f"width {w}": others(w, 5, rounds) for w in (128, 256)},
            "batch": BATCH,
            "chunk_steps": CHUNK,
            "threads": 1,
        },
        quick=quick,
    )


if __name__ == "__main__":
    main()
