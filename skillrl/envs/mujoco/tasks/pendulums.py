"""Balance one pole on a cart, or two."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from skillrl.envs.mujoco.tasks.base import Array, Fields, Outcome, Task, uniform


@dataclass(kw_only=True)
class InvertedPendulum(Task):
    """Gymnasium's InvertedPendulum-v5."""

    xml_file: str = "inverted_pendulum.xml"
    frame_skip: int = 2
    default_camera_config: dict[str, Any] | None = field(
        default_factory=lambda: {"trackbodyid": 0, "distance": 2.04}
    )
    reset_noise_scale: float = 0.01

    @override
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        qpos = self.init_qpos + uniform(random, self.reset_noise_scale, self.model.nq)
        qvel = self.init_qvel + uniform(random, self.reset_noise_scale, self.model.nv)
        return qpos, qvel

    @override
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        return np.concatenate((fields["qpos"], fields["qvel"]), axis=1)

    @override
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        qpos, qvel = fields["qpos"], fields["qvel"]
        finite = np.isfinite(qpos).all(axis=1) & np.isfinite(qvel).all(axis=1)
        terminations = ~finite | (np.abs(qpos[:, 1]) > 0.2)
        survived = (~terminations).astype(np.int64)
        return Outcome(survived.astype(np.float64), terminations, {"reward_survive": survived})


@dataclass(kw_only=True)
class InvertedDoublePendulum(Task):
    """Gymnasium's InvertedDoublePendulum-v5."""

    derived: ClassVar[tuple[str, ...]] = ("site_xpos", "qfrc_constraint")

    xml_file: str = "inverted_double_pendulum.xml"
    frame_skip: int = 5
    default_camera_config: dict[str, Any] | None = None
    healthy_reward: float = 10.0
    reset_noise_scale: float = 0.1

    @override
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        qpos = self.init_qpos + uniform(random, self.reset_noise_scale, self.model.nq)
        qvel = self.init_qvel + random.standard_normal(self.model.nv) * self.reset_noise_scale
        return qpos, qvel

    @override
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        qpos = fields["qpos"]
        angles = np.ascontiguousarray(qpos[:, 1:])  # NumPy may take other code for strided arrays
        return np.concatenate(
            (
                qpos[:, :1],
                np.sin(angles),
                np.cos(angles),
                np.clip(fields["qvel"], -10, 10),
                np.clip(fields["qfrc_constraint"][:, :1], -10, 10),
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
        tip = fields["site_xpos"][:, 0]
        x, y = tip[:, 0], tip[:, 2]
        v1, v2 = fields["qvel"][:, 1], fields["qvel"][:, 2]
        terminations = y <= 1
        dist_penalty = 0.01 * _scalar_squares(x) + _scalar_squares(y - 2)
        vel_penalty = 1e-3 * _scalar_squares(v1) + 5e-3 * _scalar_squares(v2)
        alive_bonus = self.healthy_reward * (~terminations).astype(np.int64)
        infos = {
            "reward_survive": alive_bonus,
            "distance_penalty": -dist_penalty,
            "velocity_penalty": -vel_penalty,
        }
        return Outcome(alive_bonus - dist_penalty - vel_penalty, terminations, infos)


def _scalar_squares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squares with the rounding of ``**`` on NumPy's scalars.

    That is the C library's ``pow``, whose last bit differs now and then from the product, which
    NumPy takes for arrays.
    """
    return np.array([value**2 for value in values])
