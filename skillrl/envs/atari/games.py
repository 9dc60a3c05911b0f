"""What is known of Atari's games: where their files are, what they show, what they remember.

ALE calls a game ``"montezuma_revenge"``, its environment ``"MontezumaRevenge"``.
"""

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from skillrl.errors import InvalidValueError, SkillrlError

try:
    import ale_py
    from ale_py import roms
except ImportError as error:
    raise SkillrlError(
        f"Atari's games need ale-py, which cannot be imported ({error}): pip install ale-py"
    ) from error

# For two players only: ALE cannot load them on their own, and would end the process.
_TWO_PLAYERS = frozenset({"combat", "joust", "maze_craze", "warlords"})


@dataclass(frozen=True)
class Game:
    """What is known of a game.

    Attributes:
        status: first and last row of the screen with the score, the time or the lives, in pixels
            of the console; None where they are unknown, and stay visible.
        memory: addresses of the console's memory, 0 … 127, by what is there.
        origin: column and row of the screen where x = y = 0 puts the middle of the figure; y grows
            upwards.
        respawn_frames: after so many frames from a life lost on at most, the next one can act; 0
            where their number is unknown, or differs much.
        items: what the bits of the inventory stand for, from the lowest.
    """

    status: tuple[int, int] | None = None
    memory: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    origin: tuple[int, int] | None = None
    respawn_frames: int = 0
    items: tuple[str, ...] = ()


# Rows: those of the picture that change with the score, the clock and the lives. Addresses: Anand
# et al. 2019 (Unsupervised State Representation Learning in Atari, arXiv 1906.08226) and Ecoffet
# et al. 2019 (arXiv 1901.10995); tests try them on the running games.
KNOWN: Mapping[str, Game] = MappingProxyType(
    {
        "montezuma_revenge": Game(
            status=(6, 19),
            memory=MappingProxyType(
                # y grows upwards; the lives are those that are left after the present one
                {"room": 3, "x": 42, "y": 43, "level": 57, "lives": 58, "inventory": 65}
            ),
            origin=(3, 318),
            respawn_frames=53,
            items=("mallet", "key", "key", "key", "key", "sword", "sword", "torch"),
        ),
        "private_eye": Game(
            status=(8, 26), memory=MappingProxyType({"room": 92, "x": 63, "y": 86})
        ),
        "pitfall": Game(status=(9, 29), memory=MappingProxyType({"room": 1, "x": 97, "y": 105})),
        "freeway": Game(status=(5, 12), memory=MappingProxyType({"y": 14, "score": 103})),
    }
)
"""The games of which something is known."""


def known(game: str) -> Game:
    """What is known of a game: of most, nothing."""
    return KNOWN.get(game, Game())


def available() -> list[str]:
    """The games that can be played alone, by ALE's names."""
    return sorted(set(roms.get_all_rom_ids()) - _TWO_PLAYERS)


def rom_path(game: str) -> Path:
    """Where the file of a game is.

    Raises:
        InvalidValueError: if ALE knows no such game, or it is for two players only.
        SkillrlError: if the file is missing or is another one.

    >>> rom_path("montezuma_revenge").name
    'montezuma_revenge.bin'
    >>> rom_path("MontezumaRevenge")
    Traceback (most recent call last):
    ...
    skillrl.errors.InvalidValueError: There is no game 'MontezumaRevenge' for one player in ALE
    ... Did you mean 'montezuma_revenge'?
    """
    games = available()
    if game not in games:
        near = difflib.get_close_matches(str(game).lower(), games, n=3)
        raise InvalidValueError(
            f"There is no game {game!r} for one player in ALE {ale_py.__version__}. "
            + (
                f"Did you mean {' or '.join(map(repr, near))}?"
                if near
                else "skillrl.envs.atari.games.available() lists them."
            )
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = roms.get_rom_path(game)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise SkillrlError(
            f"The file of the game {game!r} cannot be read: {reason} ale-py brings it along: "
            "install ale-py again, and unset ALE_ROMS_DIR if it is set."
        ) from error
    assert path is not None  # the game is known
    return path
