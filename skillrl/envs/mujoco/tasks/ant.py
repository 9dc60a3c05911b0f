"""The ant: run forward on four legs, stay upright, touch gently."""

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
    row_norms,
    row_sums,
    uniform,
)
from skillrl.errors import InvalidValueError


@dataclass(kw_only=True)
class Ant(Task):
    """Gymnasium's Ant-v5."""

    derived: ClassVar[tuple[str, ...]] = ("xpos", "cfrc_ext")
    external_forces: ClassVar[bool] = True

    xml_file: str = "ant.xml"
    frame_skip: int = 5
    default_camera_config: dict[str, Any] | None = field(default_factory=lambda: {"distance": 4.0})
    forward_reward_weight: float = 1
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_reward: float = 1.0
    main_body: int | str = 1
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    @override
    def attach(self, model: mujoco.MjModel) -> None:
        super().attach(model)
        try:
            self._main_body = model.body(self.main_body).id
        except (KeyError, IndexError) as error:
            names = ", ".join(repr(model.body(i).name) for i in range(model.nbody))
            raise InvalidValueError(
                f"main_body={self.main_body!r} is no body of {self.xml_file!r}: choose a number "
                f"below {model.nbody} or one of {names}."
            ) from error

    @override
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        qpos = self.init_qpos + uniform(random, self.reset_noise_scale, self.model.nq)
        qvel = self.init_qvel + self.reset_noise_scale * random.standard_normal(self.model.nv)
        return qpos, qvel

    @override
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        skipped = 2 if self.exclude_current_positions_from_observation else 0
        parts = [fields["qpos"][:, skipped:], fields["qvel"]]
        if self.include_cfrc_ext_in_observation:
            forces = self._contact_forces(fields)
            parts.append(forces[:, 1:].reshape(len(forces), -1))
        return np.concatenate(parts, axis=1)

    @override
    def position(self, fields: Fields) -> NDArray[np.float64]:
        return fields["xpos"][:, self._main_body, :2].copy()

    @override
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        qpos, qvel = fields["qpos"], fields["qvel"]
        velocity = (after - before) / self.dt
        finite = np.isfinite(qpos).all(axis=1) & np.isfinite(qvel).all(axis=1)
        low, high = self.healthy_z_range
        healthy = finite & (low <= qpos[:, 2]) & (qpos[:, 2] <= high)

        forward_reward = velocity[:, 0] * self.forward_reward_weight
        healthy_reward = healthy * self.healthy_reward
        ctrl_cost = self.ctrl_cost_weight * row_sums(np.square(actions))
        squared_forces = np.square(self._contact_forces(fields))
        contact_cost = self.contact_cost_weight * row_sums(squared_forces)
        rewards = forward_reward + healthy_reward - (ctrl_cost + contact_cost)
        infos = {
            **self.reset_infos(fields),
            "x_velocity": velocity[:, 0].copy(),
            "y_velocity": velocity[:, 1].copy(),
            "reward_forward": forward_reward,
            "reward_ctrl": -ctrl_cost,
            "reward_contact": -contact_cost,
            "reward_survive": healthy_reward,
        }
        return Outcome(rewards, ~healthy & bool(self.terminate_when_unhealthy), infos)

    @override
    def reset_infos(self, fields: Fields) -> dict[str, Array]:
        qpos = fields["qpos"]
        return {
            "x_position": qpos[:, 0].copy(),
            "y_position": qpos[:, 1].copy(),
            "distance_from_origin": row_norms(qpos[:, :2]),
        }

    def _contact_forces(self, fields: Fields) -> NDArray[np.float64]:
        return np.clip(fields["cfrc_ext"], *self.contact_force_range)
