"""Gymnasium's MuJoCo tasks as one vector environment on batched physics."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from mujoco.batch import SimulationError
from numpy.typing import NDArray

from skillrl.envs import arguments
from skillrl.envs.mujoco.model import load_model
from skillrl.envs.mujoco.physics import BatchPhysics, Physics, ThreadedPhysics
from skillrl.envs.mujoco.random_state import NUM_WORDS, generator_from_row, generator_row
from skillrl.envs.mujoco.rendering import RENDER_MODES, FrameRenderer
from skillrl.envs.mujoco.tasks import TASKS, Task
from skillrl.errors import InvalidValueError, SkillrlError

Array = NDArray[Any]
Infos = dict[str, Any]


class MujocoVectorEnv(gym.vector.VectorEnv[Array, Array, Array]):
    """``num_envs`` copies of one of Gymnasium's MuJoCo tasks, stepped together in threads.

    Observations, rewards, terminations, truncations and infos equal those of
    ``gymnasium.vector.SyncVectorEnv`` over Gymnasium's environment of that id, to the last bit,
    whatever the number of threads. All returned arrays are new: a later step does not change them.

    Args:
        task: Gymnasium's id of the task, such as ``"HalfCheetah-v5"``.
        num_envs: number of environments.
        num_threads: threads that step, or None for one on each usable CPU.
        max_episode_steps: steps after which an episode is truncated; None for the task's own
            limit, -1 for no limit.
        autoreset_mode: when an environment whose episode has ended is reset: in the next step
            (whose action it ignores), in the same step (the final observation is then in
            ``infos["final_obs"]``), or by the user, with
            ``reset(options={"reset_mask": finished})``, before the next step.
        render_mode: ``"rgb_array"``, ``"depth_array"``, ``"rgbd_tuple"`` or None.
        width: width of a frame in pixels.
        height: height of a frame in pixels.
        camera_id: number of the model's camera to look through.
        camera_name: its name instead. Without either, the camera is free, and placed by
            ``default_camera_config``.
        max_geom: the most geoms in a frame.
        visual_options: flags of ``mujoco.MjvOption`` to set in frames.
        **task_arguments: the other constructor arguments of Gymnasium's environment:
            ``xml_file``, ``frame_skip``, ``default_camera_config``, weights, healthy ranges,
            ``reset_noise_scale``, ``exclude_current_positions_from_observation``, ...

    Attributes:
        task: the :class:`~skillrl.envs.mujoco.tasks.Task`, with the task's arguments.
        model: the compiled ``mujoco.MjModel``.
        max_episode_steps: steps after which an episode is truncated; infinite for no limit.

    Raises:
        InvalidValueError: if an argument is unknown or cannot be used.
        SkillrlError: if frames are asked for and no OpenGL library can be loaded.

    Example:
        >>> envs = MujocoVectorEnv("HalfCheetah-v5", num_envs=3, num_threads=1)
        >>> observations, infos = envs.reset(seed=0)
        >>> observations.shape
        (3, 17)
        >>> observations, rewards, terminations, truncations, infos = envs.step(np.zeros((3, 6)))
        >>> rewards.shape, sorted(infos)[:2]
        ((3,), ['_reward_ctrl', '_reward_forward'])
        >>> envs.close()
    """

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        *,
        num_threads: int | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        camera_id: int | None = None,
        camera_name: str | None = None,
        max_geom: int = 1000,
        visual_options: dict[int, bool] | None = None,
        **task_arguments: Any,
    ) -> None:
        self.task = _make_task(task, task_arguments)
        self.num_envs = arguments.positive_int("num_envs", num_envs)
        self.autoreset_mode = arguments.autoreset_mode(autoreset_mode)
        self.max_episode_steps = arguments.episode_limit(
            max_episode_steps, self.task.max_episode_steps
        )
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise InvalidValueError(
                f"render_mode={render_mode!r}: choose from {', '.join(map(repr, RENDER_MODES))} "
                "or None. For a window, make a single environment: "
                f"gymnasium.make({task!r}, render_mode='human')."
            )
        self.render_mode = render_mode

        self.model = load_model(self.task.xml_file, width, height)
        self.task.attach(self.model)
        physics = ThreadedPhysics if self.task.external_forces else BatchPhysics
        self._physics: Physics = physics(
            self.model,
            self.num_envs,
            self.task.frame_skip,
            min(arguments.num_threads(num_threads), self.num_envs),
            self.task.derived,
            whole=render_mode is not None,
        )
        self._renderer = (
            None
            if render_mode is None
            else FrameRenderer(
                self.model,
                render_mode,
                width,
                height,
                camera_id=camera_id,
                camera_name=camera_name,
                camera_config=self.task.default_camera_config,
                max_geom=max_geom,
                visual_options=visual_options,
            )
        )

        self.metadata = {
            "render_modes": list(RENDER_MODES),
            "render_fps": int(np.round(1.0 / self.task.dt)),
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = gym.spaces.Box(
            -np.inf, np.inf, self.task.observe(self._physics.fields).shape[1:], np.float64
        )
        low, high = self.model.actuator_ctrlrange.astype(np.float32).T
        self.single_action_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

        self._all = np.arange(self.num_envs)
        self._random: list[np.random.Generator | None] = [None] * self.num_envs
        self._observations: NDArray[np.float64] | None = None  # until the first reset
        self._position = self.task.position(self._physics.fields)
        self._elapsed_steps = np.zeros(self.num_envs, np.int64)
        self._finished = np.zeros(self.num_envs, np.bool_)

    # --- stepping

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, Infos]:
        """Start new episodes.

        Args:
            seed: environment ``i`` draws from a new generator of ``seed + i``, or of ``seed[i]``;
                with None it goes on with its generator (at first, one from the system's entropy).
            options: ``{"reset_mask": mask}``, ``mask`` of shape ``(num_envs,)`` and of type bool,
                resets those environments only.

        Returns:
            Observations ``(num_envs, size)``, of the environments that were not reset their
            latest ones, and infos.

        Raises:
            InvalidValueError: if the seeds or the mask do not fit.
        """
        sims = self._to_reset(options)
        self._seed(seed, sims)
        observations, infos = self._reset(sims)
        if self._observations is None:
            self._observations = observations
        else:
            self._observations[sims] = observations
        return self._observations.copy(), self._batched(infos, sims)

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, Infos]:
        """Step every environment.

        Args:
            actions: ``(num_envs, action size)``; what exceeds the action space acts like its
                bound, but costs what it costs.

        Returns:
            Observations ``(num_envs, size)``; rewards, terminations and truncations
            ``(num_envs,)``; infos.

        Raises:
            InvalidValueError: if the actions' shape is wrong, or one is not finite.
            SkillrlError: if MuJoCo reports an error, such as a lack of memory. (An unstable
                simulation is none: MuJoCo restarts it and warns, as in Gymnasium.)
            gymnasium.error.ResetNeeded: before the first reset, and with autoreset disabled if an
                environment whose episode has ended was not reset.
        """
        actions = self._check(actions)
        resets: Array | None = None
        if self._finished.any():
            if self.autoreset_mode is AutoresetMode.DISABLED:
                raise ResetNeeded(
                    f"The episodes of environments {np.flatnonzero(self._finished).tolist()} have "
                    "ended and autoreset is disabled: call "
                    "reset(options={'reset_mask': terminations | truncations}) before step()."
                )
            resets = np.flatnonzero(self._finished)
        with _errors_told():
            self._physics.step(actions, None if resets is None else np.flatnonzero(~self._finished))

        fields = self._physics.fields
        after = self.task.position(fields)
        outcome = self.task.outcome(fields, actions, self._position, after)
        rewards, terminations, infos = outcome.rewards, outcome.terminations, outcome.infos
        self._position = after
        self._observations = self.task.observe(fields)
        self._elapsed_steps += 1
        truncations = self._elapsed_steps >= self.max_episode_steps

        if resets is not None:  # the episodes that ended in the step before: NEXT_STEP
            rewards[resets] = 0.0
            terminations[resets] = False
            truncations[resets] = False
            infos = self._with_resets(infos, resets)
        else:
            finished = terminations | truncations
            if self.autoreset_mode is AutoresetMode.SAME_STEP and finished.any():
                resets = np.flatnonzero(finished)
                final = self._final(infos, resets)
                infos = {**final, **self._with_resets(infos, resets)}
            else:
                infos = self._batched(infos, None)
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._finished = terminations | truncations
        return self._observations.copy(), rewards, terminations, truncations, infos

    def _check(self, actions: Array) -> Array:
        if self._observations is None:
            raise ResetNeeded("Call reset() before the first step().")
        actions = np.asarray(actions)
        if actions.dtype.kind not in "fiu":
            raise InvalidValueError(f"actions of type {actions.dtype} are no numbers.")
        if actions.shape != self.action_space.shape:
            raise InvalidValueError(
                f"actions have the shape {actions.shape}; {self.num_envs} environments with "
                f"{self.single_action_space} need {self.action_space.shape}."
            )
        if not np.isfinite(actions).all():
            rows = np.flatnonzero(~np.isfinite(actions).all(axis=1))
            raise InvalidValueError(
                f"The actions of environments {rows.tolist()} are not finite; the first of them "
                f"is {actions[rows[0]].tolist()}. Has the policy diverged?"
            )
        return actions

    def _reset(self, sims: NDArray[np.intp]) -> tuple[Array, Infos]:
        """Reset some environments; their observations and infos, a row for each."""
        states = [self.task.reset_state(self._generator(sim)) for sim in sims.tolist()]
        qpos, qvel = (np.stack(rows) for rows in zip(*states, strict=True))
        with _errors_told():
            self._physics.reset(sims, qpos, qvel)
        fields = {name: field[sims] for name, field in self._physics.fields.items()}
        self._position[sims] = self.task.position(fields)
        self._elapsed_steps[sims] = 0
        self._finished[sims] = False
        return self.task.observe(fields), self.task.reset_infos(fields)

    def _with_resets(self, infos: Infos, sims: NDArray[np.intp]) -> Infos:
        """Reset environments within a step; the step's infos with theirs instead of the old."""
        assert self._observations is not None
        self._observations[sims], reset_infos = self._reset(sims)
        kept = np.ones(self.num_envs, np.bool_)
        kept[sims] = False
        batched: Infos = {}
        if kept.any():
            for name, values in infos.items():
                values[sims] = 0
                batched[name] = values
                batched[f"_{name}"] = kept.copy()
        for name, rows in reset_infos.items():
            if name not in batched:
                batched.update(self._batched({name: rows}, sims))
            else:
                batched[name][sims] = rows
                batched[f"_{name}"][sims] = True
        return batched

    def _final(self, infos: Infos, sims: NDArray[np.intp]) -> Infos:
        """What SAME_STEP tells of the episodes that end in this step."""
        assert self._observations is not None
        observations = np.full(self.num_envs, None, dtype=object)
        for sim in sims.tolist():
            observations[sim] = self._observations[sim].copy()
        ended = np.zeros(self.num_envs, np.bool_)
        ended[sims] = True
        return {
            "final_obs": observations,
            "_final_obs": ended,
            "final_info": self._batched({k: v[sims] for k, v in infos.items()}, sims),
            "_final_info": ended.copy(),
        }

    def _batched(self, infos: Infos, sims: NDArray[np.intp] | None) -> Infos:
        """Gymnasium's form of infos: an array and a mask for each key.

        ``infos`` has a row for each of ``sims``; None stands for all environments.
        """
        batched: Infos = {}
        for name, rows in infos.items():
            if sims is None:
                batched[name] = rows
                batched[f"_{name}"] = np.ones(self.num_envs, np.bool_)
            else:
                batched[name] = np.zeros((self.num_envs, *rows.shape[1:]), rows.dtype)
                batched[name][sims] = rows
                batched[f"_{name}"] = np.zeros(self.num_envs, np.bool_)
                batched[f"_{name}"][sims] = True
        return batched

    def _to_reset(self, options: Mapping[str, Any] | None) -> NDArray[np.intp]:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return self._all
        if not (
            isinstance(mask, np.ndarray)
            and mask.dtype == np.bool_
            and mask.shape == (self.num_envs,)
            and mask.any()
        ):
            raise InvalidValueError(
                f"options['reset_mask']={mask!r}: give a NumPy array of type bool and shape "
                f"({self.num_envs},) that is true somewhere."
            )
        if self._observations is None and not mask.all():
            raise ResetNeeded("The first reset() must be of all environments, without a mask.")
        return np.flatnonzero(mask)

    def _seed(self, seed: int | Sequence[int | None] | None, sims: NDArray[np.intp]) -> None:
        if seed is None:
            return
        if isinstance(seed, int | np.integer):
            seeds: Sequence[int | None] = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = seed
        if len(seeds) != self.num_envs or not all(
            each is None or (isinstance(each, int | np.integer) and each >= 0) for each in seeds
        ):
            raise InvalidValueError(
                f"seed={seed!r}: give a whole number from 0, None, or a list of {self.num_envs} "
                "of these, one for each environment."
            )
        for sim in sims.tolist():
            each = seeds[sim]
            if each is not None:
                self._random[sim], _ = seeding.np_random(int(each))

    def _generator(self, sim: int) -> np.random.Generator:
        generator = self._random[sim]
        if generator is None:
            generator, _ = seeding.np_random()
            self._random[sim] = generator
        return generator

    def get_state(self) -> dict[str, Array]:
        """Everything needed to continue exactly, in arrays with a row for each environment.

        ``physics`` (MuJoCo's integration state), ``position`` (what the next velocity is measured
        from), ``random`` (see :func:`~skillrl.envs.mujoco.random_state.generator_row`),
        ``elapsed_steps``, ``finished`` (resets that are due) and ``observations`` (the latest).
        Rows may be picked, and given to :meth:`set_state` of any environment of the same task.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if self._observations is None:
            raise ResetNeeded("There is no state before the first reset().")
        return {
            "physics": self._physics.get_state(),
            "position": self._position.copy(),
            "random": np.stack([generator_row(self._generator(i)) for i in range(self.num_envs)]),
            "elapsed_steps": self._elapsed_steps.copy(),
            "finished": self._finished.copy(),
            "observations": self._observations.copy(),
        }

    def set_state(
        self, state: Mapping[str, npt.ArrayLike], where: Array | Sequence[int] | None = None
    ) -> None:
        """Continue from saved states.

        Args:
            state: what :meth:`get_state` returned, or some rows of all its arrays; nested lists of
                the same numbers, as JSON has them, do too.
            where: the environments to set, one for each row of ``state``: a mask
                ``(num_envs,)`` of type bool, or indices; None for all. The others stay as they are.

        Raises:
            InvalidValueError: if an array is missing, or its shape or type does not fit.
            gymnasium.error.ResetNeeded: if only some environments are set before the first reset.

        Example:
            >>> envs = MujocoVectorEnv("Hopper-v5", num_envs=3, num_threads=1)
            >>> _ = envs.reset(seed=0)
            >>> saved = envs.get_state()
            >>> first = envs.step(np.ones((3, 3)))[0]
            >>> envs.set_state(saved)
            >>> bool((envs.step(np.ones((3, 3)))[0] == first).all())
            True
            >>> second = {name: rows[[1]] for name, rows in saved.items()}
            >>> envs.set_state(second, where=[0])  # the first goes on where the second was
            >>> bool((envs.step(np.ones((3, 3)))[0][0] == first[1]).all())
            True
        """
        sims = self._selected(where)
        if self._observations is None:
            if len(sims) != self.num_envs:
                raise ResetNeeded("Call reset() before setting the state of some environments.")
            self._observations = self.task.observe(self._physics.fields)
        expected = {
            "physics": (np.float64, (self._physics.state_size,)),
            "position": (np.float64, self._position.shape[1:]),
            "random": (np.uint64, (NUM_WORDS,)),
            "elapsed_steps": (np.int64, ()),
            "finished": (np.bool_, ()),
            "observations": (np.float64, self._observations.shape[1:]),
        }
        new: dict[str, Array] = {}
        for name, (dtype, row_shape) in expected.items():
            shape = (len(sims), *row_shape)
            if name not in state:
                raise InvalidValueError(f"state[{name!r}] is missing.")
            new[name] = np.asarray(state[name], dtype)
            if new[name].shape != shape:
                raise InvalidValueError(
                    f"state[{name!r}] has the shape {new[name].shape}; {len(sims)} environments "
                    f"of this task need {shape}. Was it saved from another task?"
                )
        self._physics.set_state(sims, new["physics"])
        self._position[sims] = new["position"]
        self._elapsed_steps[sims] = new["elapsed_steps"]
        self._finished[sims] = new["finished"]
        self._observations[sims] = new["observations"]
        for sim, row in zip(sims.tolist(), new["random"], strict=True):
            self._random[sim] = generator_from_row(row)

    def _selected(self, where: Array | Sequence[int] | None) -> NDArray[np.intp]:
        if where is None:
            return self._all
        try:
            sims = self._all[np.asarray(where)]
        except IndexError as error:
            raise InvalidValueError(
                f"where={where!r}: give a mask of shape ({self.num_envs},) and of type bool, or "
                f"numbers of environments below {self.num_envs}."
            ) from error
        if len(np.unique(sims)) != len(sims):
            raise InvalidValueError(f"where={where!r} names an environment twice.")
        return sims

    # --- the rest of Gymnasium's interface

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Each environment's random generator."""
        return tuple(self._generator(i) for i in range(self.num_envs))

    def render(self) -> tuple[Any, ...]:
        """One frame for each environment.

        Returns:
            By render mode, arrays ``(height, width, 3)`` of type uint8, ``(height, width)`` of
            type float32, or pairs of both.

        Raises:
            InvalidValueError: if the environment was made without a render mode.
        """
        if self._renderer is None:
            raise InvalidValueError(
                "This environment was made with render_mode=None: choose one of "
                f"{', '.join(map(repr, RENDER_MODES))} when making it."
            )
        return tuple(
            self._renderer.render(sim, self._physics.data(sim)) for sim in range(self.num_envs)
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Release threads and the rendering context."""
        self._physics.close()
        if self._renderer is not None:
            self._renderer.close()


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except (mujoco.FatalError, SimulationError) as error:
        reason = " ".join(str(error).split())  # on one line
        raise SkillrlError(
            f"MuJoCo cannot simulate this step: {reason} Some environments have taken it and some "
            "not: go on with set_state() or reset()."
        ) from error


def _make_task(task: str, given: dict[str, Any]) -> Task:
    if task not in TASKS:
        close = difflib.get_close_matches(task, TASKS, n=3)
        raise InvalidValueError(
            f"task={task!r} is none of the batched MuJoCo tasks. "
            + (f"Did you mean {' or '.join(map(repr, close))}? " if close else "")
            + f"There are {', '.join(TASKS)}."
        )
    known = [each.name for each in fields(TASKS[task])]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, [*known, *_OWN_ARGUMENTS], n=3)
            raise InvalidValueError(
                f"{task} takes no argument {name!r}. "
                + (f"Did you mean {' or '.join(map(repr, close))}? " if close else "")
                + f"It takes {', '.join([*known, *_OWN_ARGUMENTS])}."
            )
    return TASKS[task](**given)


_OWN_ARGUMENTS = (
    "num_envs",
    "num_threads",
    "max_episode_steps",
    "autoreset_mode",
    "render_mode",
    "width",
    "height",
    "camera_id",
    "camera_name",
    "max_geom",
    "visual_options",
)
