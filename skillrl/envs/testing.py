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
    observation. Where the environment has ``get_state()``, a dict of arrays with a row for each
    sub-environment, and ``set_state(state, where=None)``, a restored state must continue exactly,
    on a new environment too; with a mask ``where``, ``state`` has the rows of these
    sub-environments and the others stay as they are.

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
            end = len(openings[mode].steps)
            if mode is AutoresetMode.DISABLED:
                _check_reset_mask(env, actions, end)
            if hasattr(env.env, "get_state"):
                _check_state(env, other, actions, end)
            if reference is not None:
                _check_reference(env, reference, actions)
    _check_modes_agree(openings)


@dataclass(frozen=True)
class _Step:
    """One step; observations as one row per environment.

    ``reached`` are the observations that the actions led to, ``following`` those that the next
    actions start from: they differ where an episode has ended and a new one begun.
    """

    reached: list[Any]
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    following: list[Any]
    infos: dict[str, Any]

    @property
    def done(self) -> np.ndarray:
        return self.terminations | self.truncations


@dataclass(frozen=True)
class _Trace:
    start: list[Any]
    steps: list[_Step]


class _Checked:
    """A vector environment; every call's results are checked as far as they are by themselves."""

    def __init__(self, env: VectorEnv, num_envs: int, mode: AutoresetMode) -> None:
        self.env, self.num_envs, self.mode = env, num_envs, mode
        self._returned: deque[list[tuple[str, Any, Any]]] = deque(maxlen=3)
        self._resetting = np.zeros(num_envs, dtype=np.bool_)
        self._check_spaces()

    def broken(self, message: str) -> ConformanceError:
        return ConformanceError(f"{self.env} with {self.mode}: {message}")

    def reset(
        self, seed: int | list[int] | None = None, mask: np.ndarray | None = None
    ) -> list[Any]:
        options = None if mask is None else {"reset_mask": mask.copy()}
        result = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.broken(f"reset must return observations and infos, not {result!r}.")
        observations, infos = result
        self._check_observations("reset", observations)
        self._check_infos("reset", infos)
        self._keep("reset", observations=observations, infos=infos)
        self._resetting[slice(None) if mask is None else mask] = False
        return self._rows(observations)

    def step(self, actions: Any) -> _Step:
        """Step; where resets are disabled, reset what has ended."""
        result = self.env.step(actions)
        if not isinstance(result, tuple) or len(result) != 5:
            raise self.broken(
                "step must return observations, rewards, terminations, truncations and infos, "
                f"not {result!r}."
            )
        observations, rewards, terminations, truncations, infos = result
        self._check_observations("step", observations)
        self._check_array("rewards", rewards, np.floating)
        self._check_array("terminations", terminations, np.bool_)
        self._check_array("truncations", truncations, np.bool_)
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
        reached = self._rows(observations)
        following = list(reached)
        if self.mode is AutoresetMode.SAME_STEP:
            self._check_final(done, infos)
            for i in np.flatnonzero(done):
                reached[i] = deepcopy(infos["final_obs"][i])
        elif self.mode is AutoresetMode.NEXT_STEP:
            self._check_resets("have reward 0", rewards)
            self._check_resets("not terminate", terminations)
            self._check_resets("not truncate", truncations)
            self._resetting = done
        elif done.any():
            following = self.reset(mask=done)
            difference = _difference_of_rows(
                "observation", reached, following, np.flatnonzero(~done)
            )
            if difference is not None:
                raise self.broken(
                    f"reset with a mask of environments {np.flatnonzero(done).tolist()} changed "
                    f"another: {difference}."
                )
        return _Step(reached, rewards, terminations, truncations, following, infos)

    def run(self, actions: Iterable[Any], seed: int | list[int] | None = None) -> _Trace:
        """Steps after a reset with the seed, or, without a seed, from where it is."""
        start = [] if seed is None else self.reset(seed=seed)
        return _Trace(start, [self.step(action) for action in actions])

    def get_state(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The environment's state, and where the next step only resets."""
        state = self.env.get_state()  # type: ignore[attr-defined]
        if not isinstance(state, dict) or not all(
            isinstance(array, np.ndarray) and array.shape[:1] == (self.num_envs,)
            for array in state.values()
        ):
            raise self.broken(
                f"get_state must return a dict of arrays with a row per environment, not {state!r}."
            )
        self._keep("get_state", state=state)
        return state, self._resetting.copy()

    def set_state(
        self, saved: tuple[dict[str, np.ndarray], np.ndarray], where: np.ndarray | None = None
    ) -> None:
        state, resetting = saved
        rows = np.ones(self.num_envs, dtype=np.bool_) if where is None else where
        chosen = {name: array[rows] for name, array in state.items()}
        self.env.set_state(chosen, where)  # type: ignore[attr-defined]
        self._resetting = np.where(rows, resetting, self._resetting)

    def _rows(self, observations: Any) -> list[Any]:
        # Copied, because an environment at fault may overwrite what it returned.
        return list(iterate(self.env.observation_space, deepcopy(observations)))

    def _check_spaces(self) -> None:
        env = self.env
        if not isinstance(env, VectorEnv):
            raise self.broken(f"it must be a gymnasium.vector.VectorEnv, not {type(env)}.")
        if env.num_envs != self.num_envs:
            raise self.broken(f"num_envs must be {self.num_envs}, not {env.num_envs}.")
        mode = env.metadata.get("autoreset_mode")
        if mode is not self.mode:
            raise self.broken(f"metadata['autoreset_mode'] must be {self.mode}, not {mode!r}.")
        for kind in ("observation", "action"):
            batched = getattr(env, f"{kind}_space")
            expected = batch_space(getattr(env, f"single_{kind}_space"), self.num_envs)
            if batched != expected:
                raise self.broken(
                    f"{kind}_space must be single_{kind}_space batched, {expected}, not {batched}."
                )

    def _check_observations(self, call: str, observations: Any) -> None:
        problem = _misfit(observations, self.env.observation_space)
        if problem is not None:
            raise self.broken(f"the observations that {call} returns {problem}.")

    def _check_array(self, name: str, array: Any, kind: type[np.generic]) -> None:
        if (
            not isinstance(array, np.ndarray)
            or array.shape != (self.num_envs,)
            or not np.issubdtype(array.dtype, kind)
        ):
            raise self.broken(
                f"the {name} must be an array of {kind.__name__} with shape ({self.num_envs},), "
                f"not {array!r}."
            )

    def _check_infos(self, call: str, infos: Any) -> None:
        if not isinstance(infos, dict):
            raise self.broken(f"the infos that {call} returns must be a dict, not {infos!r}.")
        for key, value in infos.items():
            if key.startswith("_"):
                continue
            mask = infos.get(f"_{key}")
            if (
                not isinstance(mask, np.ndarray)
                or mask.shape != (self.num_envs,)
                or mask.dtype != np.bool_
            ):
                raise self.broken(
                    f"the infos that {call} returns have {key!r} and must have its mask "
                    f"'_{key}', booleans of shape ({self.num_envs},), not {mask!r}."
                )
            if not isinstance(value, dict) and (
                not isinstance(value, np.ndarray) or value.shape[:1] != (self.num_envs,)
            ):
                raise self.broken(
                    f"infos[{key!r}] that {call} returns must be an array with a row per "
                    f"environment, or a dict of such arrays, not {value!r}."
                )

    def _check_final(self, done: np.ndarray, infos: dict[str, Any]) -> None:
        for key in ("final_obs", "final_info"):
            mask = infos.get(f"_{key}", np.zeros(self.num_envs, dtype=np.bool_))
            if not np.array_equal(mask, done):
                raise self.broken(
                    f"episodes ended in environments {np.flatnonzero(done).tolist()}, but "
                    f"infos['_{key}'] marks {np.flatnonzero(mask).tolist()}: a step that ends an "
                    f"episode must have {key!r} of that episode, and no other step."
                )
        for i in np.flatnonzero(done):
            problem = _misfit(infos["final_obs"][i], self.env.single_observation_space)
            if problem is not None:
                raise self.broken(f"infos['final_obs'][{i}] {problem}.")

    def _check_resets(self, must: str, array: np.ndarray) -> None:
        bad = self._resetting & (array != 0)
        if bad.any():
            raise self.broken(
                f"the step after an episode's end only resets and must {must}; in environments "
                f"{np.flatnonzero(bad).tolist()} it does not."
            )

    def _keep(self, call: str, **results: Any) -> None:
        """Remember what a call returned; what earlier calls returned must be as it was."""
        for earlier in self._returned:
            for name, value, copy in earlier:
                if not _equal(value, copy):
                    raise self.broken(
                        f"the {name} were overwritten by a later call: return new arrays."
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
    """Returns the steps from seed 0 to the first end of an episode, that step included."""
    env.reset()
    trace = env.run(actions, seed=0)
    ends = [t for t, step in enumerate(trace.steps, start=1) if step.done.any()]
    if not ends:
        raise env.broken(
            f"no episode ended in {len(actions)} random steps, so what follows an end was not "
            "checked: pass a larger steps=, or make the environment with shorter episodes."
        )
    opening = _Trace(trace.start, trace.steps[: ends[0]])
    actions = actions[: ends[0]]

    for who, again in (("again", env), ("on a new environment", other)):
        difference = _difference(opening, again.run(actions, seed=0))
        if difference is not None:
            raise env.broken(
                f"reset(seed=0) and the same actions {who} gave another episode: {difference}."
            )
    # That run ended in the very step that ends an episode: its reset must not linger.
    difference = _difference(opening, env.run(actions, seed=0))
    if difference is not None:
        raise env.broken(f"reset right after an episode's end did not begin anew: {difference}.")
    seeds = list(range(env.num_envs))
    try:
        seeded = env.run(actions, seed=list(seeds))
    except Exception as error:
        raise env.broken(f"reset(seed={seeds}) and steps after it failed: {error}") from error
    difference = _difference(opening, seeded)
    if difference is not None:
        raise env.broken(
            f"reset(seed={seeds}) must do as reset(seed=0), which seeds environment i with i: "
            f"{difference}."
        )
    starts = [env.reset(seed=1000 * k) for k in range(4)]
    random = not all(_equal(start[0], starts[0][0]) for start in starts)
    alike = all(_equal(row, start[0]) for start in starts for row in start)
    if random and alike:
        raise env.broken(
            "reset(seed=…) gives all sub-environments the same random start: seed environment i "
            "with seed + i."
        )
    return opening


def _check_reset_mask(env: _Checked, actions: list[Any], end: int) -> None:
    """An environment that is reset early must not disturb the others.

    ``end``: number of steps after which, from seed 0, an episode has ended for the first time.
    """
    undisturbed = env.run(actions[:end], seed=0)
    others = range(1, env.num_envs)
    env.reset(seed=0)
    before = env.step(actions[0]).following
    after = env.reset(mask=np.arange(env.num_envs) == 0)
    difference = _difference_of_rows("observation", before, after, others)
    for t in range(1, end):
        if difference is not None:
            break
        step = env.step(actions[t])
        difference = _difference_of_steps(undisturbed.steps[t], step, others)
        if step.done.any():
            break
    if difference is not None:
        raise env.broken(f"reset with a mask of environment 0 changed another: {difference}.")


def _check_state(env: _Checked, other: _Checked, actions: list[Any], end: int) -> None:
    """``end``: number of steps after which, from seed 0, an episode has just ended."""
    first = np.arange(env.num_envs) == 0
    for before in (end - 1, end):
        # Far enough to meet the next end, where episodes are of one length.
        ahead = (actions[before:] + actions[:before])[: 2 * end + 1]
        env.run(actions[:before], seed=0)
        state = env.get_state()
        expected = env.run(ahead)
        later = env.get_state()
        expected_later = env.run(ahead)
        other.reset(seed=1)
        for who, target in (("the environment", env), ("a new environment", other)):
            target.set_state(state)
            difference = _difference(expected, target.run(ahead))
            if difference is not None:
                raise env.broken(
                    f"{who} did not go on from set_state as it had from get_state after {before} "
                    f"steps: {difference}."
                )
        env.set_state(later)
        env.set_state(state, where=first)
        mixed = env.run(ahead)
        difference = _difference(expected, mixed, range(1))
        difference = difference or _difference(expected_later, mixed, range(1, env.num_envs))
        if difference is not None:
            raise env.broken(
                "set_state with a mask of environment 0 must set that one and leave the others: "
                f"{difference}."
            )


def _check_reference(env: _Checked, reference: Callable[[], gym.Env], actions: list[Any]) -> None:
    def make(num_envs: int, mode: AutoresetMode) -> VectorEnv:
        return SyncVectorEnv([reference] * num_envs, autoreset_mode=mode)

    with _checked(make, env.num_envs, env.mode) as sync:
        for kind in ("single_observation_space", "single_action_space"):
            ours, theirs = getattr(env.env, kind), getattr(sync.env, kind)
            if ours != theirs:
                raise env.broken(f"{kind} is {ours}, the reference's {theirs}.")
        got, expected = env.run(actions, seed=0), sync.run(actions, seed=0)
        difference = _difference(expected, got)
        if difference is not None:
            raise env.broken(f"it differs from the reference: {difference}.")
        for t, (one, two) in enumerate(zip(expected.steps, got.steps, strict=True), start=1):
            difference = _difference_of_infos(one.infos, two.infos, "infos")
            if difference is not None:
                raise env.broken(f"it differs from the reference: in step {t}, {difference}.")


def _check_modes_agree(openings: dict[AutoresetMode, _Trace]) -> None:
    (mode, expected), *others = openings.items()
    for other_mode, opening in others:
        difference = _difference(expected, opening, to_the_end=False)
        if difference is not None:
            raise ConformanceError(
                f"With the same seed and actions, the first episode to end does not end in "
                f"{other_mode} as in {mode}: {difference}."
            )


def _difference(
    expected: _Trace, got: _Trace, rows: Iterable[int] | None = None, to_the_end: bool = True
) -> str | None:
    """Where two runs differ first, in words; None if nowhere.

    ``to_the_end``: whether what follows the last step counts, a reset if it ends an episode.
    """
    rows = range(len(expected.steps[0].rewards)) if rows is None else rows
    if expected.start:
        difference = _difference_of_rows("first observation", expected.start, got.start, rows)
        if difference is not None:
            return difference
    if len(expected.steps) != len(got.steps):
        return f"it ends after {len(got.steps)} steps instead of {len(expected.steps)}"
    for t, (one, two) in enumerate(zip(expected.steps, got.steps, strict=True), start=1):
        whole = to_the_end or t < len(expected.steps)
        difference = _difference_of_steps(one, two, rows, with_following=whole)
        if difference is not None:
            return f"in step {t}, {difference}"
    return None


def _difference_of_steps(
    expected: _Step, got: _Step, rows: Iterable[int], with_following: bool = True
) -> str | None:
    for name, one, two in (
        ("observation", expected.reached, got.reached),
        ("reward", expected.rewards, got.rewards),
        ("termination", expected.terminations, got.terminations),
        ("truncation", expected.truncations, got.truncations),
        ("observation after the reset", expected.following, got.following),
    )[: 5 if with_following else 4]:
        difference = _difference_of_rows(name, one, two, rows)
        if difference is not None:
            return difference
    return None


def _difference_of_rows(
    name: str,
    expected: Sequence[Any] | np.ndarray,
    got: Sequence[Any] | np.ndarray,
    rows: Iterable[int],
) -> str | None:
    for i in rows:
        if not _equal(expected[i], got[i]):
            return f"environment {i}'s {name} is {got[i]} instead of {expected[i]}"
    return None


def _difference_of_infos(expected: dict[str, Any], got: dict[str, Any], name: str) -> str | None:
    """What of ``expected`` is missing in ``got`` or differs; ``got`` may hold more."""
    for key, values in expected.items():
        if key.startswith("_"):
            continue
        where = f"{name}[{key!r}]"
        mask = expected[f"_{key}"]
        if key not in got:
            return f"{where} is missing"
        got_mask = got.get(f"_{key}", np.ones_like(mask))
        if not got_mask[mask].all():
            return f"{where} is for the environments {got_mask} instead of {mask}"
        if isinstance(values, dict):
            difference = _difference_of_infos(values, got[key], where)
        else:
            difference = _difference_of_rows(where, values, got[key], np.flatnonzero(mask))
        if difference is not None:
            return difference
    return None


def _equal(one: Any, two: Any) -> bool:
    """Equality of arrays, also nested in dicts, tuples and arrays of objects; NaN equals NaN."""
    if isinstance(one, dict):
        return (
            isinstance(two, dict)
            and one.keys() == two.keys()
            and all(_equal(one[key], two[key]) for key in one)
        )
    if isinstance(one, (tuple, list)) or (isinstance(one, np.ndarray) and one.dtype == object):
        return len(one) == len(two) and all(map(_equal, one, two))
    kinds = np.asarray(one).dtype.kind + np.asarray(two).dtype.kind
    return np.array_equal(one, two, equal_nan=set(kinds) <= set("fc"))


def _misfit(value: Any, space: gym.Space) -> str | None:
    """Why a value is not in a space, to the exact dtype; None if it is."""
    if isinstance(space, gym.spaces.Dict) and isinstance(value, dict):
        problems = [_misfit(value[k], space[k]) for k in space if k in value]
        if any(problems):
            return next(filter(None, problems))
    elif isinstance(space, gym.spaces.Tuple) and isinstance(value, tuple):
        problems = [_misfit(v, s) for v, s in zip(value, space.spaces, strict=False)]
        if any(problems):
            return next(filter(None, problems))
    elif isinstance(space, gym.spaces.Box) and not isinstance(value, np.ndarray):
        return f"must be an array, not {value!r}"
    elif isinstance(value, np.ndarray):
        if value.dtype != space.dtype:
            return f"must have dtype {space.dtype}, not {value.dtype}"
        if value.shape != space.shape:
            return f"must have shape {space.shape}, not {value.shape}"
    return None if space.contains(value) else f"must be in {space}, not {value!r}"
