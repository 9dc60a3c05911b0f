"""Many simulations of one model, stepped on threads."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray
from typing_extensions import override

STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class Physics(ABC):
    """``num_sims`` simulations of one model.

    ``fields`` maps names of MjData's fields to live arrays ``(num_sims, ...)``: what MjData holds
    after the latest :meth:`step` or :meth:`reset` of each simulation. Fields derived from the
    state (``xpos``, ``cvel``, ...) describe, as after ``mj_step``, the state before the last
    substep; after a reset they describe the state itself.
    """

    fields: dict[str, NDArray[np.float64]]

    state_size: int
    """Numbers in one simulation's state."""

    @abstractmethod
    def step(self, controls: NDArray[np.floating], sims: NDArray[np.intp] | None) -> None:
        """Advance by one step of ``frame_skip`` substeps.

        Args:
            controls: ``(num_sims, nu)``; rows of simulations that are not stepped are ignored.
            sims: sorted indices of the simulations to step, or None for all.
        """

    @abstractmethod
    def reset(
        self,
        sims: NDArray[np.intp],
        qpos: NDArray[np.float64],
        qvel: NDArray[np.float64],
    ) -> None:
        """Restart simulations, one row of ``qpos`` and ``qvel`` each, and run ``mj_forward``."""

    @abstractmethod
    def get_state(self) -> NDArray[np.float64]:
        """A copy of everything that MuJoCo needs to continue, ``(num_sims, state_size)``."""

    @abstractmethod
    def set_state(self, sims: NDArray[np.intp], rows: NDArray[np.float64]) -> None:
        """Put simulations into the states of ``rows``, one each.

        Derived fields are stale until the next call.
        """

    @abstractmethod
    def data(self, sim: int) -> mujoco.MjData:
        """One simulation's whole MjData, as it is after its latest call, to render it."""

    @abstractmethod
    def close(self) -> None:
        """Release threads."""


class BatchPhysics(Physics):
    """Simulations in :class:`mujoco.batch.Batch`, which steps them in C threads.

    Args:
        model: the model.
        num_sims: number of simulations.
        frame_skip: substeps in one step.
        num_threads: threads that step, the caller's among them.
        derived: names of the derived fields to offer in ``fields``.
        whole: whether :meth:`data` will be called; keeps one MjData for each simulation.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_sims: int,
        frame_skip: int,
        num_threads: int,
        derived: Sequence[str],
        whole: bool,
    ) -> None:
        self.state_size = mujoco.mj_stateSize(model, STATE)
        self._batch = Batch(model, num_sims, num_threads, persistent=whole)
        self._frame_skip = frame_skip
        self._ctrl = self._batch.bind("ctrl")
        self.fields = {name: self._batch.bind(name) for name in ("qpos", "qvel", *derived)}

    @override
    def step(self, controls: NDArray[np.floating], sims: NDArray[np.intp] | None) -> None:
        self._ctrl[:] = controls
        self._batch.step(sims, nstep=self._frame_skip)

    @override
    def reset(
        self,
        sims: NDArray[np.intp],
        qpos: NDArray[np.float64],
        qvel: NDArray[np.float64],
    ) -> None:
        self._batch.reset(sims, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.fields["qpos"][sims] = qpos
        self.fields["qvel"][sims] = qvel
        self._batch.forward(sims)

    @override
    def get_state(self) -> NDArray[np.float64]:
        return self._batch.state.copy()

    @override
    def set_state(self, sims: NDArray[np.intp], rows: NDArray[np.float64]) -> None:
        self._batch.state[sims] = rows
        if self._batch.persistent:
            # Frames show derived fields. mj_forward may write to the state, so it comes twice.
            self._batch.forward(np.sort(sims))
            self._batch.state[sims] = rows

    @override
    def data(self, sim: int) -> mujoco.MjData:
        return self._batch.get_data(sim)

    @override
    def close(self) -> None:
        pass  # the batch's threads end with it


class ThreadedPhysics(Physics):
    """One MjData for each simulation, for tasks that observe ``cfrc_ext``.

    Gymnasium runs ``mj_rnePostConstraint`` after ``mj_step``, on the contact forces that the
    integrator's last stage left in MjData. A Batch cannot: it has no call between the two, and
    under Runge-Kutta, which Ant and Humanoid use, a sensor that made ``mj_step`` run it would see
    the contact forces of the first stage. Python's share costs three to five per cent of
    the steps of such models.

    Args:
        model: the model.
        num_sims: number of simulations.
        frame_skip: substeps in one step.
        num_threads: threads that step, the caller's among them.
        derived: names of the derived fields to offer in ``fields``.
        whole: whether :meth:`data` will be called.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_sims: int,
        frame_skip: int,
        num_threads: int,
        derived: Sequence[str],
        whole: bool,
    ) -> None:
        self.state_size = mujoco.mj_stateSize(model, STATE)
        self._model = model
        self._frame_skip = frame_skip
        self._whole = whole
        self._data = [mujoco.MjData(model) for _ in range(num_sims)]
        self._ctrl = [data.ctrl for data in self._data]
        # All fields of a simulation are one row, so that one call copies them out of MjData.
        names = ("qpos", "qvel", *derived)
        self._parts = [[getattr(data, name).reshape(-1) for name in names] for data in self._data]
        ends = np.cumsum([part.size for part in self._parts[0]])
        rows = np.zeros((num_sims, ends[-1]))
        self._rows = list(rows)
        self.fields = {
            name: columns.reshape(num_sims, *getattr(self._data[0], name).shape)
            for name, columns in zip(names, np.split(rows, ends[:-1], axis=1), strict=True)
        }
        self._num_helpers = num_threads - 1
        self._pool = ThreadPoolExecutor(self._num_helpers) if self._num_helpers else None

    @override
    def step(self, controls: NDArray[np.floating], sims: NDArray[np.intp] | None) -> None:
        ids = range(len(self._data)) if sims is None else sims.tolist()
        for sim in ids:
            self._ctrl[sim][:] = controls[sim]
        self._step_each(ids)
        for sim in ids:
            np.concatenate(self._parts[sim], out=self._rows[sim])

    def _step_each(self, sims: Sequence[int]) -> None:
        # All threads draw from one iterator, so that none waits long for a slower one. They do
        # nothing but physics: what else Python does between two simulations takes several times
        # as long there, because each simulation empties the processor's caches.
        remaining = iter(sims)

        def work() -> None:
            for sim in remaining:
                data = self._data[sim]
                mujoco.mj_step(self._model, data, self._frame_skip)  # without the GIL
                mujoco.mj_rnePostConstraint(self._model, data)

        helpers = [
            self._pool.submit(work)
            for _ in range(min(self._num_helpers, len(sims) - 1))
            if self._pool is not None
        ]
        try:
            work()
        finally:
            wait(helpers)  # not even Ctrl-C leaves a thread at work behind
        for helper in helpers:
            helper.result()

    @override
    def reset(
        self,
        sims: NDArray[np.intp],
        qpos: NDArray[np.float64],
        qvel: NDArray[np.float64],
    ) -> None:
        # On the calling thread: to wake another takes longer than the few resets of most steps.
        for k, sim in enumerate(sims.tolist()):
            data = self._data[sim]
            mujoco.mj_resetData(self._model, data)
            data.qpos[:] = qpos[k]
            data.qvel[:] = qvel[k]
            mujoco.mj_forward(self._model, data)
            np.concatenate(self._parts[sim], out=self._rows[sim])

    @override
    def get_state(self) -> NDArray[np.float64]:
        rows = np.empty((len(self._data), self.state_size))
        for row, data in zip(rows, self._data, strict=True):
            mujoco.mj_getState(self._model, data, row, STATE)
        return rows

    @override
    def set_state(self, sims: NDArray[np.intp], rows: NDArray[np.float64]) -> None:
        for sim, row in zip(sims.tolist(), rows, strict=True):
            data = self._data[sim]
            mujoco.mj_setState(self._model, data, row, STATE)
            if self._whole:
                # Frames show derived fields. mj_forward may write to the state, so it comes twice.
                mujoco.mj_forward(self._model, data)
                mujoco.mj_setState(self._model, data, row, STATE)

    @override
    def data(self, sim: int) -> mujoco.MjData:
        return self._data[sim]

    @override
    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
