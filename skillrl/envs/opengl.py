"""Which OpenGL MuJoCo draws with, so that rendering works without a display."""

import ctypes
import os
import sys

from skillrl.errors import SkillrlError

# Files that the two headless backends load. OSMesa's number differs between distributions.
_EGL = ("libEGL.so.1", "libEGL.so")
_OSMESA = ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")

INSTALL_HINT = (
    "On Debian and Ubuntu: sudo apt install libegl1 libgl1 (or libosmesa6, which is slower). "
    "To choose yourself, set the environment variable MUJOCO_GL to 'egl', 'osmesa' or 'glfw'."
)


def select_opengl_backend() -> str:
    """Choose what MuJoCo draws with, unless ``MUJOCO_GL`` already says so.

    On Linux without a display the choice is EGL, or OSMesa where EGL's library is missing; it is
    written to ``MUJOCO_GL``, which Gymnasium's environments read when they draw for the first
    time. Everywhere else Gymnasium's own choice, GLFW, is left alone. Call it before rendering;
    repeated calls change nothing.

    Returns:
        ``"egl"``, ``"osmesa"``, ``"glfw"``, or the value of ``MUJOCO_GL``.

    Raises:
        SkillrlError: on Linux without a display, if neither library can be loaded.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen:
        return chosen
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform != "linux" or has_display:
        return "glfw"
    for backend, names in (("egl", _EGL), ("osmesa", _OSMESA)):
        if any(_loads(name) for name in names):
            os.environ["MUJOCO_GL"] = backend
            return backend
    raise SkillrlError(
        "There is no display, and no OpenGL library that draws without one: neither "
        f"{_EGL[0]} nor {_OSMESA[0]} can be loaded. {INSTALL_HINT}"
    )


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
