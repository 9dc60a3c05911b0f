"""Tables of aligned networks."""

from __future__ import annotations

from typing import Any

from tables.cells import known, table, with_error, within


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
                with_error(found["better end"]),
                *(with_error(paths[path]["middle"]) for path in shown),
                with_error(paths["aligned"]["middle minus better end"]),
            ]
        )
        compared = [path for path in paths if path.startswith("aligned")]
        if len(compared) > 2:
            methods += [
                [
                    f"{name}: {path}",
                    *(
                        with_error(paths[path][key], form)
                        for key, form in (
                            ("middle", ".1%"),
                            ("barrier of accuracy", ".1%"),
                            ("barrier of loss", ".3f"),
                            ("barrier of tuned_loss", ".3f"),
                        )
                    ),
                    "" if path == "aligned" else with_error(paths[path]["middle minus aligned"]),
                ]
                for path in ("plain", *compared)
            ]
        difference = with_error(found["initial, aligned minus control"])
        initial.append([name, *(with_error(found["initial"][side]) for side in sides), difference])
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


def permutation_policies(results: dict[str, Any]) -> str:
    """Barriers of the return between policies; averaged untrained ones."""
    sides = ("plain", "permutations", "signs and phases", "scales", "by both")
    untrained = ("ends", "plain", "permutations", "signs and phases", "drawn")
    rows, connected, initial, does = [], [], [], []
    for name, found in results["tasks"].items():
        does += [
            [
                f"{name}, seed {each['seed']}",
                f"{each['return']:,.0f}",
                each["name"],
                f"seed {each['closest']}",
                f"{each['barrier']:.2f}",
            ]
            for each in found.get("behaviours", [])
        ]
        if "barriers" not in found:
            rows.append([name, "no better than chance", *[""] * len(sides)])
            continue
        earned = within(found["returns"], ",.4g")
        barriers = found["barriers"]
        rows.append(
            [name, earned, *(within(barriers[side]) if side in barriers else "" for side in sides)]
        )
        connected.append([name, *(_share(found, side) for side in sides)])
        initial.append([name, *(within(found["untrained"][side]) for side in untrained)])
    tables = [
        (["barrier of the return", "return", *sides], rows),
        (["pairs with a barrier of at most 0.1", *sides], connected),
        (["policy", "return", "what it does", "closest", "barrier"], does),
        (["untrained policies", "ends", *(f"mean, {name}" for name in untrained[1:])], initial),
    ]
    return "\n".join(table(header, of) for header, of in tables if of)


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
                    *(within(found["barriers"][side]) for side in sides),
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
    return within({"mean": found["connected"][side], "interval": interval}, ".0%")


def alignment_speed(results: dict[str, Any]) -> str:
    """Seconds, memory and ratios of every size; many policies below."""
    contenders = ("matching", "align", "align by both")
    ratios = ("align, not proven", "align", "align by both")
    rows = [
        [
            size,
            *(known(each["seconds"], name, ".2f", " s") for name in contenders),
            *(known(each["time_ratio"], name, ".1f", "×") for name in ratios),
            *(known(each["peak_mebibytes"], name, ",.0f", " MiB") for name in contenders),
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


TABLES = {
    "alignment_speed": alignment_speed,
    "permutation_policies": permutation_policies,
    "permutation_skills": permutation_skills,
    "permutation_supervised": permutation_supervised,
}
