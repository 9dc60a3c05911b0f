"""What `skillrl align` leaves: a folder with figures and numbers, and what they mean in words.

::

    runs/alignment/modes.json    barriers, modes, distances, settings
                   barriers.png  before and after alignment, with a dendrogram
                   curves.png    what is earned on the paths between the policies
                   plane.png     and on the plane through the first three
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skillrl.agents.policy_network import Coordinates
from skillrl.agents.returns import Task
from skillrl.discovery.library import provenance
from skillrl.errors import InvalidValueError
from skillrl.files import write_json
from skillrl.permutation import Modes
from skillrl.permutation.plane import Plane
from skillrl.report.barriers import plot_barriers, plot_paths, plot_plane

FORMAT = 1


@dataclass(frozen=True)
class Comparison:
    """What came out for some policies.

    Attributes:
        names: of the policies.
        paths: of their files.
        task: what they were scored on.
        coordinates: see ``skillrl.agents.policy_network.Coordinates``.
        random: return of a random policy.
        modes: barriers and clusters.
        plane: returns on the plane through the first three; None where there is none.
        folder: with the files.
    """

    names: list[str]
    paths: list[Path]
    task: Task
    coordinates: Coordinates
    random: float
    modes: Modes
    plane: Plane | None
    folder: Path


def check_new(folder: Path) -> None:
    """Refuse to write over a result.

    Raises:
        InvalidValueError: if the folder holds one.
    """
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
    plot_barriers(folder / "barriers.png", modes, names)
    plot_paths(folder / "curves.png", modes, names, comparison.random)
    if comparison.plane is not None:
        plot_plane(folder / "plane.png", comparison.plane, names[:3])
    pairs = zip(names, comparison.paths, strict=True)
    content = {
        "format": FORMAT,
        "policies": [{"name": name, "path": str(path)} for name, path in pairs],
        "task": asdict(comparison.task),
        "settings": settings,
        "coordinates": comparison.coordinates,
        "random_return": comparison.random,
        **modes.to_json(),
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
        lines.append(f"{'policy':<{width}}  {'return':>10}  {'mode':>4}")
        rows = zip(comparison.names, found.scores, found.clusters, strict=True)
        lines += [f"{name:<{width}}  {score:>10.4g}  {mode:>4}" for name, score, mode in rows]
        lines += [
            f"{'random':<{width}}  {comparison.random:>10.4g}",
            "barriers, as shares of what the policies earn more than a random one:",
            f"  before alignment  {_spread(found.before)}",
            f"  after alignment   {_spread(found.after)}",
            verdict(comparison),
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
        already = bool((np.array(comparison.modes.before) <= threshold).all())
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


def _spread(matrix: Sequence[Sequence[float]]) -> str:
    values = np.array(matrix)[np.triu_indices(len(matrix), 1)]
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"median {np.median(values):.3f}, from {values.min():.3f} to {values.max():.3f}"
