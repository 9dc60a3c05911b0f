"""A conformance test for vector environments, one's own included.

``check_vector_env`` steps an environment in every autoreset mode and compares what it does with
what Gymnasium 1.4 says vector environments do. It is meant to be called from a test:

>>> import gymnasium as gym
>>> from gymnasium.vector import SyncVectorEnv
>>> def make(num_envs, autoreset_mode):
...     fns = [lambda: gym.make("CartPole-v1")] * num_envs
...     return SyncVectorEnv(fns, autoreset_mode=autoreset_mode)
>>> check_vector_env(make)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from skillrl.errors import InvalidValueError, SkillrlError

Make = Callable[[int, AutoresetMode], VectorEnv]


class ConformanceError(SkillrlError, AssertionError):
    """A vector environment does not do what vector environments do; the message says what."""


def check_vector_env(
    make: Make,
    *,
    modes: Iterable[AutoresetMode] = tuple(AutoresetMode),
    num_envs: int = 3,
    steps: int = 200,
    reference: Callable[[], gym.Env] | None = None,
) -> None:
    """Check that a vector environment follows Gymnasium's conventions.

    In every mode: spaces, shapes and dtypes; that a seed (0 too, and a list of seeds) reproduces
    an episode, on the same environment and on a new one, and that sub-environments are seeded
    differently; that every entry of the infos has its mask; that later calls leave returned
    arrays alone; and the mode's own convention:

    - ``SAME_STEP``: a step that ends an episode has "final_obs" and "final_info" with their masks;
    - ``NEXT_STEP``: the step after it has no reward and ends nothing;
    - ``DISABLED``: ``options={"reset_mask": mask}`` resets these environments and no other.

    Where several modes are checked, an episode must end alike in all of them, with the same final
    observation. Where the environment has ``get_state`` and ``set_state``, a restored state must
    continue exactly, on a new environment too, and through a mask only where the mask is true.

    Args:
        make: Makes the environment: ``make(num_envs, autoreset_mode)``.
        modes: The autoreset modes that the environment has.
        num_envs: How many sub-environments to ask for, at least 2.
        steps: Number of random steps; some episode must end within them.
        reference: Makes a single environment. The vector environment must equal a
            ``gymnasium.vector.SyncVectorEnv`` of it to the last bit, save for additional infos.

    Raises:
        ConformanceError: Naming the first convention that was broken.
        InvalidValueError: If ``num_envs`` or ``modes`` leaves nothing to check.
    """
    modes = list(modes)
    if num_envs < 2 or not modes:
        raise InvalidValueError(
            f"A check takes at least one mode and two environments, not {num_envs} environments "
            f"in the modes {modes}."
        )
    openings: dict[AutoresetMode, _Trace] = {}
    for mode in modes:
        with _checked(make, num_envs, mode) as env, _checked(make, num_envs, mode) as other:
            actions = _random_actions(env, steps)
            openings[mode] = _check_seeds(env, other, actions)
            if mode is AutoresetMode.DISABLED:
                _check_reset_mask(env, actions)
            if hasattr(env.env, "get_state"):
                _check_state(env, other, actions, len(openings[mode].steps))
            if reference is not None:
                _check_reference(env, reference, actions)
    _check_modes_agree(openings)


@dataclass(frozen=True)
class _Step:
    """One step; observations as one row per environment.

    ``reached`` are the observations that the actions led to, ``observations`` those that the
    next actions start from: they differ where an episode has ended.
    """

    reached: list[Any]
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    observations: list[Any]
    infos: dict[str, Any]

    @property
    def done(self) -> np.ndarray:
        return self.terminations | self.truncations


@dataclass(frozen=True)
class _Trace:
    start: list[Any]
    steps: list[_Step]

    def opening(self) -> _Trace:
        """The part up to the first end of an episode, that step included."""
        ends = [t for t, step in enumerate(self.steps) if step.done.any()]
        return _Trace(self.start, self.steps[: ends[0] + 1] if ends else self.steps)


class _Checked:
    """A vector environment; every call's results are checked as far as they are by themselves."""

    def __init__(self, env: VectorEnv, num_envs: int, mode: AutoresetMode) -> None:
        self.env, self.num_envs, self.mode = env, num_envs, mode
        self._returned: deque[list[tuple[str, Any, Any]]] = deque(maxlen=3)
        self._resetting = np.zeros(num_envs, dtype=np.bool_)
        self._check_spaces()

    def require(self, condition: bool | np.bool_, message: str) -> None:
        if not condition:
            raise ConformanceError(f"{self.env} with {self.mode}: {message}")

    def reset(
        self, seed: int | list[int] | None = None, mask: np.ndarray | None = None
    ) -> list[Any]:
        options = None if mask is None else {"reset_mask": mask.copy()}
        result = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self.require(
            isinstance(result, tuple) and len(result) == 2,
            f"reset must return observations and infos, not {result!r}.",
        )
        observations, infos = result
        self._check_observations("reset", observations)
        self._check_infos("reset", infos)
        self._keep("reset", observations=observations, infos=infos)
        self._resetting[slice(None) if mask is None else mask] = False
        return self.rows(observations)

    def step(self, actions: Any) -> _Step:
        """Step; where resets are disabled, reset what has ended."""
        result = self.env.step(actions)
        self.require(
            isinstance(result, tuple) and len(result) == 5,
            "step must return observations, rewards, terminations, truncations and infos, not "
            f"{result!r}.",
        )
        observations, rewards, terminations, truncations, infos = result
        self._check_observations("step", observations)
        for name, array, kind in (
            ("rewards", rewards, np.floating),
            ("terminations", terminations, np.bool_),
            ("truncations", truncations, np.bool_),
        ):
            self.require(
                isinstance(array, np.ndarray)
                and array.shape == (self.num_envs,)
                and np.issubdtype(array.dtype, kind),
                f"the {name} must be an array of {kind.__name__} with shape ({self.num_envs},), "
                f"not {array!r}.",
            )
        self._check_infos("step", infos)
        self._keep(
            "step",
            observations=observations,
            rewards=rewards,
            terminations=terminations,
            truncations=truncations,
            infos=infos,
        )
        done = terminations | truncations
        after = self.rows(observations)
        reached = list(after)
        if self.mode is AutoresetMode.SAME_STEP:
            self._check_final(done, infos)
            for i in np.flatnonzero(done):
                reached[i] = infos["final_obs"][i]
        elif self.mode is AutoresetMode.NEXT_STEP:
            for name, array in (
                ("have reward 0", rewards),
                ("not terminate", terminations),
                ("not truncate", truncations),
            ):
                bad = self._resetting & (array != 0)
                self.require(
                    not bad.any(),
                    f"the step after an episode's end only resets and must {name}; in "
                    f"environments {np.flatnonzero(bad).tolist()} it does not.",
                )
            self._resetting = done
        step = _Step(
            deepcopy(reached),
            rewards.copy(),
            terminations.copy(),
            truncations.copy(),
            deepcopy(after),
            infos,
        )
        if self.mode is AutoresetMode.DISABLED and done.any():
            restarted = self.reset(mask=done)
            for i in np.flatnonzero(~done):
                self.require(
                    _equal(restarted[i], step.observations[i]),
                    f"reset with a mask of environments {np.flatnonzero(done).tolist()} changed "
                    f"the observation of environment {i}.",
                )
            step.observations[:] = deepcopy(restarted)
        return step

    def run(self, actions: Sequence[Any], start: list[Any]) -> _Trace:
        return _Trace(deepcopy(start), [self.step(action) for action in actions])

    def rows(self, observations: Any) -> list[Any]:
        return list(iterate(self.env.observation_space, observations))

    def _check_spaces(self) -> None:
        env = self.env
        self.require(
            isinstance(env, VectorEnv), f"it must be a gymnasium.vector.VectorEnv, not {type(env)}."
        )
        self.require(
            env.num_envs == self.num_envs,
            f"num_envs must be the {self.num_envs} asked for, not {env.num_envs}.",
        )
        self.require(
            env.metadata.get("autoreset_mode") is self.mode,
            f"metadata['autoreset_mode'] must be {self.mode}, "
            f"not {env.metadata.get('autoreset_mode')!r}.",
        )
        for kind in ("observation", "action"):
            batched = getattr(env, f"{kind}_space")
            expected = batch_space(getattr(env, f"single_{kind}_space"), self.num_envs)
            self.require(
                batched == expected,
                f"{kind}_space must be single_{kind}_space batched, {expected}, not {batched}.",
            )

    def _check_observations(self, call: str, observations: Any) -> None:
        space = self.env.observation_space
        problem = _misfit(observations, space)
        self.require(problem is None, f"the observations that {call} returns {problem}.")

    def _check_infos(self, call: str, infos: Any) -> None:
        self.require(
            isinstance(infos, dict), f"the infos that {call} returns must be a dict, not {infos!r}."
        )
        for key, value in infos.items():
            if key.startswith("_"):
                continue
            mask = infos.get(f"_{key}")
            self.require(
                isinstance(mask, np.ndarray)
                and mask.shape == (self.num_envs,)
                and mask.dtype == np.bool_,
                f"the infos that {call} returns have {key!r} and must have its mask '_{key}', "
                f"booleans of shape ({self.num_envs},), not {mask!r}.",
            )
            self.require(
                isinstance(value, dict)
                or (isinstance(value, np.ndarray) and value.shape[:1] == (self.num_envs,)),
                f"infos[{key!r}] that {call} returns must be an array with a row per environment, "
                f"or a dict of such arrays, not {value!r}.",
            )

    def _check_final(self, done: np.ndarray, infos: dict[str, Any]) -> None:
        for key in ("final_obs", "final_info"):
            mask = infos.get(f"_{key}", np.zeros(self.num_envs, dtype=np.bool_))
            self.require(
                np.array_equal(mask, done),
                f"episodes ended in environments {np.flatnonzero(done).tolist()}, but "
                f"infos['_{key}'] marks {np.flatnonzero(mask).tolist()}: a step that ends an "
                f"episode must have {key!r} of that episode, and no other step.",
            )
        for i in np.flatnonzero(done):
            problem = _misfit(infos["final_obs"][i], self.env.single_observation_space)
            self.require(problem is None, f"infos['final_obs'][{i}] {problem}.")

    def _keep(self, call: str, **results: Any) -> None:
        """Remember what a call returned, and compare what earlier calls returned."""
        for earlier in self._returned:
            for name, value, copy in earlier:
                self.require(
                    _equal(value, copy),
                    f"the {name} were overwritten by a later call: return new arrays.",
                )
        self._returned.append(
            [
                (f"{name} that {call} returned", value, deepcopy(value))
                for name, value in results.items()
            ]
        )


@contextmanager
def _checked(make: Make, num_envs: int, mode: AutoresetMode) -> Iterator[_Checked]:
    env = make(num_envs, mode)
    try:
        yield _Checked(env, num_envs, mode)
    finally:
        env.close()


def _random_actions(env: _Checked, steps: int) -> list[Any]:
    space = deepcopy(env.env.action_space)
    space.seed(0)
    return [space.sample() for _ in range(steps)]


def _check_seeds(env: _Checked, other: _Checked, actions: list[Any]) -> _Trace:
    """Returns the steps from seed 0 to the first end of an episode."""
    env.reset()
    trace = env.run(actions, env.reset(seed=0))
    opening = trace.opening()
    env.require(
        opening.steps[-1].done.any(),
        f"no episode ended in {len(actions)} random steps, so what follows an end was not checked: "
        "pass a larger steps=, or make the environment with shorter episodes.",
    )
    first = actions[: len(opening.steps)]
    for seed, some, expected in ((0, actions, trace), (1000, first, None)):
        expected = expected or env.run(some, env.reset(seed=seed))
        for who, again in (("again", env), ("on a new environment", other)):
            difference = _difference(expected, again.run(some, again.reset(seed=seed)))
            env.require(
                difference is None,
                f"reset(seed={seed}) and the same actions {who} gave another episode: {difference}.",
            )
    # The first run ends in the very step that ends an episode: its reset must not linger.
    env.run(first, env.reset(seed=0))
    difference = _difference(opening, env.run(first, env.reset(seed=0)))
    env.require(
        difference is None, f"reset right after an episode's end left something: {difference}."
    )
    seeds = list(range(env.num_envs))
    difference = _difference(opening, env.run(first, env.reset(seed=seeds)))
    env.require(
        difference is None,
        f"reset(seed={seeds}) must do as reset(seed=0), which seeds environment i with i: "
        f"{difference}.",
    )
    starts = [env.reset(seed=1000 * k) for k in range(4)]
    random = not all(_equal(start[0], starts[0][0]) for start in starts)
    alike = all(_equal(row, start[0]) for start in starts for row in start)
    env.require(
        not (random and alike), "reset(seed=…) gives all sub-environments the same random start."
    )
    return opening


def _check_reset_mask(env: _Checked, actions: list[Any]) -> None:
    """An environment that is reset early must not disturb the others."""
    undisturbed = env.run(actions, env.reset(seed=0)).opening().steps
    if len(undisturbed) < 2:
        return
    env.reset(seed=0)
    before = env.step(actions[0])
    mask = np.arange(env.num_envs) == 0
    after = env.reset(mask=mask)
    for i in range(1, env.num_envs):
        env.require(
            _equal(after[i], before.observations[i]),
            f"reset with a mask of environment 0 changed the observation of environment {i}.",
        )
    for t, expected in enumerate(undisturbed[1:], start=1):
        step = env.step(actions[t])
        difference = _difference_of_steps(expected, step, range(1, env.num_envs))
        env.require(
            difference is None,
            f"reset with a mask of environment 0 before step {t} changed another's {difference}.",
        )
        if step.done.any():
            break


def _check_state(env: _Checked, other: _Checked, actions: list[Any], end: int) -> None:
    """``end``: number of steps after which, from seed 0, an episode has just ended."""

    def states() -> dict[str, np.ndarray]:
        return env.env.get_state()  # type: ignore[attr-defined]

    for before in sorted({end - 1, end}):
        ahead = actions[before:] or actions
        env.run(actions[:before], env.reset(seed=0))
        state = states()
        env.require(
            isinstance(state, dict)
            and all(
                isinstance(array, np.ndarray) and array.shape[:1] == (env.num_envs,)
                for array in state.values()
            ),
            "get_state must return a dict of arrays with one row per environment.",
        )
        kept = deepcopy(state)
        expected = env.run(ahead, [])
        env.require(_equal(state, kept), "steps changed the arrays that get_state had returned.")
        other.reset(seed=1)
        for who, target in (("the environment", env), ("a new environment", other)):
            target.env.set_state(state)  # type: ignore[attr-defined]
            target._resetting[:] = env.mode is AutoresetMode.NEXT_STEP and before == end
            target._resetting &= expected_resets(target, actions, before)
            difference = _difference(expected, target.run(ahead, []))
            env.require(
                difference is None,
                f"{who} did not continue from set_state as it had from get_state: {difference}.",
            )
