"""Tables of recurrent networks and of agents with a memory."""

from __future__ import annotations

from typing import Any

from tables.cells import interval, table


def online_gradient(results: dict[str, Any]) -> str:
    """Cosines to the true gradient, a row for each rule, columns for depths and for parts."""
    depths = (1, 2, 3, 4)
    parts = {"layer 4 of 4": "last of 4", "layer 1 of 4": "first of 4", "encoder": "below 4"}
    rules = [key.removeprefix("depth 1, ") for key in results["cosines"] if key[:8] == "depth 1,"]

    def cell(depth: int, rule: str, part: str = "everything") -> str:
        each = results["cosines"][f"depth {depth}, {rule}"][part]
        return f"{sum(each) / len(each):.4f}"

    def error(rule: str) -> str:
        found = [results["max_relative_error"]] if rule.startswith("online") else []
        if rule == "online, one chunk":
            found.append(max(results["relative_errors_of_stacks_in_one_chunk"].values()))
        return ", ".join(f"{each:.0e}" for each in found)

    rows = [
        [
            rule,
            *(cell(depth, rule) for depth in depths),
            *(cell(4, rule, part) for part in parts),
            error(rule),
        ]
        for rule in rules
    ]
    headings = [f"{depth} layer{'s' if depth > 1 else ''}" for depth in depths]
    return table(["", *headings, *parts.values(), "relative error"], rows)


def online_cost(results: dict[str, Any]) -> str:
    """Ratios of a step and of a chunk; growth of memory; speed beside torch's layers."""
    names = {
        "step": {
            "compute_ratio": "a step: operations needed",
            "compute_ratio_as_run": "a step: operations run",
            "time_ratio": "a step: time",
            "memory_ratio": "a step: memory",
        },
        "chunk": {
            "chunk_time_ratio": "a chunk of 32 × 32: time",
            "training_time_ratio": "the same with its backward pass, to truncation",
        },
    }
    sizes = list(results["step"])
    rows = [
        [heading, *(f"{results[part][size][key]:.2f}×" for size in sizes)]
        for part, headings in names.items()
        for key, heading in headings.items()
    ]
    lengths = list(results["peak_mebibytes"]["online"])
    peaks = [
        [rule, *(f"{peaks[length]:,.0f} MiB" for length in lengths)]
        for rule, peaks in results["peak_mebibytes"].items()
    ]
    speeds = [
        [width, f"{each['vs_lstm']:.2f}×", f"{each['vs_gru']:.2f}×"]
        for width, each in results["others"].items()
    ]
    return "\n".join(
        [
            table(["", *sizes], rows),
            table(["peak memory of training", *(f"{length} steps" for length in lengths)], peaks),
            table(["LRU, faster than", "LSTM, N = H", "GRU, N = H / 2"], speeds),
        ]
    )


def _outcomes(contenders: dict[str, Any], key: str, form: str) -> list[list[str]]:
    """A row for each contender: the mean over seeds, and each seed."""
    rows = []
    for name, found in contenders.items():
        each = [outcome[key] for outcome in found["outcomes"]]
        seeds = ", ".join("diverged" if value is None else f"{value:{form}}" for value in each)
        mean = found["mean"][key]
        rate = f"{found['recipe']['learning_rate']:g}"
        rows.append([name, "" if mean is None else f"{mean:{form}}", seeds, rate])
    return rows


def copy_task(results: dict[str, Any]) -> str:
    """Test losses, and those of the sweeps, a row for each rule and a column for each setting."""
    rows = _outcomes(results["contenders"], "test_loss", ".4f")
    rows.append(["untrained", f"{results['untrained loss']:.4f}", "", ""])
    sweeps: dict[str, dict[str, str]] = {}
    for name, found in results["sweeps"].items():
        rule, setting = name.rsplit(", ", 1)
        sweeps.setdefault(rule, {})[setting] = f"{found['mean']['test_loss']:.4f}"
    return "\n".join(
        [
            table(["", "test loss", "seeds", "learning rate"], rows),
            table(
                ["", *next(iter(sweeps.values()))], [[r, *s.values()] for r, s in sweeps.items()]
            ),
        ]
    )


def delayed_recall(results: dict[str, Any]) -> str:
    """Test accuracies."""
    rows = _outcomes(results["contenders"], "test_accuracy", ".0%")
    rows.append(["a guess", f"{results['chance']:.0%}", "", ""])
    return table(["", "right", "seeds", "learning rate"], rows)


def long_range(results: dict[str, Any]) -> str:
    """Test accuracies of every task."""
    rows = []
    for task, found in results["tasks"].items():
        each = _outcomes(found["contenders"], "test_accuracy", ".1%")
        each.append(["a guess", f"{found['chance']:.1%}", "", ""])
        if found["root alone"] is not None:
            each.append(["a guess by the first token", f"{found['root alone']:.1%}", "", ""])
        rows += [[f"{task}: {row[0]}", *row[1:]] for row in each]
    return table(["", "right", "seeds", "learning rate"], rows)


def recurrent_throughput(results: dict[str, Any]) -> str:
    """Steps per second of all sides, and the ratio of those with a memory."""
    rows = []
    for name, each in results["settings"].items():
        speeds, timed = each["steps_per_second"], len(each["raw"]["skillrl"])
        ratio = f"{each['vs_sb3_contrib']:.1f}×"
        steps = {side: f"{speed:,.0f}" for side, speed in speeds.items()}
        figures = [steps["skillrl"], steps["sb3_contrib"], ratio, steps["without_memory"]]
        rows.append([name, str(timed), *figures])
    return table(["", "timed", "skillrl", "sb3-contrib", "ratio", "PPO without memory"], rows)


def memory_tasks(results: dict[str, Any]) -> str:
    """Returns, a row for each task, a column for each agent."""
    agents = list(dict.fromkeys(agent for found in results["tasks"].values() for agent in found))
    headings = {
        "skillrl": "skillrl",
        "sb3-contrib": "sb3-contrib, LSTM",
        "memoryless": "PPO without memory",
        "lru": "skillrl, LRU",
        "truncated": "skillrl, truncated",
    }
    rows = [
        [
            *(task, *conditions(next(iter(found.values())), "gamma", "gae_lambda")),
            *(interval(found[agent]) if agent in found else "" for agent in agents),
        ]
        for task, found in results["tasks"].items()
    ]
    return table(["", "seeds", "discount", "λ", *(headings[agent] for agent in agents)], rows)


def memory_sac(results: dict[str, Any]) -> str:
    """Returns, a row for each task, a column for each agent."""
    agents = list(next(iter(results["tasks"].values())))
    rows = [
        [
            *(task, *conditions(next(iter(found.values())), "gamma")),
            *(interval(found[agent]) for agent in agents),
        ]
        for task, found in results["tasks"].items()
    ]
    return table(["", "seeds", "discount", *agents], rows)


def rules_in_ppo(results: dict[str, Any]) -> str:
    """Returns, a row for each rule or refresh, a column for each task."""
    tasks = results["tasks"]
    rows, headings = [], []
    for task, found in tasks.items():
        _, gamma, lambda_ = conditions(next(iter(found.values())), "gamma", "gae_lambda")
        headings.append(f"{task} (discount {gamma}, λ {lambda_})")
    for name, first in next(iter(tasks.values())).items():
        returns = [interval(found[name]) for found in tasks.values()]
        rows.append([name, *conditions(first), *returns])
    return table(["", "seeds", *headings], rows)


def conditions(found: dict[str, Any], *settings: str) -> list[str]:
    """The number of seeds, and some settings that all contenders have in common."""
    own = found["training"]["settings"]
    return [str(len(found["seeds"])), *(f"{own[name]:g}" for name in settings)]


TABLES = {
    "copy_task": copy_task,
    "delayed_recall": delayed_recall,
    "long_range": long_range,
    "memory_sac": memory_sac,
    "memory_tasks": memory_tasks,
    "online_cost": online_cost,
    "online_gradient": online_gradient,
    "recurrent_throughput": recurrent_throughput,
    "rules_in_ppo": rules_in_ppo,
}
