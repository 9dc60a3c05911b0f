"""``skillrl map``: where the skills of a game go."""

from __future__ import annotations

import sys
from pathlib import Path

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


def map_places(run: Path, *, episodes: int = 10, seed: int = 0) -> tuple[Path, list[Places]]:
    """Let every skill play, and draw where it goes.

    Args:
        run: the run's folder, which gets ``map.png`` and ``map.json``.
        episodes: of each skill.
        seed: of the resets.

    Returns:
        The figure, and what each skill did.

    Raises:
        InvalidValueError: if the run has no skill yet, or where agents are is not known of its
            game.
        DamagedFileError: if ``run`` is no run, or a file of it is damaged.
    """
    library = SkillLibrary(run)
    skills = list(library)
    if not skills:
        raise InvalidValueError(f"{run} has no finished skill yet.")
    console, hidden = Console(stderr=True), not sys.stderr.isatty()
    visited: list[Places] = []
    pictures: dict[int, NDArray[np.uint8]] = {}
    for skill in track(skills, "Playing", console=console, transient=True, disable=hidden):
        found, seen = places(skill, episodes=episodes, seed=seed)
        visited.append(found)
        pictures |= {room: picture for room, picture in seen.items() if room not in pictures}
    game = skills[0].make_env().unwrapped
    assert isinstance(game, AtariEnv)  # or there were no places
    write_json(run / "map.json", {"skills": [each.to_json() for each in visited]})
    title = f"{library.recipe.env}, seed {library.seed}: {episodes} episodes a skill"
    path = run / "map.png"
    plot_places(path, visited, pictures, title=title, ground=known(game.game).ground)
    return path, visited


def table(visited: list[Places]) -> str:
    """Return a line on each skill.

    >>> print(table([Places(0, ((1, 77, 235, 4), (2, 5, 160, 1)), ("key",), 100.0)]))
    skill 0: rooms 1, 2; picked up: key; score 100
    """
    return "\n".join(
        f"skill {each.skill}: rooms {', '.join(map(str, each.rooms))}; "
        f"picked up: {', '.join(each.items) or 'nothing'}; score {each.score:g}"
        for each in visited
    )
