"""What a task adds to physics: observations, rewards, terminations, infos and resets."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from skillrl.errors import InvalidValueError

Array = NDArray[Any]
Fields = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Outcome:
    """What a step brings beyond the observation, a row for each environment."""

    rewards: NDArray[np.float64]
    terminations: NDArray[np.bool_]
    infos: dict[str, Array]


@dataclass(kw_only=True)
class Task(ABC):
    """One of Gymnasium's tasks, computed for many environments at a time.

    The fields of a subclass are the constructor arguments of Gymnasium's environment, with its
    defaults. All methods are exact: each row equals, to the last bit, what Gymnasium computes for
    that environment alone, which decides between expressions that are equal on paper.
    """

    derived: ClassVar[tuple[str, ...]] = ()
    """Derived fields of MjData that the task reads."""

    external_forces: ClassVar[bool] = False
    """Whether the task reads ``cfrc_ext``."""

    max_episode_steps: ClassVar[int] = 1000

    xml_file: str
    frame_skip: int
    default_camera_config: dict[str, Any] | None

    def __post_init__(self) -> None:
        if not isinstance(self.frame_skip, int) or self.frame_skip < 1:
            raise InvalidValueError(
                f"frame_skip={self.frame_skip!r}: give a whole number of substeps, at least 1."
            )

    def attach(self, model: mujoco.MjModel) -> None:
        """Take from the compiled model what the task needs to know of it."""
        self.model = model
        self.dt = model.opt.timestep * self.frame_skip
        self.init_qpos = model.qpos0.copy()
        self.init_qvel = np.zeros(model.nv)

    @abstractmethod
    def reset_state(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Draw one environment's first ``qpos (nq,)`` and ``qvel (nv,)``.

        Draws from ``random`` in Gymnasium's order.
        """

    @abstractmethod
    def observe(self, fields: Fields) -> NDArray[np.float64]:
        """Observations ``(n, size)`` of the ``n`` environments in ``fields``, in a new array."""

    def position(self, fields: Fields) -> NDArray[np.float64]:
        """What the next step's velocity is measured from, ``(n, dimensions)``, in a new array."""
        return np.empty((len(fields["qpos"]), 0))

    @abstractmethod
    def outcome(
        self,
        fields: Fields,
        actions: Array,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> Outcome:
        """Rewards, terminations and infos of a step, in new arrays.

        Args:
            fields: MjData's fields after the step.
            actions: ``(n, nu)``, in the number type that the user passed.
            before: :meth:`position` before the step.
            after: :meth:`position` after the step.
        """

    def reset_infos(self, fields: Fields) -> dict[str, Array]:
        """Infos of environments that have just been reset, in new arrays."""
        return {}


def uniform(random: np.random.Generator, scale: float, size: int) -> NDArray[np.float64]:
    """Noise from the interval [-scale, scale)."""
    return random.uniform(low=-scale, high=scale, size=size)


def row_sums(values: Array) -> Array:
    """Sum of each row, with the rounding of ``np.sum`` over that row alone.

    NumPy adds pairwise along a contiguous last axis, whether it is the only one or not.
    """
    return np.ascontiguousarray(values).reshape(len(values), -1).sum(axis=-1)


def row_norms(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean length of each row, with the rounding of ``np.linalg.norm`` of that row alone.

    Both take the root of BLAS's dot product; squares that are added up otherwise round otherwise.
    """
    return np.sqrt(np.vecdot(vectors, vectors))


def never(num: int) -> NDArray[np.bool_]:
    """Terminations of a task that does not terminate."""
    return np.zeros(num, np.bool_)
