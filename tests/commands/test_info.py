import json
import os
from importlib import metadata

import pytest

from skillrl.commands import info as command


def test_says_what_a_bug_report_needs() -> None:
    sections = json.loads(command.info(as_json=True))
    assert sections["versions"]["mujoco"] == metadata.version("mujoco")
    assert sections["machine"]["cores"] == os.cpu_count()
    assert sections["machine"]["devices"].startswith("cpu")
    assert not sections["video"]["ffmpeg"].startswith("fails")


def test_rendering_is_tried_and_its_backend_named() -> None:
    rendering = command.describe()["video"]["rendering"]
    assert rendering in {"egl: works", "osmesa: works", "glfw: works"} or (
        "SkillrlError: There is no display, and no OpenGL library" in str(rendering)
    )


def test_table_shows_every_fact() -> None:
    table = command.info()
    for title, section in command.describe().items():
        assert title in table
        for name, value in section.items():
            assert any(line.split() == [name, *str(value).split()] for line in table.splitlines())


def test_what_fails_is_reported_and_the_rest_still_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("no\nffmpeg")

    monkeypatch.setattr(command, "_ffmpeg", broken)
    monkeypatch.setattr(command, "PACKAGES", ("skillrl", "no-such-package"))
    sections = command.describe()
    assert sections["video"]["ffmpeg"] == "fails: RuntimeError: no ffmpeg"
    assert sections["versions"]["no-such-package"] == "not installed"
    assert isinstance(sections["machine"]["torch_threads"], int)
