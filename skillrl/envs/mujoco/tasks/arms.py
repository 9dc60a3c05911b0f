"""Two robot arms: one reaches a point, the other pushes a cylinder to it."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from skillrl.envs.mujoco.tasks.base import (
    Array,
    Fields,
    Outcome,
    Task,
    never,
    row_norms,
    row_sums,
)
from skillrl.errors import InvalidValueError


def _body(model: mujoco.MjModel, name: str, xml_file: str) -> int:
    try:
        return int(model.body(name).id)
    except KeyError as error:
        raise InvalidValueError(
            f"xml_file={xml_file!r} has no body {name!r}, which this task rewards."
        ) from error


@dataclass(kw_only=True)
class Reacher(Task):
    """Gymnasium's Reacher-v5."""

    derived: ClassVar[tuple[str, ...]] = ("xpos",)
    max_episode_steps: ClassVar[int] = 50

    xml_file: str = "reacher.xml"
    frame_skip: int = 2
    default_camera_config: dict[str, Any] | None = field(default_factory=lambda: {"trackbodyid": 0})
    reward_dist_weight: float = 1
    reward_control_weight: float = 1

    @override
    def attach(self, model: mujoco.MjModel) -> None:
        super().attach(model)
        self._fingertip = _body(model, "fingertip", self.xml_file)
        self._target = _body(model, "target", self.xml_file)

    @override
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        qpos = random.uniform(low=-0.1, high=0.1, size=self.model.nq) + self.init_qpos
        while True:
            goal = random.uniform(low=-0.2, high=0.2, size=2)
            if np.linalg.norm(goal) < 0.2:
                break
        qpos[-2:] = goal
        qvel = self.init_qvel + random.uniform(low=-0.005, high=0.005, size=self.model.nv)
        qvel[-2:] = 0
        return qpos, qvel

    @override
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        qpos = fields["qpos"]
        angles = np.ascontiguousarray(qpos[:, :2])  # NumPy may take other code for strided arrays
        return np.concatenate(
            (
                np.cos(angles),
                np.sin(angles),
                qpos[:, 2:],
                fields["qvel"][:, :2],
                self._to_fingertip(fields)[:, :2],
            ),
            axis=1,
        )

    @override
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        reward_dist = -row_norms(self._to_fingertip(fields)) * self.reward_dist_weight
        reward_ctrl = -row_sums(np.square(actions)) * self.reward_control_weight
        infos = {"reward_dist": reward_dist, "reward_ctrl": reward_ctrl}
        return Outcome(reward_dist + reward_ctrl, never(len(reward_dist)), infos)

    def _to_fingertip(self, fields: Fields) -> NDArray[np.float64]:
        return fields["xpos"][:, self._fingertip] - fields["xpos"][:, self._target]


@dataclass(kw_only=True)
class Pusher(Task):
    """Gymnasium's Pusher-v5."""

    derived: ClassVar[tuple[str, ...]] = ("xpos",)
    max_episode_steps: ClassVar[int] = 100

    xml_file: str = "pusher_v5.xml"
    frame_skip: int = 5
    default_camera_config: dict[str, Any] | None = field(
        default_factory=lambda: {"trackbodyid": -1, "distance": 4.0}
    )
    reward_near_weight: float = 0.5
    reward_dist_weight: float = 1
    reward_control_weight: float = 0.1

    @override
    def attach(self, model: mujoco.MjModel) -> None:
        super().attach(model)
        self._tip = _body(model, "tips_arm", self.xml_file)
        self._object = _body(model, "object", self.xml_file)
        self._goal = _body(model, "goal", self.xml_file)

    @override
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        qpos = self.init_qpos.copy()
        while True:
            cylinder = np.concatenate(
                (random.uniform(low=-0.3, high=0, size=1), random.uniform(-0.2, 0.2, size=1))
            )
            if np.linalg.norm(cylinder) > 0.17:
                break
        qpos[-4:-2] = cylinder
        qpos[-2:] = 0
        qvel = self.init_qvel + random.uniform(low=-0.005, high=0.005, size=self.model.nv)
        qvel[-4:] = 0
        return qpos, qvel

    @override
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        xpos = fields["xpos"]
        return np.concatenate(
            (
                fields["qpos"][:, :7],
                fields["qvel"][:, :7],
                xpos[:, self._tip],
                xpos[:, self._object],
                xpos[:, self._goal],
            ),
            axis=1,
        )

    @override
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        xpos = fields["xpos"]
        to_tip = xpos[:, self._object] - xpos[:, self._tip]
        to_goal = xpos[:, self._object] - xpos[:, self._goal]
        reward_near = -row_norms(to_tip) * self.reward_near_weight
        reward_dist = -row_norms(to_goal) * self.reward_dist_weight
        reward_ctrl = -row_sums(np.square(actions)) * self.reward_control_weight
        infos = {
            "reward_dist": reward_dist,
            "reward_ctrl": reward_ctrl,
            "reward_near": reward_near,
        }
        return Outcome(reward_dist + reward_ctrl + reward_near, never(len(to_tip)), infos)
