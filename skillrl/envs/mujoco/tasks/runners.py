"""Half cheetah, hopper, walker and swimmer: run forward, spend little on control."""

from dataclasses import dataclass, field
from typing import Any

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
    uniform,
)


@dataclass(kw_only=True)
class HalfCheetah(Task):
    """Gymnasium's HalfCheetah-v5."""

    xml_file: str = "half_cheetah.xml"
    frame_skip: int = 5
    default_camera_config: dict[str, Any] | None = field(default_factory=lambda: {"distance": 4.0})
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    @override
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        qpos = self.init_qpos + uniform(random, self.reset_noise_scale, self.model.nq)
        qvel = self.init_qvel + self.reset_noise_scale * random.standard_normal(self.model.nv)
        return qpos, qvel

    @override
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        skipped = 1 if self.exclude_current_positions_from_observation else 0
        return np.concatenate((fields["qpos"][:, skipped:], fields["qvel"]), axis=1)

    @override
    def position(self, fields: Fields) -> NDArray[np.float64]:
        return fields["qpos"][:, :1].copy()

    @override
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        x_velocity = (after[:, 0] - before[:, 0]) / self.dt
        forward_reward = self.forward_reward_weight * x_velocity
        ctrl_cost = self.ctrl_cost_weight * row_sums(np.square(actions))
        infos = {
            "x_position": after[:, 0].copy(),
            "x_velocity": x_velocity,
            "reward_forward": forward_reward,
            "reward_ctrl": -ctrl_cost,
        }
        return Outcome(forward_reward - ctrl_cost, never(len(after)), infos)

    @override
    def reset_infos(self, fields: Fields) -> dict[str, Array]:
        return {"x_position": fields["qpos"][:, 0].copy()}


@dataclass(kw_only=True)
class _Planar(Task):
    """Hopper and walker: run forward in a plane and stay upright."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

    def healthy(self, fields: Fields) -> NDArray[np.bool_]:
        """Whether each environment is within its healthy ranges."""
        raise NotImplementedError

    @override
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        qpos = self.init_qpos + uniform(random, self.reset_noise_scale, self.model.nq)
        qvel = self.init_qvel + uniform(random, self.reset_noise_scale, self.model.nv)
        return qpos, qvel

    @override
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        skipped = 1 if self.exclude_current_positions_from_observation else 0
        velocities = np.clip(fields["qvel"], -10, 10)
        return np.concatenate((fields["qpos"][:, skipped:], velocities), axis=1)

    @override
    def position(self, fields: Fields) -> NDArray[np.float64]:
        return fields["qpos"][:, :1].copy()

    @override
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        x_velocity = (after[:, 0] - before[:, 0]) / self.dt
        healthy = self.healthy(fields)
        forward_reward = self.forward_reward_weight * x_velocity
        healthy_reward = healthy * self.healthy_reward
        ctrl_cost = self.ctrl_cost_weight * row_sums(np.square(actions))
        infos = {
            "x_position": after[:, 0].copy(),
            "z_distance_from_origin": fields["qpos"][:, 1] - self.init_qpos[1],
            "x_velocity": x_velocity,
            "reward_forward": forward_reward,
            "reward_ctrl": -ctrl_cost,
            "reward_survive": healthy_reward,
        }
        terminations = ~healthy & bool(self.terminate_when_unhealthy)
        return Outcome(forward_reward + healthy_reward - ctrl_cost, terminations, infos)

    @override
    def reset_infos(self, fields: Fields) -> dict[str, Array]:
        qpos = fields["qpos"]
        return {
            "x_position": qpos[:, 0].copy(),
            "z_distance_from_origin": qpos[:, 1] - self.init_qpos[1],
        }


def _within(values: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return (bounds[0] < values) & (values < bounds[1])


@dataclass(kw_only=True)
class Hopper(_Planar):
    """Gymnasium's Hopper-v5."""

    xml_file: str = "hopper.xml"
    frame_skip: int = 4
    default_camera_config: dict[str, Any] | None = field(
        default_factory=lambda: {
            "trackbodyid": 2,
            "distance": 3.0,
            "lookat": np.array((0.0, 0.0, 1.15)),
            "elevation": -20.0,
        }
    )
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    healthy_z_range: tuple[float, float] = (0.7, float("inf"))
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)

    def healthy(self, fields: Fields) -> NDArray[np.bool_]:
        qpos, qvel = fields["qpos"], fields["qvel"]
        return (
            _within(qpos[:, 2:], self.healthy_state_range).all(axis=1)
            & _within(qvel, self.healthy_state_range).all(axis=1)
            & _within(qpos[:, 1], self.healthy_z_range)
            & _within(qpos[:, 2], self.healthy_angle_range)
        )


@dataclass(kw_only=True)
class Walker2d(_Planar):
    """Gymnasium's Walker2d-v5."""

    xml_file: str = "walker2d_v5.xml"
    frame_skip: int = 4
    default_camera_config: dict[str, Any] | None = field(
        default_factory=lambda: {
            "trackbodyid": 2,
            "distance": 4.0,
            "lookat": np.array((0.0, 0.0, 1.15)),
            "elevation": -20.0,
        }
    )
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)

    def healthy(self, fields: Fields) -> NDArray[np.bool_]:
        qpos = fields["qpos"]
        in_height = _within(qpos[:, 1], self.healthy_z_range)
        return in_height & _within(qpos[:, 2], self.healthy_angle_range)


@dataclass(kw_only=True)
class Swimmer(Task):
    """Gymnasium's Swimmer-v5."""

    xml_file: str = "swimmer.xml"
    frame_skip: int = 4
    default_camera_config: dict[str, Any] | None = None
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-4
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    @override
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        qpos = self.init_qpos + uniform(random, self.reset_noise_scale, self.model.nq)
        qvel = self.init_qvel + uniform(random, self.reset_noise_scale, self.model.nv)
        return qpos, qvel

    @override
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        skipped = 2 if self.exclude_current_positions_from_observation else 0
        return np.concatenate((fields["qpos"][:, skipped:], fields["qvel"]), axis=1)

    @override
    def position(self, fields: Fields) -> NDArray[np.float64]:
        return fields["qpos"][:, :2].copy()

    @override
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        velocity = (after - before) / self.dt
        forward_reward = self.forward_reward_weight * velocity[:, 0]
        ctrl_cost = self.ctrl_cost_weight * row_sums(np.square(actions))
        infos = {
            "x_position": after[:, 0].copy(),
            "y_position": after[:, 1].copy(),
            "distance_from_origin": row_norms(after),
            "x_velocity": velocity[:, 0].copy(),
            "y_velocity": velocity[:, 1].copy(),
            "reward_forward": forward_reward,
            "reward_ctrl": -ctrl_cost,
        }
        return Outcome(forward_reward - ctrl_cost, never(len(after)), infos)

    @override
    def reset_infos(self, fields: Fields) -> dict[str, Array]:
        qpos = fields["qpos"]
        return {
            "x_position": qpos[:, 0].copy(),
            "y_position": qpos[:, 1].copy(),
            "distance_from_origin": row_norms(qpos[:, :2]),
        }
