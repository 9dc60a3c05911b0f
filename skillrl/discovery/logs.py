"""A run's figures over time: ``progress.csv`` and TensorBoard events."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

from skillrl.files import write_atomically

COLUMNS = (
    "time/total_timesteps",
    "skill",
    "time/fps",
    "rollout/mean_reward",
    "train/policy_gradient_loss",
    "train/value_loss",
    "train/entropy",
    "train/approx_kl",
    "train/clip_fraction",
    "train/explained_variance",
)


class ProgressFile(KVWriter):
    """A CSV file that a resumed run goes on in.

    Args:
        path: of the file.
        steps: time steps that the run has taken; rows beyond are those of steps that were lost.
        columns: the figures in a row, the time steps first.
    """

    def __init__(self, path: Path, steps: int, columns: Sequence[str] = COLUMNS) -> None:
        self._columns = columns
        rows: list[list[str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row and row[0].isdecimal()]
        kept = [columns, *(row for row in rows if int(row[0]) <= steps)]
        text = io.StringIO()
        csv.writer(text).writerows(kept)
        write_atomically(path, lambda temporary: temporary.write_bytes(text.getvalue().encode()))
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)

    def write(
        self, key_values: dict[str, Any], key_excluded: Mapping[str, Any], step: int = 0
    ) -> None:
        """Write one row; figures that are not known yet stay empty."""
        self._writer.writerow([key_values.get(column, "") for column in self._columns])
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def run_logger(path: Path, steps: int, columns: Sequence[str] = COLUMNS) -> Logger:
    """Return an SB3 logger that writes into the run's folder ``path``.

    Args:
        path: the run's folder.
        steps: time steps that the run has taken so far.
        columns: the figures in ``progress.csv``, the time steps first.
    """
    tensorboard = TensorBoardOutputFormat(str(path))
    return Logger(
        folder=str(path),
        output_formats=[ProgressFile(path / "progress.csv", steps, columns), tensorboard],
    )
