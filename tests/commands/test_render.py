import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skillrl.commands import render as command
from skillrl.commands.render import render
from skillrl.discovery.library import SkillLibrary
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.report.videos import record


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_films_every_skill_and_all_of_them(
    tiny_run: Path, tmp_path: Path, decode: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "videos"
    paths = render(tiny_run, out=out, steps=5)
    assert paths == [
        out / "tiny/skill-000.mp4",
        out / "tiny/skill-001.mp4",
        out / "tiny/all.mp4",
    ]
    assert names(out / "tiny") == ["all.mp4", "skill-000.mp4", "skill-001.mp4"]
    single, grid = decode(paths[1]), decode(paths[2])
    assert single.frames.shape == (6, 300, 256, 3)
    assert grid.frames.shape == (6, 300, 516, 3)
    # The second skill is at the right.
    difference = grid.frames[:, :, 260:].astype(int) - single.frames
    assert np.abs(difference).mean() < 2
    for index in range(2):
        folder = tiny_run / f"skills/{index:03d}"
        assert (folder / "video.mp4").read_bytes() == paths[index].read_bytes()
        assert len(names(folder)) == 4  # nothing unfinished is left
    assert capfd.readouterr() == ("", "")


def test_writes_gifs_as_well(tiny_run: Path, tmp_path: Path) -> None:
    paths = render(tiny_run, out=tmp_path / "videos", steps=2, gif=True)
    assert [path.name for path in paths] == [
        *("skill-000.mp4", "skill-000.gif", "skill-001.mp4", "skill-001.gif"),
        *("all.mp4", "all.gif"),
    ]
    assert paths[1].read_bytes().startswith(b"GIF89a")


def test_a_selection_is_not_taken_for_all(tiny_run: Path, tmp_path: Path) -> None:
    paths = render(tiny_run, out=tmp_path / "videos", skills=(1, 0, 1), steps=1)
    assert [path.name for path in paths] == ["skill-001.mp4", "skill-000.mp4", "selection.mp4"]
    # A grid of one would be the same film again.
    paths = render(tiny_run, out=tmp_path / "videos", skills=(1,), steps=1)
    assert [path.name for path in paths] == ["skill-001.mp4"]


def test_takes_the_folder_of_one_skill(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "videos"
    assert render(tiny_run / "skills/001", out=out, steps=1) == [out / "tiny/skill-001.mp4"]
    monkeypatch.chdir(tiny_run / "skills/001")
    assert render(Path(), out=out, steps=1) == [out / "tiny/skill-001.mp4"]
    with pytest.raises(InvalidValueError, match="is one skill"):
        render(tiny_run / "skills/001", out=out, skills=(0,))


def test_a_library_that_is_read_only_stays_as_it_is(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert len(render(tiny_run, out=tmp_path / "videos", steps=1)) == 3
    assert "video.mp4" not in names(tiny_run / "skills/000")


def test_the_episode_depends_on_the_seed(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def recorded(skill: Any, *, steps: int, seed: int) -> Any:
        seeds.append(seed)
        return record(skill, steps=steps, seed=seed)

    monkeypatch.setattr(command, "record", recorded)
    render(tiny_run, out=tmp_path / "videos", steps=1, seed=7)
    assert seeds == [7, 7]


def test_live_plays_until_the_window_is_closed(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = []

    def play(skill: Any, *, steps: int | None, seed: int) -> bool:
        played.append((skill.index, steps, seed))
        return len(played) != 3

    monkeypatch.setattr(command, "play", play)
    assert render(tiny_run, out=tmp_path / "videos", live=True, steps=9, seed=4) == []
    assert played == [(0, 9, 4), (1, 9, 4)]
    assert render(tiny_run, out=tmp_path / "videos", live=True) == []
    assert played[2:] == [(0, None, 0)]
    assert not (tmp_path / "videos").exists()


def test_mistakes_have_clear_messages(tiny_run: Path, tiny_recipe: Any, tmp_path: Path) -> None:
    out = tmp_path / "videos"
    with pytest.raises(InvalidValueError, match=r"has 2 skill\(s\), numbered from 0. Received 2"):
        render(tiny_run, out=out, skills=(0, 2))
    with pytest.raises(DamagedFileError, match="is not a run"):
        render(tmp_path, out=out)
    SkillLibrary.create(tmp_path / "new", tiny_recipe, seed=0)
    with pytest.raises(InvalidValueError, match="has no finished skill yet"):
        render(tmp_path / "new", out=out)
    (tiny_run / "skills/001/policy.safetensors").write_bytes(b"x")
    with pytest.raises(DamagedFileError, match=r"001/policy\.safetensors is damaged"):
        render(tiny_run, out=out)
    assert not out.exists()
