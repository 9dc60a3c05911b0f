"""Two tasks of one body: the humanoid that runs, and the one that gets up."""

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
    uniform,
)


@dataclass(kw_only=True)
class _Humanoid(Task):
    """What the humanoid observes and how it starts."""

    derived: ClassVar[tuple[str, ...]] = (
        "ctrl",
        "cinert",
        "cvel",
        "qfrc_actuator",
        "cfrc_ext",
        "ten_length",
        "ten_velocity",
    )
    external_forces: ClassVar[bool] = True

    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    @override
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        qpos = self.init_qpos + uniform(random, self.reset_noise_scale, self.model.nq)
        qvel = self.init_qvel + uniform(random, self.reset_noise_scale, self.model.nv)
        return qpos, qvel

    @override
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        num = len(fields["qpos"])
        skipped = 2 if self.exclude_current_positions_from_observation else 0
        parts = [fields["qpos"][:, skipped:], fields["qvel"]]
        # Without body 0, the world, and without the root's six degrees of freedom.
        if self.include_cinert_in_observation:
            parts.append(fields["cinert"][:, 1:].reshape(num, -1))
        if self.include_cvel_in_observation:
            parts.append(fields["cvel"][:, 1:].reshape(num, -1))
        if self.include_qfrc_actuator_in_observation:
            parts.append(fields["qfrc_actuator"][:, 6:])
        if self.include_cfrc_ext_in_observation:
            parts.append(fields["cfrc_ext"][:, 1:].reshape(num, -1))
        return np.concatenate(parts, axis=1)

    def _costs(self, fields: Fields) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Cost of control, and sum of squared external forces, ``(n,)`` each."""
        # Of MjData's controls, in double precision; other tasks square the actions as given.
        ctrl_cost = self.ctrl_cost_weight * row_sums(np.square(fields["ctrl"]))
        return ctrl_cost, row_sums(np.square(fields["cfrc_ext"]))


@dataclass(kw_only=True)
class Humanoid(_Humanoid):
    """Gymnasium's Humanoid-v5."""

    derived: ClassVar[tuple[str, ...]] = (*_Humanoid.derived, "xipos")

    xml_file: str = "humanoid.xml"
    frame_skip: int = 5
    default_camera_config: dict[str, Any] | None = field(
        default_factory=lambda: {
            "trackbodyid": 1,
            "distance": 4.0,
            "lookat": np.array((0.0, 0.0, 2.0)),
            "elevation": -20.0,
        }
    )
    forward_reward_weight: float = 1.25
    contact_cost_weight: float = 5e-7
    contact_cost_range: tuple[float, float] = (-np.inf, 10.0)
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (1.0, 2.0)

    @override
    def attach(self, model: mujoco.MjModel) -> None:
        super().attach(model)
        self._total_mass = model.body_mass.sum()

    @override
    def position(self, fields: Fields) -> NDArray[np.float64]:
        # The centre of mass. einsum adds the bodies in the same order with the environments' axis
        # in front as without it.
        moments = np.einsum("b,nbj->nj", self.model.body_mass, fields["xipos"])
        return (moments / self._total_mass)[:, :2]

    @override
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        velocity = (after - before) / self.dt
        height = fields["qpos"][:, 2]
        low, high = self.healthy_z_range
        healthy = (low < height) & (height < high)

        forward_reward = self.forward_reward_weight * velocity[:, 0]
        healthy_reward = healthy * self.healthy_reward
        ctrl_cost, squared_forces = self._costs(fields)
        contact_cost = np.clip(self.contact_cost_weight * squared_forces, *self.contact_cost_range)
        rewards = forward_reward + healthy_reward - (ctrl_cost + contact_cost)
        infos = {
            **self.reset_infos(fields),
            "x_velocity": velocity[:, 0].copy(),
            "y_velocity": velocity[:, 1].copy(),
            "reward_survive": healthy_reward,
            "reward_forward": forward_reward,
            "reward_ctrl": -ctrl_cost,
            "reward_contact": -contact_cost,
        }
        return Outcome(rewards, ~healthy & bool(self.terminate_when_unhealthy), infos)

    @override
    def reset_infos(self, fields: Fields) -> dict[str, Array]:
        qpos = fields["qpos"]
        return {
            "x_position": qpos[:, 0].copy(),
            "y_position": qpos[:, 1].copy(),
            "tendon_length": fields["ten_length"].copy(),
            "tendon_velocity": fields["ten_velocity"].copy(),
            "distance_from_origin": row_norms(qpos[:, :2]),
        }


@dataclass(kw_only=True)
class HumanoidStandup(_Humanoid):
    """Gymnasium's HumanoidStandup-v5."""

    xml_file: str = "humanoidstandup.xml"
    frame_skip: int = 5
    default_camera_config: dict[str, Any] | None = field(
        default_factory=lambda: {
            "trackbodyid": 1,
            "distance": 4.0,
            "lookat": np.array((0.0, 0.0, 0.8925)),
            "elevation": -20.0,
        }
    )
    uph_cost_weight: float = 1  # taken and not used, as in Gymnasium
    impact_cost_weight: float = 5e-7
    impact_cost_range: tuple[float, float] = (-np.inf, 10.0)

    @override
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        height_reward = fields["qpos"][:, 2] / self.model.opt.timestep
        ctrl_cost, squared_forces = self._costs(fields)
        impact_cost = np.clip(self.impact_cost_weight * squared_forces, *self.impact_cost_range)
        rewards = height_reward - ctrl_cost - impact_cost + 1
        infos = {
            **self.reset_infos(fields),
            "reward_linup": height_reward,
            "reward_quadctrl": -ctrl_cost,
            "reward_impact": -impact_cost,
        }
        return Outcome(rewards, never(len(rewards)), infos)

    @override
    def reset_infos(self, fields: Fields) -> dict[str, Array]:
        qpos = fields["qpos"]
        return {
            "x_position": qpos[:, 0].copy(),
            "y_position": qpos[:, 1].copy(),
            "z_distance_from_origin": qpos[:, 2] - self.init_qpos[2],
            "tendon_length": fields["ten_length"].copy(),
            "tendon_velocity": fields["ten_velocity"].copy(),
        }
