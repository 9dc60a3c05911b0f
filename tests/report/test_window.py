"""The window, drawn by pygame without a display."""

import sys
import time
from pathlib import Path

import pytest

from skillrl.discovery.library import load_skill
from skillrl.errors import InvalidValueError
from skillrl.report import window

pygame = pytest.importorskip("pygame")


@pytest.fixture
def _display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_check_display", lambda: None)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.usefixtures("_display")
def test_plays_at_the_environments_pace(tiny_run: Path) -> None:
    skill = load_skill(tiny_run / "skills/000")
    start = time.monotonic()
    assert window.play(skill, steps=11)
    # 25 steps a second: ten pauses of 40 ms.
    assert time.monotonic() - start > 0.4
    assert not pygame.display.get_init()


@pytest.mark.usefixtures("_display")
def test_ends_when_the_window_is_closed(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def close(seconds: float) -> None:
        pygame.event.post(pygame.event.Event(pygame.QUIT))

    monkeypatch.setattr(time, "sleep", close)
    assert not window.play(load_skill(tiny_run / "skills/000"), steps=100)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_without_a_display_the_message_says_what_works(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InvalidValueError, match=r"no display .* Leave out --live"):
        window.play(load_skill(tiny_run / "skills/000"))
