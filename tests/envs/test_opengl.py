"""The choice of an OpenGL backend, on machines with and without a display or libraries."""

import os
import sys

import pytest

from skillrl.envs import opengl
from skillrl.errors import SkillrlError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A headless Linux machine without libraries."""
    monkeypatch.setenv("MUJOCO_GL", "")  # so that the fixture restores what the code sets
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(opengl, "_loads", lambda name: False)
    return monkeypatch


@pytest.mark.parametrize(
    ("libraries", "backend"),
    [
        ({"libEGL.so.1", "libOSMesa.so.8"}, "egl"),
        ({"libOSMesa.so.8"}, "osmesa"),
        ({"libOSMesa.so.6"}, "osmesa"),
    ],
)
def test_headless_linux(machine: pytest.MonkeyPatch, libraries: set[str], backend: str) -> None:
    machine.setattr(opengl, "_loads", lambda name: name in libraries)
    assert opengl.select_opengl_backend() == backend
    assert os.environ["MUJOCO_GL"] == backend
    assert opengl.select_opengl_backend() == backend


def test_without_libraries_the_packages_are_named(machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(SkillrlError, match=r"libEGL.*libOSMesa.*apt install libegl1 libgl1"):
        opengl.select_opengl_backend()
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.parametrize(
    ("variable", "value", "platform"),
    [("DISPLAY", ":0", "linux"), ("WAYLAND_DISPLAY", "wayland-0", "linux"), ("X", "", "darwin")],
)
def test_with_a_display_gymnasium_chooses(
    machine: pytest.MonkeyPatch, variable: str, value: str, platform: str
) -> None:
    machine.setenv(variable, value)
    machine.setattr(sys, "platform", platform)
    assert opengl.select_opengl_backend() == "glfw"
    assert "MUJOCO_GL" not in os.environ


def test_the_users_choice_stands(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("MUJOCO_GL", "glfw")
    assert opengl.select_opengl_backend() == "glfw"
