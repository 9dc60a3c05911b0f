"""``skillrl list``: the skills of a run as a table, or the runs in a folder, a line each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from skillrl.discovery.library import SkillLibrary, load_skill
from skillrl.errors import DamagedFileError

SKILL_COLUMNS = (
    *("skill", "live", "reward", "of target", "previous", "fresh", "positives", "negatives"),
    *("task return", "steps", "time", "from", "what it does"),
)
RUN_COLUMNS = ("run", "environment", "seed", "skills", "live", "steps", "time")


def list_skills(run: Path) -> str:
    """Describe the skills of a run, or the runs in a folder.

    Args:
        run: a run's folder, or a folder of runs.

    Returns:
        For a run its environment and seed, and a table: whether each skill is live, its mean
        reward per step and as a share of the target, what the previous policy and the fresh one,
        before training, earn on the same reward, the shares of held-out positives and negatives
        (the finished skill's or earlier ones', whichever is more) that the reward is positive at,
        the mean return of the environment's own task, the steps and the time of training, the skill
        that it started from, and what its body does.
        For a folder of runs one line a run.

    Raises:
        DamagedFileError: if the folder is no run and holds none, or a file of it is damaged.
    """
    if not (run / "run.json").is_file():
        runs = sorted(path.parent for path in run.glob("*/run.json"))
        if runs:
            return _table(RUN_COLUMNS, [_run_row(path) for path in runs])
    library = SkillLibrary(run)
    rows: list[tuple[str, ...]] = []
    for folder in library.folders():
        try:
            known = load_skill(folder).record
        except DamagedFileError as error:
            # The other skills are still worth showing.
            rows.append((folder.name.lstrip("0") or "0", str(error)))
            continue
        separation = known.separation
        rows.append(
            (
                str(known.index),
                {True: "yes", False: "no", None: "-"}[known.live],
                f"{known.mean_reward:.3g}",
                f"{known.mean_reward / known.target:.0%}" if known.target else "",
                f"{known.previous_mean_reward:.3g}",
                "" if known.fresh_reward is None else f"{known.fresh_reward:.3g}",
                "" if separation is None else f"{separation.positives:.0%}",
                "" if separation is None else f"{separation.old:.0%}",
                "" if known.task_return is None else f"{known.task_return:.1f}",
                f"{known.steps:,}",
                _duration(known.seconds),
                "-" if known.parent is None else str(known.parent),
                "" if known.descriptors is None else known.descriptors.name,
            )
        )
    header = (
        f"{library.recipe.env}, seed {library.seed}: {len(rows)} of "
        f"{max(library.recipe.generations, len(rows))} skills finished"
    )
    table = _table(SKILL_COLUMNS, rows) if rows else None
    return "\n\n".join(part for part in (header, table, library.gap) if part is not None)


def _run_row(path: Path) -> tuple[str, ...]:
    try:
        library = SkillLibrary(path)
        known = [skill.record for skill in library]
    except DamagedFileError as error:
        # The other runs are still worth showing.
        return path.name, str(error)
    planned = max(library.recipe.generations, len(known))
    return (
        path.name,
        library.recipe.env,
        str(library.seed),
        f"{len(known)} of {planned}",
        "-" if library.recipe.learnt_together else str(sum(each.live or False for each in known)),
        f"{sum(each.steps for each in known):,}",
        _duration(sum(each.seconds for each in known)),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as what they hold: names to the left, all else to the right."""
    to_the_left = ("run", "environment", "what it does")
    whole = [row for row in rows if len(row) == len(columns)]
    widths = [max(map(len, cells)) for cells in zip(columns, *whole, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in to_the_left else cell.rjust(width)
            for column, cell, width in zip(columns, row, widths, strict=False)
        ).rstrip()
        for row in [columns, *rows]
    )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
