"""What is said of the games is so in the running games."""

from pathlib import Path

import ale_py
import numpy as np
import pytest

from skillrl.envs.atari import replay
from skillrl.envs.atari.env import hidden_rows
from skillrl.envs.atari.games import KNOWN, available, rom_path
from skillrl.errors import InvalidValueError, SkillrlError

MONTEZUMA_ITEMS = KNOWN["montezuma_revenge"].items

# Addresses whose bytes are shown: score, time and lives.
SHOWN = {
    "montezuma_revenge": [19, 20, 21, 58],
    "private_eye": [67, 69, 72, 73, 74],
    "pitfall": [0, 85, 86, 87, 88, 89],
    "freeway": [103, 104],
}


def running(game: str, frames: int = 200) -> ale_py.ALEInterface:
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(rom_path(game))
    ale.reset_game()
    for _ in range(frames):
        ale.act(0)
    return ale


@pytest.mark.parametrize("game", KNOWN)
def test_the_status_is_in_the_rows_that_are_hidden(game: str) -> None:
    ale = running(game)
    start = ale.cloneSystemState()
    ale.act(0)
    ale.act(0)
    before = ale.getScreenRGB()
    changed = set()
    for address in SHOWN[game]:
        for value in (1, 2, 0x35):
            ale.restoreSystemState(start)
            ale.setRAM(address, value)
            ale.act(0)
            ale.act(0)
            rows = (ale.getScreenRGB() != before).any(axis=(1, 2))
            changed.update(np.flatnonzero(rows).tolist())
    assert (min(changed), max(changed)) == KNOWN[game].status
    hidden = hidden_rows(game, True)
    assert hidden.start * 2.5 <= min(changed)
    assert max(changed) < hidden.stop * 2.5
    assert hidden_rows(game, False) == hidden_rows("pong", True) == slice(0, 0)


def test_montezumas_memory() -> None:
    memory = KNOWN["montezuma_revenge"].memory
    ale = running("montezuma_revenge")
    start = ale.cloneSystemState()
    here = ale.getRAM()
    assert {name: here[address] for name, address in memory.items()} == {
        "room": 1,
        "x": 77,
        "y": 235,
        "level": 0,
        "lives": 5,
        "inventory": 0,
    }
    assert ale.lives() == 6
    # Beside the key, and a few frames later: 100 points, and the first of the keys' bits.
    ale.setRAM(memory["x"], 14)
    ale.setRAM(memory["y"], 196)
    assert sum(ale.act(0) for _ in range(6)) == 100
    assert ale.getRAM()[memory["inventory"]] == 1 << 1
    assert MONTEZUMA_ITEMS[1] == "key"
    # The four keys look alike, and the two swords, and nothing else does.
    pictures = []
    for bit in range(8):
        ale.restoreSystemState(start)
        ale.setRAM(memory["inventory"], 1 << bit)
        ale.act(0)
        ale.act(0)
        pictures.append(ale.getScreenRGB()[28:43].tobytes())
    for one, a in zip(MONTEZUMA_ITEMS, pictures, strict=True):
        for other, b in zip(MONTEZUMA_ITEMS, pictures, strict=True):
            assert (a == b) == (one == other)


def test_where_montezumas_figure_is_seen() -> None:
    game = KNOWN["montezuma_revenge"]
    assert game.origin is not None
    ale = running("montezuma_revenge")
    start = ale.cloneSystemState()
    pictures = []
    for x in (40, 110):  # both on the floor of the first room's highest storey
        ale.restoreSystemState(start)
        ale.setRAM(game.memory["x"], x)
        ale.act(0)
        assert ale.getRAM()[game.memory["x"]] == x
        pictures.append(ale.getScreenRGB())
    # Left of the middle the first picture alone has the figure.
    changed = (pictures[0] != pictures[1]).any(-1)[:, :75]
    middle = [(np.flatnonzero(changed.any(axis))[[0, -1]]).mean() for axis in (0, 1)]
    expected = game.origin[0] + 40, game.origin[1] - int(ale.getRAM()[game.memory["y"]])
    assert np.abs(np.subtract(middle, expected)).max() <= 2


@pytest.mark.parametrize(
    ("game", "action", "name", "first", "last"),
    [
        ("private_eye", 3, "room", 0, 2),  # to the right, through two rooms
        ("pitfall", 4, "room", 196, 113),  # to the left, off the screen twice
        ("pitfall", 3, "x", 16, 129),
        ("freeway", 1, "score", 0, 1),  # up, across the road
    ],
)
def test_other_games_memory(game: str, action: int, name: str, first: int, last: int) -> None:
    settings = {"terminal_on_life_loss": False}
    probe = replay(game, [action] * 100, seed=0, noops=0, **settings).probe[name]
    assert (probe[0], probe[-1]) == (first, last)


def test_games_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(available()) == len(set(available())) > 100
    with pytest.raises(InvalidValueError, match=r"no game 'Pitfal'.*Did you mean 'pitfall'"):
        rom_path("Pitfal")
    with pytest.raises(InvalidValueError, match="no game 'combat' for one player"):
        rom_path("combat")  # which ALE would end the process for
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(SkillrlError, match=r"'pong' cannot be read.*install ale-py again"):
        rom_path("pong")
