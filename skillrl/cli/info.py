"""The verb that describes the installation."""

from __future__ import annotations

from dataclasses import dataclass

from skillrl.cli.verb import Parsed


@dataclass(frozen=True)
class Info(Parsed):
    """Describe this installation: what a bug report needs.

    Versions, processor, threads, devices, and whether rendering and video encoding work.

    Examples:
      skillrl info
      skillrl info --json
    """

    json: bool = False
    """Print one JSON object instead of a table."""

    def execute(self) -> None:
        """Print the description."""
        from skillrl.commands.info import info

        print(info(as_json=self.json))
