"""Gymnasium's MuJoCo tasks, many environments at a time, equal to Gymnasium's to the last bit."""

import os
from functools import partial

from skillrl.envs.opengl import INSTALL_HINT
from skillrl.errors import SkillrlError

try:
    import mujoco  # noqa: F401
except Exception as error:  # of PyOpenGL or MuJoCo, by what is missing
    if "MUJOCO_GL" not in os.environ:
        raise
    raise SkillrlError(
        f"MuJoCo cannot be imported with MUJOCO_GL={os.environ['MUJOCO_GL']!r} "
        f"({type(error).__name__}: {error}). {INSTALL_HINT}"
    ) from error

from skillrl.envs.mujoco.vector_env import MujocoVectorEnv

__all__ = ["MujocoVectorEnv"]

# What the registered ids build: `vector_entry_point="skillrl.envs.mujoco:half_cheetah"`.
ant = partial(MujocoVectorEnv, "Ant-v5")
half_cheetah = partial(MujocoVectorEnv, "HalfCheetah-v5")
hopper = partial(MujocoVectorEnv, "Hopper-v5")
humanoid = partial(MujocoVectorEnv, "Humanoid-v5")
humanoid_standup = partial(MujocoVectorEnv, "HumanoidStandup-v5")
inverted_double_pendulum = partial(MujocoVectorEnv, "InvertedDoublePendulum-v5")
inverted_pendulum = partial(MujocoVectorEnv, "InvertedPendulum-v5")
pusher = partial(MujocoVectorEnv, "Pusher-v5")
reacher = partial(MujocoVectorEnv, "Reacher-v5")
swimmer = partial(MujocoVectorEnv, "Swimmer-v5")
walker2d = partial(MujocoVectorEnv, "Walker2d-v5")
