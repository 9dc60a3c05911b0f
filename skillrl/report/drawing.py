"""Environments made ready to be drawn, without a display or in a window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from skillrl.discovery.library import Skill
from skillrl.envs.make import find_spec
from skillrl.envs.opengl import INSTALL_HINT, select_opengl_backend
from skillrl.errors import InvalidValueError

MUJOCO_SIZE = (480, 360)
"""Width and height in pixels in which MuJoCo's environments are drawn."""

_FALLBACK_FPS = 30.0
# Where the user chose none of these, the camera follows the robot.
_CAMERA_ARGUMENTS = {"camera_id", "camera_name", "default_camera_config"}


def make_env(skill: Skill, render_mode: str) -> gym.Env[Any, Any]:
    """Make the skill's environment for drawing.

    Raises:
        InvalidValueError: if the environment is not registered or has not this render mode.
    """
    check_render_mode(skill.record.env, render_mode)
    env = skill.make_env(render_mode=render_mode)
    return prepared(env, skill.record.env_kwargs, render_mode)


def check_render_mode(env_id: str, render_mode: str) -> None:
    """Refuse an environment that says that it has not this render mode.

    Raises:
        InvalidValueError: then, and if it is not registered.
    """
    modes = _render_modes(env_id)
    if modes is not None and render_mode not in modes:
        raise InvalidValueError(
            f"{env_id} cannot be drawn as {render_mode!r}: its render modes are "
            f"{', '.join(map(repr, modes)) or 'none'}. Its metadata['render_modes'] should name "
            f"{render_mode!r}, and its render() return what Gymnasium asks for in this mode."
        )


def prepared(
    env: gym.Env[Any, Any], env_kwargs: Mapping[str, Any], render_mode: str
) -> gym.Env[Any, Any]:
    """Set up how an environment is drawn, where it is one of MuJoCo's, and return it.

    Args:
        env: before its first picture.
        env_kwargs: what it was made with.
        render_mode: among that.
    """
    renderer = _mujoco_renderer(env)
    if renderer is not None:
        if not _CAMERA_ARGUMENTS & env_kwargs.keys():
            _follow(renderer)
        if render_mode == "rgb_array":
            _draw_quickly(renderer)
    return env


def render_modes(skill: Skill) -> list[str] | None:
    """The render modes that the skill's environment says it has; None if it says nothing."""
    return _render_modes(skill.record.env)


def _render_modes(env_id: str) -> list[str] | None:
    creator: Any = find_spec(env_id).entry_point
    if isinstance(creator, str):
        creator = load_env_creator(creator)
    metadata = getattr(creator, "metadata", None)
    # A wrapper's class has a property in its place.
    return list(metadata.get("render_modes", [])) if isinstance(metadata, dict) else None


def steps_per_second(env: gym.Env[Any, Any]) -> float:
    """How many steps of the environment are one second of its time."""
    fps = env.metadata.get("render_fps")
    if isinstance(fps, (int, float)) and math.isfinite(fps) and fps > 0:
        return float(fps)
    return _FALLBACK_FPS


def cannot_draw(env: gym.Env[Any, Any], error: Exception) -> InvalidValueError:
    """What to raise where an environment fails to draw its first picture."""
    hint = f" {INSTALL_HINT}" if _mujoco_renderer(env) is not None else ""
    return InvalidValueError(
        f"{env.unwrapped} cannot be drawn here ({type(error).__name__}: {error}).{hint}"
    )


def _follow(renderer: Any) -> None:
    """Look through the model's own camera that follows the robot, if it has one.

    Gymnasium's standing camera soon sees nothing of a robot that runs.
    """
    model = renderer.model
    for camera in map(model.camera, range(model.ncam)):
        if camera.name == "track":
            renderer.camera_id = camera.id


def _draw_quickly(renderer: Any) -> None:
    """Let MuJoCo draw without a display, and fast where a processor does the drawing.

    It reads these settings with the first picture; they change nothing in the simulation.
    """
    select_opengl_backend()
    renderer.width, renderer.height = MUJOCO_SIZE
    model = renderer.model
    # Films are smaller than these pictures: shrinking them smooths the edges for less.
    model.vis.quality.offsamples = 0
    # Each of these makes MuJoCo draw the whole scene once more.
    model.light_castshadow[:] = False
    model.mat_reflectance[:] = 0


def _mujoco_renderer(env: gym.Env[Any, Any]) -> Any:
    return getattr(env.unwrapped, "mujoco_renderer", None)
