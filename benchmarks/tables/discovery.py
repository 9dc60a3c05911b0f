"""Tables of environments and of skill discovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tables.cells import cell, plain, table


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


def atari_throughput(results: dict[str, Any]) -> str:
    """Steps per second of environments and of whole loops, and their ratios."""
    alone, loops = results["env_steps_per_second"], results["loop_steps_per_second"]
    vs_sb3 = {
        "skillrl": ("PPO on the game's reward", results["vs_sb3"]),
        "discovery": ("discovery", results["discovery_vs_sb3"]),
        "discovery, recipe": ("discovery, deaths skipped", results["discovery_recipe_vs_sb3"]),
    }
    loop = [[name, f"{loops[key]:,.0f}", f"{ratio:.2f}×"] for key, (name, ratio) in vs_sb3.items()]
    theirs = ["Stable-Baselines3's PPO", f"{loops['sb3']:,.0f}", "1.00×"]
    environments = {
        "skillrl, in threads": ("threads", 1.0),
        "skillrl, in processes": ("processes", results["processes_vs_threads"]),
        "ALE": ("ale", 1 / results["env_share_of_ale"]),
        "EnvPool": ("envpool", 1 / results["env_vs_envpool"]),
    }
    env = [[n, f"{alone[key]:,.0f}", f"{ratio:.2f}×"] for n, (key, ratio) in environments.items()]
    return "\n".join(
        [
            table(["environment", "steps per second", "vs threads"], env),
            table(["whole loop", "steps per second", "vs Stable-Baselines3"], [*loop, theirs]),
        ]
    )


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


def ablations(results: dict[str, Any]) -> str:
    """Figures of the skills, a row for each variant of the recipe."""
    return compared(results["variants"])


def zero_shot(results: dict[str, Any]) -> str:
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


def masked(results: dict[str, Any]) -> str:
    """Figures of skills learnt with and without a memory."""
    columns = (
        ("live", "live", ".0%"),
        ("share of target", "reward, of the target", ".0%"),
        ("information: position", "MI position", ".2f"),
    )
    rows = []
    for name, figures in results["agents"].items():
        settings = figures["recipe"]["agent"]
        own = [str(len(figures["seeds"])), f"{settings['gamma']:g}", f"{settings['gae_lambda']:g}"]
        rows.append([name, *own, *(cell(figures, key, form) for key, _, form in columns)])
    return table(["agent", "seeds", "discount", "λ", *(heading for _, heading, _ in columns)], rows)


def atari(results: dict[str, Any]) -> str:
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


TABLES = {
    "ablations_half_cheetah": ablations,
    "atari_throughput": atari_throughput,
    "discover_ant": discovery,
    "discover_half_cheetah": discovery,
    "discover_hopper": discovery,
    "discover_humanoid": discovery,
    "discover_masked": masked,
    "discover_montezuma": atari,
    "discover_montezuma_restarts": atari,
    "discover_private_eye": atari,
    "discover_walker2d": discovery,
    "discovery_throughput": discovery_throughput,
    "env_throughput": env_throughput,
    "skill_actions": skill_actions,
    "zero_shot_half_cheetah": zero_shot,
}
