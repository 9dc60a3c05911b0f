"""``skillrl map``: where the skills of a game go."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.places import Places, places
from skillrl.envs.atari import AtariEnv
from skillrl.envs.atari.games import known
from skillrl.errors import InvalidValueError
from skillrl.files import write_json
from skillrl.report.maps import plot_places


def map_places(
    run: Path, *, episodes: int = 10, seed: int | None = None
) -> tuple[Path, list[Places]]:
    """Let the untrained policy and every skill play, and draw where they go.

    Args:
        run: the run's folder, which gets ``map.png`` and ``map.json``.
        episodes: of each of them.
        seed: see ``places``.

    Returns:
        The figure, and what each of them did, the untrained policy first.

    Raises:
        InvalidValueError: if the run has no skill yet, or where agents are is not known of its
            game.
        DamagedFileError: if ``run`` is no run, or a file of it is damaged.
    """
    library = SkillLibrary(run)
    if len(library) == 0:
        raise InvalidValueError(f"{run} has no finished skill yet.")
    console, hidden = Console(stderr=True), not sys.stderr.isatty()
    visited: list[Places] = []
    pictures: dict[int, NDArray[np.uint8]] = {}
    players = [None, *range(len(library))]
    for player in track(players, "Playing", console=console, transient=True, disable=hidden):
        found, seen = places(library, player, episodes=episodes, seed=seed)
        visited.append(found)
        pictures |= {room: picture for room, picture in seen.items() if room not in pictures}
    game = library[0].make_env().unwrapped
    assert isinstance(game, AtariEnv)  # or there were no places
    description = {
        "env": library.recipe.env,
        "seed": library.seed,
        "episodes": episodes,
        "played": [each.to_json() for each in visited],
    }
    write_json(run / "map.json", description)
    title = f"{library.recipe.env}, seed {library.seed}: {episodes} episodes each"
    path = run / "map.png"
    plot_places(path, visited, pictures, title=title, origin=known(game.game).origin)
    return path, visited


def table(visited: list[Places]) -> str:
    """Return a line on each skill.

    >>> where = (1, 77, 235, 4), (2, 5, 160, 1)
    >>> print(table([Places(0, 10, where, rooms={1: 10, 2: 1}, items={"key": 9}, score=90.0)]))
    skill 0, in 10 episodes: room 1 (10), room 2 (1); picked up: key (9); score 90
    """
    return "\n".join(
        f"{each.player}, in {each.episodes} episodes: {_counted(each.rooms, 'room ')}; "
        f"picked up: {_counted(each.items) or 'nothing'}; score {each.score:g}"
        for each in visited
    )


def _counted(episodes: Mapping[Any, int], kind: str = "") -> str:
    return ", ".join(f"{kind}{name} ({count})" for name, count in episodes.items())
