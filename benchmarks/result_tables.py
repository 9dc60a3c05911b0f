"""Fill the tables of README.md and benchmarks/README.md from benchmarks/results.

A table stands in a page between ``<!-- table: NAME -->`` and ``<!-- end -->``; it is made by
the function of that name below, from ``results/NAME.json``.

    python benchmarks/result_tables.py            write the tables
    python benchmarks/result_tables.py --check    exit with 1 where a page differs from them
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGES = (Path(__file__).parents[1] / "README.md", Path(__file__).parent / "README.md")
REGION = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def env_throughput(results: dict[str, Any]) -> str:
    """Steps per second, alone and relative to others, a row for each environment."""
    columns = {
        "vs_sync": "SyncVectorEnv",
        "vs_async": "AsyncVectorEnv",
        "vs_envpool": "EnvPool",
        "vs_envpool_async": "EnvPool, asynchronous",
        "share_of_batch": "bare `mujoco.batch.Batch`",
    }
    rows = []
    for env, speeds in results["steps_per_second"].items():
        ratios = [f"{results[key][env]:.2f}×" for key in columns]
        rows.append([env, f"{speeds['skillrl']:,.0f}", *ratios])
    return table(["", "steps per second", *(f"vs {name}" for name in columns.values())], rows)


def discovery_throughput(results: dict[str, Any]) -> str:
    """Steps per second of both sides, and their ratio; what our own time goes to."""
    ours, theirs = (results["steps_per_second"][n] for n in ("skillrl", "stable_baselines3"))
    shares = results["shares"]
    row = [f"{ours:,.0f}", f"{theirs:,.0f}", f"{results['vs_sb3']:.2f}×"]
    row += [f"{share:.0%}" for share in shares.values()]
    return table(["skillrl", "Stable-Baselines3's PPO", "ratio", *shares], [row])


METHODS = {
    "neural-rewards": "skillrl",
    "diayn": "DIAYN",
    "metra": "METRA",
    "random-rewards": "random rewards",
}
# Name in the results, heading, format.
COLUMNS = (
    ("live", "live", ".0%"),
    ("falls", "fall", ".0%"),
    ("seconds", "after s", ".1f"),
    ("fastest forwards", "m/s forwards", ".1f"),
    ("fastest backwards", "backwards", ".1f"),
    ("front somersaults", "front flips", ".1f"),
    ("back somersaults", "back flips", ".1f"),
    ("information: forward velocity", "MI velocity", ".2f"),
    ("information: lateral velocity", "MI lateral", ".2f"),
    ("information: height", "MI height", ".2f"),
    ("fastest hop", "m/s on one foot", ".2f"),
    ("longest hop", "steps on one foot", ",.0f"),
    ("distinct", "told apart", ".0%"),
    ("coverage", "m² visited", ",.0f"),
    ("task_return", "task return", ",.0f"),
    ("steps_per_skill", "steps a skill", ",.0f"),
    ("minutes", "minutes", ".0f"),
)


def cell(figures: dict[str, Any], name: str, form: str) -> str:
    """A mean over seeds, and its interval; nothing where there is none."""
    if name not in figures["mean"]:
        return ""
    low, high = figures["interval"][name]
    mean, form = figures["mean"][name], f"z{form}"  # never "-0.0"
    return f"{mean:{form}} ({low:{form}} to {high:{form}})"


def plain(value: float | None, form: str) -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else f"{value:z{form}}"


def known_columns(groups: Mapping[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The columns of which there are figures; those of falls only where something falls."""
    falls = any(figures["mean"]["falls"] for figures in groups.values())
    return [
        column
        for column in COLUMNS
        if any(column[0] in figures["mean"] for figures in groups.values())
        and (falls or column[0] not in ("falls", "seconds"))
    ]


def compared(groups: Mapping[str, dict[str, Any]]) -> str:
    """A row for each group of runs, without minutes: how many ran side by side differs."""
    columns = [column for column in known_columns(groups) if column[0] != "minutes"]
    rows = [
        [name, str(len(figures["seeds"])), *(cell(figures, key, form) for key, _, form in columns)]
        for name, figures in groups.items()
    ]
    return table(["", "seeds", *(heading for _, heading, _ in columns)], rows)


def discovery(results: dict[str, Any]) -> str:
    """Figures of the skills: of all methods, and of each seed of our own."""
    methods = results["methods"]
    tables = [compared({METHODS[name]: method for name, method in methods.items()})]
    if "neural-rewards" in methods:
        ours = methods["neural-rewards"]
        known = [c for c in known_columns(methods) if c[0] in ours["mean"]]
        seeds = [
            [str(seed), *(plain(ours[key][index], form) for key, _, form in known)]
            for index, seed in enumerate(ours["seeds"])
        ]
        tables.append(table(["seed", *(heading for _, heading, _ in known)], seeds))
    return "\n".join(tables)


def discover_half_cheetah(results: dict[str, Any]) -> str:
    """See ``discovery``."""
    return discovery(results)


def discover_ant(results: dict[str, Any]) -> str:
    """See ``discovery``."""
    return discovery(results)


def discover_humanoid(results: dict[str, Any]) -> str:
    """See ``discovery``."""
    return discovery(results)


def discover_hopper(results: dict[str, Any]) -> str:
    """See ``discovery``."""
    return discovery(results)


def discover_walker2d(results: dict[str, Any]) -> str:
    """See ``discovery``."""
    return discovery(results)


def ablations_half_cheetah(results: dict[str, Any]) -> str:
    """Figures of the skills, a row for each variant of the recipe."""
    return compared(results["variants"])


def zero_shot_half_cheetah(results: dict[str, Any]) -> str:
    """What the best skill of each run earns, and when PPO earns as much."""
    rows = [
        [
            str(match["seed"]),
            str(match["skill"]),
            f"{match['task_return']:,.0f}",
            f"{match['steps']:,}" if match["steps"] else f"not by {match['curve'][-1][0]:,}",
        ]
        for match in results["matches"]
    ]
    return table(["seed", "skill", "its return", "steps until PPO earns as much"], rows)


def skill_actions(results: dict[str, Any]) -> str:
    """Returns of both sides after some numbers of steps, for each reward."""
    rewards = {"distance": "metres nearer", "flags": "flags reached"}
    sides = {"skills": "chooses skills", "scratch": "from scratch"}
    rows = [
        [
            f"{rewards[reward]}: {heading}",
            *(cell(found[side], str(mark), ",.1f") for mark in results["marks"]),
        ]
        for reward, found in results["rewards"].items()
        for side, heading in sides.items()
    ]
    return table(["", *(f"{mark:,} steps" for mark in results["marks"])], rows)


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


def discover_masked(results: dict[str, Any]) -> str:
    """Figures of skills learnt with and without a memory."""
    columns = (
        ("live", "live", ".0%"),
        ("share of target", "reward, of the target", ".0%"),
        ("information: angle", "MI angle", ".2f"),
    )
    rows = []
    for name, figures in results["agents"].items():
        settings = figures["recipe"]["agent"]
        own = [str(len(figures["seeds"])), f"{settings['gamma']:g}", f"{settings['gae_lambda']:g}"]
        rows.append([name, *own, *(cell(figures, key, form) for key, _, form in columns)])
    return table(["agent", "seeds", "discount", "λ", *(heading for _, heading, _ in columns)], rows)


def discover_montezuma(results: dict[str, Any]) -> str:
    """What each skill of each seed does in its episodes, after the untrained policy."""
    rows = []
    for seed in results["seeds"]:
        rows.append([str(seed["seed"]), "untrained", "", "", "", "", *_went(seed["untrained"])])
        for number, skill in enumerate(seed["skills"]):
            share = skill["mean_reward"] / skill["target"]
            cost = f"{skill['steps']:,}", f"{skill['seconds'] / 60:.0f}"
            live = "yes" if skill["live"] else "no"
            rows.append(
                [str(seed["seed"]), str(number), f"{share:.0%}", live, *cost, *_went(skill)]
            )
        together = f"{seed['live']} of {len(seed['skills'])}"
        hours = f"{60 * seed['hours']:.0f}"
        steps = f"{sum(skill['steps'] for skill in seed['skills']):,}"
        rows.append(
            [str(seed["seed"]), "all", "", together, steps, hours, str(seed["cells"]), "", "", ""]
        )
    columns = ["seed", "skill", "reward, of the target", "live", "steps", "minutes", "cells"]
    return table([*columns, "rooms", "picked up", "score"], rows)


def _went(player: dict[str, Any]) -> list[str]:
    """Cells, rooms and things with the episodes that they were reached in, and the score."""
    episodes = player["episodes"]
    found = [
        ", ".join(f"{name} ({count}/{episodes})" for name, count in player[key].items())
        for key in ("rooms", "items")
    ]
    return [str(player["cells"]), found[0], found[1] or "nothing", f"{player['score']:g}"]


def discover_montezuma_restarts(results: dict[str, Any]) -> str:
    """See ``discover_montezuma``."""
    return discover_montezuma(results)


def discover_private_eye(results: dict[str, Any]) -> str:
    """See ``discover_montezuma``."""
    return discover_montezuma(results)


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


def memory_tasks(results: dict[str, Any]) -> str:
    """Returns, a row for each task, a column for each agent."""
    agents = list(dict.fromkeys(agent for found in results["tasks"].values() for agent in found))
    headings = {
        "skillrl": "skillrl",
        "sb3-contrib": "sb3-contrib, LSTM",
        "memoryless": "PPO without memory",
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


def interval(found: dict[str, Any]) -> str:
    """An inter-quartile mean over seeds, and its interval."""
    low, high = found["interval"]
    form = ",.0f" if max(abs(low), abs(high)) >= 20 else ".2f"
    return f"{found['mean']:{form}} ({low:{form}} to {high:{form}})"


def permutation_supervised(results: dict[str, Any]) -> str:
    """Accuracies at the ends and midpoints; barriers; averaged initialisations."""
    shown = ("plain", "plain, repaired", "aligned", "aligned, repaired")
    sides = ("plain", "aligned", "control")
    rows, methods, initial = [], [], []
    for name, found in results["settings"].items():
        if "paths" not in found:
            rows.append([name, "diverged", *[""] * 5])
            continue
        paths = found["paths"]
        rows.append(
            [
                name,
                _with_error(found["better end"]),
                *(_with_error(paths[path]["middle"]) for path in shown),
                _with_error(paths["aligned"]["middle minus better end"]),
            ]
        )
        compared = [path for path in paths if path.startswith("aligned")]
        if len(compared) > 2:
            methods += [
                [
                    f"{name}: {path}",
                    *(
                        _with_error(paths[path][key], form)
                        for key, form in (
                            ("middle", ".1%"),
                            ("barrier of accuracy", ".1%"),
                            ("barrier of loss", ".3f"),
                            ("barrier of tuned_loss", ".3f"),
                        )
                    ),
                    "" if path == "aligned" else _with_error(paths[path]["middle minus aligned"]),
                ]
                for path in ("plain", *compared)
            ]
        difference = _with_error(found["initial, aligned minus control"])
        initial.append([name, *(_with_error(found["initial"][side]) for side in sides), difference])
    return "\n".join(
        [
            table(["", "better end", *shown, "aligned − better end"], rows),
            table(
                [
                    *("", "midpoint", "barrier", "of the loss", "temperature tuned"),
                    "midpoint − that of aligned",
                ],
                methods,
            ),
            table(
                ["averaged initialisations", *sides, "aligned − control"],
                initial,
            ),
        ]
    )


def _with_error(figure: dict[str, float], form: str = ".1%") -> str:
    """A mean over pairs and its standard error."""
    return f"{figure['mean']:{form}} ± {figure['error']:{form}}"


def permutation_policies(results: dict[str, Any]) -> str:
    """Barriers of the return between policies; averaged untrained ones."""
    sides = ("plain", "permutations", "signs and phases", "scales", "by both")
    untrained = ("ends", "plain", "permutations", "signs and phases", "drawn")
    rows, connected, initial = [], [], []
    for name, found in results["tasks"].items():
        if "barriers" not in found:
            rows.append([name, "no better than chance", *[""] * len(sides)])
            continue
        earned = _within(found["returns"], ",.4g")
        barriers = found["barriers"]
        rows.append(
            [name, earned, *(_within(barriers[side]) if side in barriers else "" for side in sides)]
        )
        connected.append([name, *(_share(found, side) for side in sides)])
        initial.append([name, *(_within(found["untrained"][side]) for side in untrained)])
    return "\n".join(
        [
            table(["barrier of the return", "return", *sides], rows),
            table(["pairs with a barrier of at most 0.1", *sides], connected),
            table(
                ["untrained policies", *untrained[:1], *(f"mean, {n}" for n in untrained[1:])],
                initial,
            ),
        ]
    )


def permutation_skills(results: dict[str, Any]) -> str:
    """Barriers of the return between skills, a row for each kind of pairs."""
    sides = ("plain", "signs and phases")
    rows = []
    for kind, title in (("lineage", "a skill and its parent"), ("across", "of two runs")):
        found = results["kinds"][kind]
        if "barriers" in found:
            rows.append(
                [
                    title,
                    str(len(found["pairs"]) - found["left out"]),
                    *(_within(found["barriers"][side]) for side in sides),
                    *(_share(found, side) for side in sides),
                ]
            )
    headings = ("pairs", "barrier, plain", "aligned", "connected, plain", "aligned")
    return table(["skills", *headings], rows)


def _share(found: dict[str, Any], side: str) -> str:
    """The share of pairs that are connected, with its interval where one was recorded."""
    if side not in found["connected"]:
        return ""
    interval = found.get("connected interval", {}).get(side)
    return _within({"mean": found["connected"][side], "interval": interval}, ".0%")


def _within(figure: dict[str, Any], form: str = ".2f") -> str:
    """A mean and its interval, if it has one."""
    mean = f"{figure['mean']:{form}}"
    if figure["interval"] is None:
        return mean
    low, high = figure["interval"]
    return f"{mean} ({low:{form}} to {high:{form}})"


def alignment_speed(results: dict[str, Any]) -> str:
    """Seconds, memory and ratios of every size; many policies below."""
    contenders = ("matching", "align", "align by both")
    ratios = ("align, not proven", "align", "align by both")
    rows = [
        [
            size,
            *(_known(each["seconds"], name, ".2f", " s") for name in contenders),
            *(_known(each["time_ratio"], name, ".1f", "×") for name in ratios),
            *(_known(each["peak_mebibytes"], name, ",.0f", " MiB") for name in contenders),
        ]
        for size, each in results["sizes"].items()
    ]
    headings = [
        *("matching", "`align`", "by both"),
        *("to matching, not proven", "to matching", "by both, to matching"),
        *("memory of matching", "of `align`", "by both"),
    ]
    policies = dict(results["policies"])
    count = policies.pop("count")
    many = [
        [method, f"{each['seconds']:.1f} s", f"{each['peak_mebibytes']:,.0f} MiB"]
        for method, each in policies.items()
    ]
    return "\n".join(
        [
            table(["width × depth", *headings], rows),
            table([f"`align_many` of {count} policies, by", "time", "memory"], many),
        ]
    )


def _known(figures: Mapping[str, float], name: str, form: str, unit: str) -> str:
    """A figure and its unit, or nothing where it was not measured."""
    return f"{figures[name]:{form}}{unit}" if name in figures else ""


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    table.__name__: table
    for table in (
        ablations_half_cheetah,
        alignment_speed,
        copy_task,
        delayed_recall,
        discover_ant,
        discover_half_cheetah,
        discover_hopper,
        discover_humanoid,
        discover_walker2d,
        discovery_throughput,
        env_throughput,
        long_range,
        memory_sac,
        memory_tasks,
        online_cost,
        online_gradient,
        permutation_policies,
        permutation_skills,
        permutation_supervised,
        recurrent_throughput,
        discover_masked,
        discover_montezuma,
        discover_montezuma_restarts,
        discover_private_eye,
        rules_in_ppo,
        skill_actions,
        zero_shot_half_cheetah,
    )
}


# What measures a table, where that is not its script alone.
COMMANDS = {
    "discover_montezuma_restarts": "discover_montezuma.py --restarts",
    "discover_private_eye": "discover_montezuma.py --game PrivateEye",
    "permutation_supervised": "permutation_supervised.py --data DIR",
}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))


def fill(text: str, results: Path) -> str:
    """Return ``text`` with every table made anew from the folder ``results``."""

    def region(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        if name not in TABLES:
            raise SystemExit(f"There is no table {name!r}; there are {', '.join(TABLES)}.")
        path = results / f"{name}.json"
        if path.is_file():
            content = TABLES[name](json.loads(path.read_text(encoding="utf-8")))
        else:
            command = COMMANDS.get(name, f"{name}.py")
            content = f"*Not measured yet: run `python benchmarks/{command}`.*\n"
        return f"{start}\n{content}\n{end}"

    return REGION.sub(region, text)


def main() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        filled = fill(text, RESULTS)
        if "--check" not in sys.argv[1:]:
            page.write_text(filled, encoding="utf-8")
        elif filled != text:
            raise SystemExit(f"The tables of {page} differ from {RESULTS}: run `make tables`.")


if __name__ == "__main__":
    main()
