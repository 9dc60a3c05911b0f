"""Skills played in a window, at the pace of their environment."""

from __future__ import annotations

import itertools
import sys
import time
import warnings
from typing import Any

import glfw
import gymnasium as gym
from gymnasium.wrappers import HumanRendering

from skillrl.discovery.library import Skill
from skillrl.errors import InvalidValueError
from skillrl.report.drawing import cannot_draw, make_env, render_modes, steps_per_second


def play(skill: Skill, *, steps: int | None = None, seed: int = 0) -> bool:
    """Open a window and let a skill act in it from an ordinary reset.

    Args:
        skill: the skill; its environment needs the render mode ``"human"`` or ``"rgb_array"``.
        steps: the most steps to take; None for the whole episode.
        seed: of the reset.

    Returns:
        Whether the episode or the steps came to their end; False if the window was closed before.

    Raises:
        InvalidValueError: if there is no display, or the environment cannot be drawn on it.
        gymnasium.error.DependencyNotInstalled: if the environment needs pygame and it is missing.
    """
    _check_display()
    policy, state = skill.policy, None
    if "human" in (render_modes(skill) or ["human"]):
        env = make_env(skill, "human")
    else:
        env = HumanRendering(make_env(skill, "rgb_array"))
    try:
        try:
            observation, _ = env.reset(seed=seed)  # opens the window
        except gym.error.DependencyNotInstalled:
            raise
        except Exception as error:  # of GLFW, pygame, OpenGL, by what is missing
            raise cannot_draw(env, error) from error
        start, rate = time.monotonic(), steps_per_second(env)
        for step in itertools.count(1):
            if _is_closed(env):
                return False
            action, state = policy.predict(observation, state, deterministic=policy.noiseless)
            observation, _, terminated, truncated, _ = env.step(action[()])
            if terminated or truncated or step == steps:
                return True
            time.sleep(max(0.0, start + step / rate - time.monotonic()))
    finally:
        env.close()
    return True


def _check_display() -> None:
    # Asked of GLFW, which MuJoCo brings: without a display its windows would abort the program,
    # and pygame would draw into the void.
    with warnings.catch_warnings(action="ignore"):
        found = glfw.init() and glfw.get_primary_monitor() is not None
    if not found:
        raise InvalidValueError(
            "There is no display to open a window on. Leave out --live: "
            "video files are rendered without a display."
        )


def _is_closed(env: gym.Env[Any, Any]) -> bool:
    """Whether the user closed the window, MuJoCo's or pygame's."""
    viewer = getattr(getattr(env.unwrapped, "mujoco_renderer", None), "viewer", None)
    window = getattr(viewer, "window", None)
    if window is not None:
        return bool(glfw.window_should_close(window))
    # Not imported here: an environment that draws with pygame has done so.
    pygame = sys.modules.get("pygame")
    if pygame is not None and pygame.display.get_init():
        return bool(pygame.event.peek(pygame.QUIT))
    return False
