"""What `skillrl align` leaves: a folder with figures and numbers, and what they mean in words.

::

    runs/alignment/alignments.safetensors  what brings all into shared coordinates
                   barriers.png            before and after alignment, with a dendrogram
                   curves.png              what is earned on the paths between the policies
                   plane.png               and on the plane through the first three
                   modes.json              barriers, modes, distances, settings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skillrl.agents.coordinates import Coordinates
from skillrl.agents.returns import Task
from skillrl.discovery.library import provenance
from skillrl.errors import InvalidValueError
from skillrl.files import check_folder, write_json
from skillrl.permutation import Modes
from skillrl.permutation.connectivity import Matrix, clusters_of
from skillrl.permutation.plane import Plane
from skillrl.report.barriers import plot_barriers, plot_plane, plot_returns

FORMAT = 1


@dataclass(frozen=True)
class Comparison:
    """What came out for some policies.

    Attributes:
        names: of the policies.
        paths: of their files.
        task: what they were scored on.
        coordinates: see ``skillrl.agents.coordinates.Coordinates``.
        errors: standard errors of the policies' mean returns.
        random: return of a random policy.
        modes: barriers and clusters.
        action_kl: before and after alignment, the divergence of what is half-way between two
            policies from what they do, in nats (see ``skillrl.agents.policy_network.action_kl``);
            None where their noise has no distribution.
        units: how many hidden units there are, by the name of a layer.
        idle: for each policy, by the name of a layer, the units that never change on the
            observations that units are compared on: they were matched last, by their weights.
        plane: returns on the plane through the first three; None where there is none.
        folder: with the files.
    """

    names: list[str]
    paths: list[Path]
    task: Task
    coordinates: Coordinates
    errors: list[float]
    random: float
    modes: Modes
    action_kl: dict[str, Matrix | None]
    units: dict[str, int]
    idle: list[dict[str, list[int]]]
    plane: Plane | None
    folder: Path


def check_new(folder: Path) -> None:
    """Refuse a folder that a result cannot be written to, before the work is done.

    Raises:
        InvalidValueError: if the folder holds a result already, or a file is in its place.
    """
    check_folder(folder)
    if (folder / "modes.json").exists() or any(folder.glob("pair-*/modes.json")):
        raise InvalidValueError(f"{folder} holds a result already: name another folder with --out.")


def write(comparison: Comparison, settings: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    """Write the files of a comparison into its folder.

    Args:
        comparison: what came out.
        settings: by which it was found, as JSON.
        notes: what else is to be known of these policies, as JSON.
    """
    folder, names, modes = comparison.folder, comparison.names, comparison.modes
    plot_barriers(folder / "barriers.png", modes.before, modes.after, modes.threshold, names)
    plot_returns(folder / "curves.png", modes, names, comparison.random)
    if comparison.plane is not None:
        plot_plane(folder / "plane.png", comparison.plane, names[:3])
    policies = zip(names, comparison.paths, comparison.idle, comparison.errors, strict=True)
    content = {
        "format": FORMAT,
        "policies": [
            {"name": name, "path": str(path), "idle_units": idle, "standard_error": error}
            for name, path, idle, error in policies
        ],
        "units": comparison.units,
        "task": asdict(comparison.task),
        "settings": settings,
        "coordinates": comparison.coordinates,
        "random_return": comparison.random,
        **modes.to_json(),
        "action_kl_midway": comparison.action_kl,
        "plane": None if comparison.plane is None else asdict(comparison.plane),
        **notes,
        **provenance(),
    }
    # Last: where it is, the others are.
    write_json(folder / "modes.json", content)


def report(comparisons: Sequence[Comparison], left_out: Sequence[str] = ()) -> str:
    """Return tables of the policies and their modes, and what they mean, in words."""
    lines: list[str] = []
    for comparison in comparisons:
        found = comparison.modes
        width = max(6, *map(len, comparison.names))
        lines.append(f"{'policy':<{width}}  {'return':>10}  {'± s.e.':>8}  {'mode':>4}")
        rows = zip(comparison.names, found.scores, comparison.errors, found.clusters, strict=True)
        lines += [
            f"{name:<{width}}  {score:>10.4g}  {error:>8.2g}  {mode:>4}"
            for name, score, error, mode in rows
        ]
        lines += [
            f"{'random':<{width}}  {comparison.random:>10.4g}",
            "barriers, as shares of what the policies earn more than a random one:",
            f"  before alignment  {_spread(found.before)}",
            f"  after alignment   {_spread(found.after)}",
            verdict(comparison),
            *_remarks(comparison),
            f"Figures and modes.json are in {comparison.folder}.",
            "",
        ]
    lines += [f"Left out: {each}" for each in left_out]
    return "\n".join(lines).rstrip()


def verdict(comparison: Comparison) -> str:
    """Return in words how many modes there are."""
    clusters = comparison.modes.clusters
    count, threshold = max(clusters) + 1, comparison.modes.threshold
    if count == 1:
        # Before, too, some may be connected by way of others alone.
        already = len({*clusters_of(comparison.modes.before, threshold)}) == 1
        when = "even before they are aligned" if already else "once they are aligned"
        return f"One mode: barriers of at most {threshold:g} connect all policies {when}."
    members = [
        ", ".join(n for n, own in zip(comparison.names, clusters, strict=True) if own == mode)
        for mode in range(count)
    ]
    return (
        f"{count} modes: no path with barriers of at most {threshold:g} leads from one to another, "
        f"as far as alignment found one. They are {'; '.join(f'({each})' for each in members)}."
    )


def _remarks(comparison: Comparison) -> list[str]:
    """What the figures do not say of themselves."""
    remarks = []
    if comparison.coordinates == "shared":
        remarks.append(
            f"Paths run in the units of the normaliser of {comparison.names[0]}, into which those "
            "of the others are folded."
        )
    if comparison.coordinates == "own":
        remarks.append("Each policy keeps its normaliser, which paths interpolate as well.")
    if comparison.plane is not None and len(comparison.names) > 3:
        first = ", ".join(comparison.names[:3])
        remarks.append(f"The plane goes through {first}; name others first to see theirs.")
    shares = [
        error / (score - comparison.random)
        for error, score in zip(comparison.errors, comparison.modes.scores, strict=True)
    ]
    if max(shares) > comparison.modes.threshold / 2:
        worst = comparison.names[int(np.argmax(shares))]
        remarks.append(
            f"Barriers are uncertain: the standard error of what {worst} earns is "
            f"{max(shares):.0%} of what it earns more than a random policy. Play more --episodes, "
            "or train longer."
        )
    total = sum(comparison.units.values())
    for name, idle in zip(comparison.names, comparison.idle, strict=True):
        if idle:
            layers = ", ".join(f"{len(units)} of {layer}" for layer, units in idle.items())
            remarks.append(
                f"Of the {total:,} hidden units of {name} {sum(map(len, idle.values())):,} never "
                f"change on the observations and were matched last, by their weights: {layers}."
            )
    return remarks


def _spread(matrix: Sequence[Sequence[float]]) -> str:
    values = np.array(matrix)[np.triu_indices(len(matrix), 1)]
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"median {np.median(values):.3f}, from {values.min():.3f} to {values.max():.3f}"
