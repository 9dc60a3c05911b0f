from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from skillrl.envs.maze import MazeEnv, MazeVectorEnv
from skillrl.envs.neural_reward import NeuralRewardVectorWrapper, NeuralRewardWrapper
from skillrl.envs.testing import ConformanceError, check_vector_env
from skillrl.errors import InvalidValueError

Make = Callable[[int, AutoresetMode], VectorEnv]
NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode


class Walk(gym.Env):
    """A random walk that terminates at random, with noise in resets, steps and infos."""

    observation_space = gym.spaces.Box(-100, 100, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        super().reset(seed=seed)
        self.position = self.np_random.normal(size=2).astype(np.float32)
        return self.position.copy(), {"start": float(self.position[0])}

    def step(self, action: Any) -> tuple:
        self.position += self.np_random.normal(size=2).astype(np.float32) + action
        terminated = bool(self.np_random.random() < 0.1)
        return self.position.copy(), float(action), terminated, False, {"noise": 1.0}


def walks(num_envs: int, mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([Walk] * num_envs, autoreset_mode=mode)


def limited(env: Callable[[], gym.Env], steps: int) -> gym.Env:
    return TimeLimit(env(), steps)


def dictionary() -> gym.Env:
    space = gym.spaces.Dict(walk=gym.spaces.Tuple([Walk.observation_space, gym.spaces.Discrete(3)]))
    return gym.wrappers.TransformObservation(Walk(), lambda o: {"walk": (o, 2)}, space)


@pytest.mark.parametrize(
    "single",
    [
        Walk,
        dictionary,
        partial(limited, Walk, 4),
        partial(limited, MazeEnv, 9),
        partial(gym.make, "CartPole-v1"),
        partial(gym.make, "FrozenLake-v1"),
        partial(gym.make, "HalfCheetah-v5", max_episode_steps=20),
    ],
)
def test_gymnasiums_vector_passes(single: Callable[[], gym.Env]) -> None:
    def make(num_envs: int, mode: AutoresetMode) -> VectorEnv:
        return SyncVectorEnv([single] * num_envs, autoreset_mode=mode)

    check_vector_env(make, steps=60, reference=single)


def test_wrapped_vectors_pass() -> None:
    check_vector_env(lambda n, mode: RecordEpisodeStatistics(walks(n, mode)), steps=60)
    check_vector_env(
        lambda n, mode: NeuralRewardVectorWrapper(walks(n, mode), lambda o: o[:, 0]),
        steps=60,
        reference=lambda: NeuralRewardWrapper(Walk(), lambda o: o[:, 0]),
    )


def mazes(num_envs: int, mode: AutoresetMode) -> MazeVectorEnv:
    return MazeVectorEnv(num_envs, max_episode_steps=7, autoreset_mode=mode)


def test_mazes_pass() -> None:
    check_vector_env(mazes, reference=partial(limited, MazeEnv, 7))
    check_vector_env(
        lambda n, mode: NeuralRewardVectorWrapper(mazes(n, mode), lambda o: o.sum(axis=1)),
        reference=lambda: NeuralRewardWrapper(limited(MazeEnv, 7), lambda o: o.sum(axis=1)),
    )


# Each of the following breaks one convention.


class WrongSpace(VectorWrapper):
    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-100, 100, (self.num_envs + 1, 2), np.float32)


class WrongMetadata(VectorWrapper):
    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self.metadata = {"autoreset_mode": "SameStep"}


class Changed(VectorWrapper):
    """Gives a step's results to ``change``."""

    def step(self, actions: Any) -> tuple:
        return tuple(self.change(*self.env.step(actions)))

    def change(self, *results: Any) -> tuple:
        raise NotImplementedError


class WrongDtype(Changed):
    def change(self, observations: Any, *rest: Any) -> tuple:
        return observations.astype(np.float64), *rest


class IntegerRewards(Changed):
    def change(self, observations: Any, rewards: Any, *rest: Any) -> tuple:
        return observations, rewards.astype(np.int64), *rest


class ListOfEnds(Changed):
    def change(self, observations: Any, rewards: Any, terminations: Any, *rest: Any) -> tuple:
        return observations, rewards, terminations.tolist(), *rest


class NoMask(Changed):
    def change(self, *results: Any) -> tuple:
        results[4].pop("_noise", None)
        return results


class RewardedReset(Changed):
    def change(self, observations: Any, rewards: Any, *rest: Any) -> tuple:
        return observations, rewards + 1, *rest


class EndlessEnd(Changed):
    def change(self, *results: Any) -> tuple:
        self.ended = getattr(self, "ended", False) | results[2]
        return *results[:2], self.ended, *results[3:]


class NoFinalObservation(Changed):
    def change(self, *results: Any) -> tuple:
        results[4].pop("final_obs", None)
        results[4].pop("_final_obs", None)
        return results


class NoFinalInfo(Changed):
    def change(self, *results: Any) -> tuple:
        results[4].pop("final_info", None)
        results[4].pop("_final_info", None)
        return results


class WrongFinalObservation(Changed):
    """The new episode's first observation in the place of the old one's last."""

    def change(self, *results: Any) -> tuple:
        for i in np.flatnonzero(results[2] | results[3]):
            results[4]["final_obs"][i] = results[0][i].copy()
        return results


class SeedIgnored(VectorWrapper):
    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        return self.env.reset(seed=None, options=options)


class SeedZeroIgnored(VectorWrapper):
    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        return self.env.reset(seed=seed or None, options=options)


class NoListOfSeeds(VectorWrapper):
    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        if isinstance(seed, list):
            raise TypeError("an integer is required")
        return self.env.reset(seed=seed, options=options)


class OneSeedForAll(VectorWrapper):
    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        if isinstance(seed, list):
            seed = seed[0]
        seeds: Any = None if seed is None else [seed] * self.num_envs
        return self.env.reset(seed=seeds, options=options)


class ListSeedsReversed(VectorWrapper):
    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        if isinstance(seed, list):
            seed.reverse()
        return self.env.reset(seed=seed, options=options)


class MaskIgnored(VectorWrapper):
    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        return self.env.reset(seed=seed)


class NothingReset(VectorWrapper):
    """A mask clears the ends, but no episode begins."""

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        if options is not None:
            return np.zeros(self.observation_space.shape, np.float32), {}
        return self.env.reset(seed=seed)


def overwriting(num_envs: int, mode: AutoresetMode) -> VectorEnv:
    return SyncVectorEnv([Walk] * num_envs, autoreset_mode=mode, copy=False)


@pytest.mark.parametrize(
    ("broken", "mode", "message"),
    [
        (WrongSpace, NEXT_STEP, "observation_space must be single_observation_space batched"),
        (WrongMetadata, SAME_STEP, r"metadata\['autoreset_mode'\] must be .* not 'SameStep'"),
        (WrongDtype, NEXT_STEP, "must have dtype float32, not float64"),
        (IntegerRewards, NEXT_STEP, "rewards must be an array of floating"),
        (ListOfEnds, NEXT_STEP, "terminations must be an array of bool"),
        (NoMask, NEXT_STEP, "'noise' and must have its mask '_noise'"),
        (RewardedReset, NEXT_STEP, "only resets and must have reward 0"),
        (EndlessEnd, NEXT_STEP, "only resets and must not terminate"),
        (NoFinalObservation, SAME_STEP, r"infos\['_final_obs'\] marks \[\]"),
        (NoFinalInfo, SAME_STEP, r"infos\['_final_info'\] marks \[\]"),
        (SeedIgnored, NEXT_STEP, r"reset\(seed=0\) and the same actions again gave another"),
        (SeedZeroIgnored, NEXT_STEP, r"reset\(seed=0\) and the same actions again gave another"),
        (
            NoListOfSeeds,
            NEXT_STEP,
            r"reset\(seed=\[0, 1, 2\]\) and steps after it failed: an integer is required",
        ),
        (OneSeedForAll, NEXT_STEP, "all sub-environments the same random start"),
        (ListSeedsReversed, NEXT_STEP, r"\[0, 1, 2\]\) must do as reset\(seed=0\)"),
        (MaskIgnored, DISABLED, "changed another: environment .'s observation"),
        (NothingReset, DISABLED, "changed another: environment .'s observation"),
    ],
)
def test_a_broken_convention_is_named(
    broken: type[VectorWrapper], mode: AutoresetMode, message: str
) -> None:
    check_vector_env(walks, modes=[mode], steps=60)
    with pytest.raises(ConformanceError, match=message):
        check_vector_env(lambda n, m: broken(walks(n, m)), modes=[mode], steps=60)


def test_overwritten_arrays_are_found() -> None:
    with pytest.raises(ConformanceError, match=r"observations that .* overwritten by a later call"):
        check_vector_env(overwriting, modes=[NEXT_STEP], steps=60)


def test_a_wrong_final_observation_is_found_against_other_modes_and_the_reference() -> None:
    def make(num_envs: int, mode: AutoresetMode) -> VectorEnv:
        envs = walks(num_envs, mode)
        return WrongFinalObservation(envs) if mode is SAME_STEP else envs

    message = "does not end in AutoresetMode.SAME_STEP as in AutoresetMode.NEXT_STEP"
    with pytest.raises(ConformanceError, match=rf"{message}: .*'s observation is"):
        check_vector_env(make, modes=[NEXT_STEP, SAME_STEP], steps=60)
    with pytest.raises(ConformanceError, match=r"differs from the reference: .*observation"):
        check_vector_env(make, modes=[SAME_STEP], steps=60, reference=Walk)


def test_differences_to_the_reference_are_found() -> None:
    def make(num_envs: int, mode: AutoresetMode) -> VectorEnv:
        fns = [partial(limited, Walk, 5)] * num_envs
        return SyncVectorEnv(fns, autoreset_mode=mode)

    with pytest.raises(ConformanceError, match=r"differs from the reference.*'s truncation is"):
        check_vector_env(make, steps=60, reference=partial(limited, Walk, 6))

    class Quiet(Walk):
        def step(self, action: Any) -> tuple:
            return *super().step(action)[:4], {}

    class Louder(Walk):
        def step(self, action: Any) -> tuple:
            return *super().step(action)[:4], {"noise": 2.0}

    with pytest.raises(ConformanceError, match=r"infos\['noise'\] is missing"):
        check_vector_env(walks_of(Quiet), steps=60, reference=Walk)
    with pytest.raises(ConformanceError, match=r"environment 0's infos\['noise'\] is 2.0 instead"):
        check_vector_env(walks_of(Louder), steps=60, reference=Walk)


def walks_of(kind: type[Walk]) -> Make:
    return lambda n, mode: SyncVectorEnv([kind] * n, autoreset_mode=mode)


class LingeringReset(MazeVectorEnv):
    def reset(self, **arguments: Any) -> tuple:
        finished = self._finished.copy()
        result = super().reset(**arguments)
        self._finished = finished
        return result


class MaskRestartsAll(MazeVectorEnv):
    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        result = super().reset(seed=seed, options=options)
        self._elapsed_steps[:] = 0
        return result


class ForgetfulState(MazeVectorEnv):
    def set_state(self, state: Mapping[str, np.ndarray], where: Any = None) -> None:
        steps = np.zeros_like(state["elapsed_steps"])
        super().set_state({**state, "elapsed_steps": steps}, where)


class StateOfAll(MazeVectorEnv):
    def set_state(self, state: Mapping[str, np.ndarray], where: Any = None) -> None:
        super().set_state(state, where)
        if where is not None:
            self._elapsed_steps[:] = self._elapsed_steps[where]


class SharedState(MazeVectorEnv):
    def get_state(self) -> dict[str, np.ndarray]:
        return {**super().get_state(), "elapsed_steps": self._elapsed_steps}


@pytest.mark.parametrize(
    ("broken", "mode", "message"),
    [
        (LingeringReset, NEXT_STEP, "reset right after an episode's end did not begin anew"),
        (MaskRestartsAll, DISABLED, "reset with a mask of environment 0 changed another: .*trunc"),
        (ForgetfulState, SAME_STEP, "the environment did not go on from set_state"),
        (StateOfAll, SAME_STEP, "set that one and leave the others: .*'s truncation is"),
        (SharedState, SAME_STEP, "state that get_state returned were overwritten"),
    ],
)
def test_broken_mazes_are_named(
    broken: type[MazeVectorEnv], mode: AutoresetMode, message: str
) -> None:
    with pytest.raises(ConformanceError, match=message):
        check_vector_env(
            lambda n, m: broken(n, max_episode_steps=7, autoreset_mode=m), modes=[mode], steps=20
        )


def test_a_check_that_would_check_nothing_is_refused() -> None:
    with pytest.raises(ConformanceError, match="no episode ended in 20 random steps"):
        check_vector_env(lambda n, mode: MazeVectorEnv(n, autoreset_mode=mode), steps=20)
    with pytest.raises(InvalidValueError, match="two environments, not 1"):
        check_vector_env(mazes, num_envs=1)
    with pytest.raises(InvalidValueError, match=r"modes \[\]"):
        check_vector_env(mazes, modes=[])
