"""Frames of MuJoCo simulations, equal to those of Gymnasium's environments."""

from typing import Any

import mujoco
import numpy as np

from skillrl.envs.opengl import INSTALL_HINT, select_opengl_backend
from skillrl.errors import InvalidValueError, SkillrlError

RENDER_MODES = ("rgb_array", "depth_array", "rgbd_tuple")


class FrameRenderer:
    """Draws many simulations of one model in one OpenGL context.

    Args:
        model: the model.
        mode: one of :data:`RENDER_MODES`.
        width: width of a frame in pixels.
        height: height of a frame in pixels.
        camera_id: number of the model's camera to look through, -1 for the free camera.
        camera_name: its name instead; without either, the camera is free.
        camera_config: attributes of ``mujoco.MjvCamera`` to set.
        max_geom: the most geoms in a frame.
        visual_options: flags of ``mujoco.MjvOption`` to set.

    Raises:
        InvalidValueError: if the camera does not exist, or an attribute of it.
        SkillrlError: if no OpenGL library can be loaded.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        mode: str,
        width: int,
        height: int,
        *,
        camera_id: int | None,
        camera_name: str | None,
        camera_config: dict[str, Any] | None,
        max_geom: int,
        visual_options: dict[int, bool] | None,
    ) -> None:
        _check_camera(model, camera_id, camera_name, camera_config or {})
        select_opengl_backend()
        # It reads MUJOCO_GL, and needs GLFW to be imported.
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

        self._mode = mode
        # Until the first frame it has no context and reads no data.
        self._renderer = MujocoRenderer(
            model,
            None,
            camera_config,
            width,
            height,
            max_geom,
            camera_id,
            camera_name,
            visual_options,
        )
        self._viewer: Any = None
        self._lookat_is_set = "lookat" in (camera_config or {})
        self._lookat: dict[int, np.ndarray] = {}

    def render(self, sim: int, data: mujoco.MjData) -> Any:
        """A frame of simulation number ``sim``, which is in the state of ``data``.

        Returns:
            By mode, an array ``(height, width, 3)`` of type uint8, ``(height, width)`` of type
            float32, or a tuple of both.

        Raises:
            SkillrlError: if OpenGL cannot draw here.
        """
        if self._viewer is None:
            self._renderer.data = data
            try:
                frame = self._renderer.render(self._mode)
            except Exception as error:  # of ctypes, PyOpenGL, GLFW or MuJoCo, by what is missing
                raise SkillrlError(
                    f"OpenGL cannot draw here ({type(error).__name__}: {error}). {INSTALL_HINT}"
                ) from error
            self._viewer = self._renderer.viewer
            self._lookat[sim] = self._viewer.cam.lookat.copy()
            return frame
        self._viewer.data = data
        if not self._lookat_is_set:
            # As in Gymnasium, each camera looks forever at the middle of its first frame.
            if sim not in self._lookat:
                self._lookat[sim] = np.array([np.median(data.geom_xpos[:, i]) for i in range(3)])
            self._viewer.cam.lookat[:] = self._lookat[sim]
        with self._viewer.opengl_context.as_current():
            return self._renderer.render(self._mode)

    def close(self) -> None:
        """Release the OpenGL context."""
        self._renderer.close()


def _check_camera(
    model: mujoco.MjModel,
    camera_id: int | None,
    camera_name: str | None,
    camera_config: dict[str, Any],
) -> None:
    if camera_id is not None and camera_name is not None:
        raise InvalidValueError(
            f"camera_id={camera_id!r} and camera_name={camera_name!r}: give only one of them."
        )
    names = [model.camera(i).name for i in range(model.ncam)]
    if camera_name is not None and camera_name not in names:
        raise InvalidValueError(f"camera_name={camera_name!r}: the model's cameras are {names}.")
    if camera_id is not None and not -1 <= camera_id < model.ncam:
        raise InvalidValueError(
            f"camera_id={camera_id!r}: the model has {model.ncam} cameras, {names}; -1 is the "
            "free camera."
        )
    camera = mujoco.MjvCamera()
    for name in camera_config:
        if not hasattr(camera, name):
            known = [each for each in dir(camera) if not each.startswith("_")]
            raise InvalidValueError(
                f"default_camera_config sets {name!r}; a MuJoCo camera has {', '.join(known)}."
            )
