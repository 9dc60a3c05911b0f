"""Frames of MuJoCo simulations, equal to those of Gymnasium's environments."""

from typing import Any

import mujoco

RENDER_MODES = ("rgb_array", "depth_array", "rgbd_tuple")


class FrameRenderer:
    """stub"""

    def __init__(self, model: mujoco.MjModel, mode: str, width: int, height: int, **kw: Any):
        raise NotImplementedError
