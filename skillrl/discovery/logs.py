"""A run's figures over time: ``progress.csv`` and TensorBoard events."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

COLUMNS = (
    "time/total_timesteps",
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
    """Appends rows to a CSV file, so that a resumed run goes on in the file that it has."""

    def __init__(self, path: Path) -> None:
        new = not path.exists()
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        if new:
            self._writer.writerow(COLUMNS)

    def write(
        self, key_values: dict[str, Any], key_excluded: Mapping[str, Any], step: int = 0
    ) -> None:
        """Write one row; figures that are not known yet stay empty."""
        self._writer.writerow([key_values.get(column, "") for column in COLUMNS])
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def run_logger(path: Path) -> Logger:
    """Return an SB3 logger that writes into the run's folder ``path``."""
    return Logger(
        folder=str(path),
        output_formats=[ProgressFile(path / "progress.csv"), TensorBoardOutputFormat(str(path))],
    )
