"""The tasks, by Gymnasium's ids."""

from skillrl.envs.mujoco.tasks.ant import Ant
from skillrl.envs.mujoco.tasks.arms import Pusher, Reacher
from skillrl.envs.mujoco.tasks.base import Outcome, Task
from skillrl.envs.mujoco.tasks.humanoids import Humanoid, HumanoidStandup
from skillrl.envs.mujoco.tasks.pendulums import InvertedDoublePendulum, InvertedPendulum
from skillrl.envs.mujoco.tasks.runners import HalfCheetah, Hopper, Swimmer, Walker2d

__all__ = ["TASKS", "Outcome", "Task"]

TASKS: dict[str, type[Task]] = {
    "Ant-v5": Ant,
    "HalfCheetah-v5": HalfCheetah,
    "Hopper-v5": Hopper,
    "Humanoid-v5": Humanoid,
    "HumanoidStandup-v5": HumanoidStandup,
    "InvertedDoublePendulum-v5": InvertedDoublePendulum,
    "InvertedPendulum-v5": InvertedPendulum,
    "Pusher-v5": Pusher,
    "Reacher-v5": Reacher,
    "Swimmer-v5": Swimmer,
    "Walker2d-v5": Walker2d,
}
