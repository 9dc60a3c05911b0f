import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from skillrl.envs.maze import DOWN, RIGHT, STAY, MazeEnv, MazeVectorEnv
from skillrl.envs.neural_reward import NeuralRewardVectorWrapper, NeuralRewardWrapper
from skillrl.errors import InvalidValueError
from skillrl.rewards import NeuralReward


class Counter(gym.Env):
    """Observation: 100 × episode + step. Terminates or truncates after ``length`` steps.

    The own reward is 1 a step, so a step that only resets is told from one that does not.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)
    render_mode = None

    def __init__(self, length: int, truncate: bool = False, offset: float = 0.0) -> None:
        self.length, self.truncate, self.offset = length, truncate, offset
        self.episode, self.steps = -1, 0

    def _observation(self) -> np.ndarray:
        return np.array([self.offset + 100.0 * self.episode + self.steps])

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple:
        self.steps += 1
        end = self.steps == self.length
        return self._observation(), 1.0, end and not self.truncate, end and self.truncate, {}


def first(observations: np.ndarray) -> np.ndarray:
    return observations[:, 0]


class Calls:
    """A reward that counts how often it is called."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        self.batches.append(observations.copy())
        return observations[:, 0]


def counters(mode: AutoresetMode) -> SyncVectorEnv:
    # The first terminates after two steps, the second truncates after three.
    fns = [partial(Counter, 2), partial(Counter, 3, truncate=True)]
    return SyncVectorEnv(fns, autoreset_mode=mode)


ACTIONS = np.zeros(2, dtype=np.int64)


def test_same_step_scores_the_final_observation() -> None:
    reward = Calls()
    envs = NeuralRewardVectorWrapper(counters(AutoresetMode.SAME_STEP), reward)
    envs.reset(seed=0)
    steps = [envs.step(ACTIONS) for _ in range(6)]
    assert [s[0][:, 0].tolist() for s in steps] == [
        [1, 1], [100, 2], [101, 100], [200, 101], [201, 102], [300, 200]
    ]  # fmt: skip
    assert [s[1].tolist() for s in steps] == [
        [1, 1], [2, 2], [101, 3], [102, 101], [201, 102], [202, 103]
    ]  # fmt: skip
    assert len(reward.batches) == 6  # one call per step for all environments
    assert [b.shape for b in reward.batches] == [(2, 1)] * 6
    for _, _, terminations, truncations, infos in steps:
        assert infos["task_reward"].tolist() == [1, 1]
        assert infos["_task_reward"].tolist() == [True, True]
        if (terminations | truncations).any():
            np.testing.assert_array_equal(
                infos["final_info"]["_task_reward"], terminations | truncations
            )


def test_next_step_gives_steps_that_reset_no_reward() -> None:
    envs = NeuralRewardVectorWrapper(counters(AutoresetMode.NEXT_STEP), first)
    envs.reset(seed=0)
    steps = [envs.step(ACTIONS) for _ in range(6)]
    assert [s[0][:, 0].tolist() for s in steps] == [
        [1, 1], [2, 2], [100, 3], [101, 100], [102, 101], [200, 102]
    ]  # fmt: skip
    assert [s[1].tolist() for s in steps] == [
        [1, 1],
        [2, 2],
        [0, 3],
        [101, 0],
        [102, 101],
        [0, 102],
    ]
    assert [s[4]["_task_reward"].tolist() for s in steps] == [
        [True, True], [True, True], [False, True], [True, False], [True, True], [False, True]
    ]  # fmt: skip


def test_disabled_scores_every_observation() -> None:
    envs = NeuralRewardVectorWrapper(counters(AutoresetMode.DISABLED), first)
    envs.reset(seed=0)
    rewards = []
    for _ in range(6):
        _, reward, terminations, truncations, infos = envs.step(ACTIONS)
        rewards.append(reward.tolist())
        assert infos["task_reward"].tolist() == [1, 1]
        if (terminations | truncations).any():
            envs.reset(options={"reset_mask": terminations | truncations})
    assert rewards == [[1, 1], [2, 2], [101, 3], [102, 101], [201, 102], [202, 103]]


def test_a_reset_by_hand_ends_the_pending_one() -> None:
    envs = NeuralRewardVectorWrapper(counters(AutoresetMode.NEXT_STEP), first)
    envs.reset(seed=0)
    envs.step(ACTIONS)
    envs.step(ACTIONS)  # the first environment has terminated
    envs.reset(options={"reset_mask": np.array([True, False])})
    assert envs.step(ACTIONS)[1].tolist() == [101, 3]
    envs.reset()
    assert envs.step(ACTIONS)[1].tolist() == [201, 101]
    envs.step(ACTIONS)  # the first has terminated again; the other is reset by hand
    envs.reset(options={"reset_mask": np.array([False, True])})
    assert envs.step(ACTIONS)[1].tolist() == [0, 201]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector_equals_a_vector_of_wrapped_environments(mode: AutoresetMode) -> None:
    def wrapped(length: int, truncate: bool) -> gym.Env:
        return NeuralRewardWrapper(Counter(length, truncate), first)

    fns = [partial(wrapped, 2, False), partial(wrapped, 3, True)]
    theirs = SyncVectorEnv(fns, autoreset_mode=mode)
    ours = NeuralRewardVectorWrapper(counters(mode), first)
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for _ in range(12):
        *mine, info = ours.step(ACTIONS)
        *others, other_info = theirs.step(ACTIONS)
        assert data_equivalence(mine, others, exact=True)
        assert data_equivalence(info.get("final_info"), other_info.get("final_info"), exact=True)
        mask = other_info["_task_reward"] if "_task_reward" in other_info else np.zeros(2, bool)
        assert (info["_task_reward"] >= mask).all()
        np.testing.assert_array_equal(
            info["task_reward"][mask], other_info.get("task_reward", ACTIONS)[mask]
        )
        done = mine[2] | mine[3]
        if mode is AutoresetMode.DISABLED and done.any():
            ours.reset(options={"reset_mask": done})
            theirs.reset(options={"reset_mask": done})


def test_dense_final_observations_are_read_too() -> None:
    """ALE's vector environment gives an array of all observations and no mask."""

    class Dense(gym.vector.VectorWrapper):
        def step(self, actions: Any) -> tuple:
            observations, rewards, terminations, truncations, infos = self.env.step(actions)
            if "final_obs" in infos:
                dense = np.zeros_like(observations)
                for i in np.flatnonzero(infos["_final_obs"]):
                    dense[i] = infos["final_obs"][i]
                infos = {"final_obs": dense}
            return observations, rewards, terminations, truncations, infos

    envs = NeuralRewardVectorWrapper(Dense(counters(AutoresetMode.SAME_STEP)), first)
    envs.reset(seed=0)
    rewards = [envs.step(ACTIONS)[1].tolist() for _ in range(3)]
    assert rewards == [[1, 1], [2, 2], [101, 3]]


def test_single_environment() -> None:
    env = NeuralRewardWrapper(Counter(2), first)
    env.reset(seed=0)
    assert env.step(0) == (np.array([1.0]), 1.0, False, False, {"task_reward": 1.0})
    assert env.step(0) == (np.array([2.0]), 2.0, True, False, {"task_reward": 1.0})


def test_set_reward_changes_the_following_steps_only() -> None:
    env = NeuralRewardWrapper(Counter(9), first)
    envs = NeuralRewardVectorWrapper(SyncVectorEnv([partial(Counter, 9)] * 2), first)
    env.reset()
    envs.reset()
    assert (env.step(0)[1], envs.step(ACTIONS)[1].tolist()) == (1, [1, 1])
    env.set_reward(lambda observations: -observations[:, 0])
    envs.set_reward(lambda observations: -observations[:, 0])
    assert (env.step(0)[1], envs.step(ACTIONS)[1].tolist()) == (-2, [-2, -2])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "reward.safetensors"
    NeuralReward((2,), kind="grid", size=(32, 32), target=0.05).save(path)
    return path


def test_network_and_path_give_the_networks_own_rewards(saved: Path) -> None:
    network = NeuralReward.load(saved)
    expected = network.reward(np.array([[2, 1], [1, 2]]))
    for reward in (network, saved, str(saved)):
        envs = NeuralRewardVectorWrapper(MazeVectorEnv(2), reward)
        envs.reset(seed=0)
        np.testing.assert_array_equal(envs.step(np.array([DOWN, RIGHT]))[1], expected)
        env = NeuralRewardWrapper(MazeEnv(), reward)
        env.reset(seed=0)
        np.testing.assert_allclose(env.step(DOWN)[1], expected[0], rtol=1e-5, atol=1e-7)


def maze_with_spec(render_mode: str | None = None) -> gym.Env:
    env = MazeEnv(render_mode)
    env.spec = EnvSpec(
        "Maze-v0", entry_point="skillrl.envs.maze:MazeEnv", kwargs={"render_mode": render_mode}
    )
    return env


def test_spec_rebuilds_environment_and_reward(saved: Path) -> None:
    env = NeuralRewardWrapper(TimeLimit(maze_with_spec(), 7), saved)
    assert env.spec is not None
    rebuilt = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(rebuilt, NeuralRewardWrapper)
    env.reset(seed=0)
    rebuilt.reset(seed=0)
    for _ in range(7):
        assert data_equivalence(env.step(DOWN), rebuilt.step(DOWN), exact=True)

    other = saved.with_name("other.safetensors")
    NeuralReward((2,), kind="grid", size=(32, 32), target=3.0).save(other)
    spec = env.spec
    env.set_reward(other)
    assert spec.additional_wrappers[-1].kwargs == {"reward": str(saved)}
    assert env.spec.additional_wrappers[-1].kwargs == {"reward": str(other)}


def test_a_function_is_in_the_spec_but_not_in_json() -> None:
    env = NeuralRewardWrapper(maze_with_spec(), first)
    assert env.spec is not None
    rebuilt = gym.make(env.spec)
    rebuilt.reset(seed=0)
    assert rebuilt.step(DOWN)[1] == 2.0
    with pytest.raises(TypeError, match="JSON"):
        env.spec.to_json()


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_single_wrapper_passes_gymnasiums_check(saved: Path) -> None:
    check_env(NeuralRewardWrapper(maze_with_spec("rgb_array"), saved))


def test_rendering_and_states_pass_through() -> None:
    maze = MazeVectorEnv(2, render_mode="rgb_array")
    envs = NeuralRewardVectorWrapper(maze, first)
    envs.reset(seed=0)
    np.testing.assert_array_equal(envs.render(), maze.render())
    assert envs.max_episode_steps == 250
    assert hasattr(envs, "get_state")
    plain = NeuralRewardVectorWrapper(SyncVectorEnv([MazeEnv]), first)
    assert not hasattr(plain, "get_state")
    assert not hasattr(plain, "set_state")
    env = NeuralRewardWrapper(MazeEnv("rgb_array"), first)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), maze.render()[0])  # type: ignore[index]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_rewards_after_a_restored_state(mode: AutoresetMode) -> None:
    maze = MazeVectorEnv(2, max_episode_steps=2, autoreset_mode=mode)
    envs = NeuralRewardVectorWrapper(maze, first)
    actions = np.array([DOWN, STAY])
    envs.reset(seed=0)
    envs.step(actions)
    envs.step(actions)  # both have ended
    state = envs.get_state()
    expected = [envs.step(actions)[1].tolist() for _ in range(3)]
    ahead = envs.get_state()
    envs.set_state(state)
    assert [envs.step(actions)[1].tolist() for _ in range(3)] == expected
    assert expected[0] == ([0, 0] if mode is AutoresetMode.NEXT_STEP else [2, 1])

    # The first environment goes back, the second goes on.
    envs.set_state(ahead)
    back = {name: array[:1] for name, array in state.items()}
    envs.set_state(back, np.array([True, False]))
    after = envs.step(actions)[1].tolist()
    assert after[0] == expected[0][0]
    if mode is AutoresetMode.NEXT_STEP:
        with pytest.raises(InvalidValueError, match="'reward_resetting'"):
            envs.set_state(maze.get_state())


def test_a_reward_of_another_shape_is_refused() -> None:
    reward = NeuralReward((3,))
    message = r"shape \(3,\), the environment's have shape \(2,\)"
    with pytest.raises(InvalidValueError, match=message):
        NeuralRewardWrapper(MazeEnv(), reward)
    with pytest.raises(InvalidValueError, match=message):
        NeuralRewardVectorWrapper(MazeVectorEnv(2), reward)
    envs = NeuralRewardVectorWrapper(MazeVectorEnv(2), first)
    with pytest.raises(InvalidValueError, match=message):
        envs.set_reward(reward)
    envs.reset()
    assert envs.step(np.array([DOWN, STAY]))[1].tolist() == [2, 1]  # the old reward stays


def test_rewards_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="not 3"):
        NeuralRewardWrapper(MazeEnv(), 3)  # type: ignore[arg-type]
    env = NeuralRewardWrapper(MazeEnv(), lambda observations: observations)
    env.reset()
    with pytest.raises(InvalidValueError, match=r"shape \(1,\), not \(1, 2\)"):
        env.step(STAY)
    env.set_reward(lambda observations: np.full(len(observations), np.nan))
    with pytest.raises(InvalidValueError, match="reward of environment 0 at step 2 is not finite"):
        env.step(STAY)


def test_observations_that_are_no_arrays_are_refused() -> None:
    env = MazeEnv()
    env.observation_space = gym.spaces.Dict(position=env.observation_space)  # type: ignore
    with pytest.raises(InvalidValueError, match="FlattenObservation"):
        NeuralRewardWrapper(env, first)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_is_named(value: float) -> None:
    class Diverging(Counter):
        def step(self, action: Any) -> tuple:
            observation, *rest = super().step(action)
            return observation * (value if self.steps == 3 else 1.0), *rest

    env = NeuralRewardWrapper(Diverging(9), first)
    env.reset()
    env.step(0)
    env.step(0)
    with pytest.raises(
        InvalidValueError, match=rf"environment 0 at step 3 is not finite: {value} at index \(0,\)"
    ):
        env.step(0)
    envs = NeuralRewardVectorWrapper(
        SyncVectorEnv([partial(Counter, 9), partial(Diverging, 9)]), first
    )
    envs.reset()
    envs.step(ACTIONS)
    envs.step(ACTIONS)
    with pytest.raises(InvalidValueError, match=r"environment 1 at step 3 .* diverged"):
        envs.step(ACTIONS)


def test_environments_with_unclear_ends_are_refused() -> None:
    envs = counters(AutoresetMode.SAME_STEP)
    envs.metadata = {}
    with pytest.raises(InvalidValueError, match=r"metadata\['autoreset_mode'\]"):
        NeuralRewardVectorWrapper(envs, first)

    class Forgetful(gym.vector.VectorWrapper):
        def step(self, actions: Any) -> tuple:
            return *self.env.step(actions)[:4], {}

    wrapped = NeuralRewardVectorWrapper(Forgetful(counters(AutoresetMode.SAME_STEP)), first)
    wrapped.reset()
    wrapped.step(ACTIONS)
    with pytest.raises(InvalidValueError, match=r"environments \[0\] .* no 'final_obs'"):
        wrapped.step(ACTIONS)


def test_wrapping_with_a_function_does_not_load_torch() -> None:
    code = (
        "import sys, skillrl.envs.neural_reward as m, skillrl.envs.maze as z;"
        "m.NeuralRewardWrapper(z.MazeEnv(), lambda o: o[:, 0]);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_skills_folder_stands_for_its_reward(tmp_path: Path) -> None:
    reward = NeuralReward((4,))
    reward.save(tmp_path / "reward.safetensors")
    env = NeuralRewardWrapper(gym.make("CartPole-v1"), tmp_path)
    env.reset(seed=0)
    observation, value, *_ = env.step(0)
    assert value == reward.reward(observation[None])[0]


def test_a_vector_environment_is_told_of_its_own_wrapper() -> None:
    envs: Any = gym.make_vec("CartPole-v1", 2)
    with pytest.raises(InvalidValueError, match="wrap it in NeuralRewardVectorWrapper"):
        NeuralRewardWrapper(envs, lambda observations: observations[:, 0])
    envs.close()
