"""make_vec picks the fastest implementation, and tells what it does not know."""

import copy
import subprocess
import sys
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from skillrl.envs.atari.games import available
from skillrl.envs.make import find_spec, make_vec
from skillrl.envs.mujoco import MujocoVectorEnv
from skillrl.envs.mujoco.model import quiet_loading
from skillrl.envs.mujoco.tasks import TASKS
from skillrl.envs.registration import MUJOCO_IDS, register_envs
from skillrl.errors import InvalidValueError

MODES = list(AutoresetMode)


OTHERS = ("Maze2D-v0", "RepeatPrevious-v0", "TMaze-v0")
ATARI = tuple(f"{game.title().replace('_', '')}-v5" for game in available())


def test_registering_leaves_gymnasiums_own_ids_alone() -> None:
    script = """
import sys
import gymnasium as gym
before = {id: str(spec) for id, spec in gym.registry.items()}
from skillrl.envs.registration import register_envs
register_envs()
after = {id: str(spec) for id, spec in gym.registry.items()}
register_envs()
assert {id: str(spec) for id, spec in gym.registry.items()} == after
assert {id: after[id] for id in before} == before
print(sorted(set(after) - set(before)))
print(sorted({'mujoco', 'torch', 'stable_baselines3', 'ale_py'} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        str(sorted(f"skillrl/{id}" for id in (*TASKS, *OTHERS, *ATARI))),
        "[]",
    ]


@pytest.mark.parametrize("id", MUJOCO_IDS)
def test_registered_tasks_follow_gymnasiums(id: str) -> None:
    register_envs()
    ours, theirs = gym.spec(f"skillrl/{id}"), gym.spec(id)
    assert ours.entry_point == theirs.entry_point
    assert ours.max_episode_steps == theirs.max_episode_steps == TASKS[id].max_episode_steps
    assert ours.reward_threshold == theirs.reward_threshold
    with quiet_loading():
        single = gym.make(f"skillrl/{id}")
    assert type(single.unwrapped).__module__.startswith("gymnasium.envs.mujoco")
    batched = gym.make_vec(f"skillrl/{id}", 2)
    assert isinstance(batched, MujocoVectorEnv)
    assert batched.single_observation_space == single.observation_space
    assert repr(batched) == f"MujocoVectorEnv(skillrl/{id}, num_envs=2)"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("id", "implementation"),
    [
        ("HalfCheetah-v5", "MujocoVectorEnv"),
        ("skillrl/HalfCheetah-v5", "MujocoVectorEnv"),
        ("HalfCheetah", "MujocoVectorEnv"),
        ("Acrobot-v1", "SyncVectorEnv"),
        ("HalfCheetah-v4", "SyncVectorEnv"),
        ("skillrl/Maze2D-v0", "MazeVectorEnv"),
        ("skillrl/Freeway-v5", "AtariVectorEnv"),
    ],
)
def test_the_fastest_implementation(id: str, implementation: str, mode: AutoresetMode) -> None:
    envs = make_vec(id, 2, num_threads=1, autoreset_mode=mode)
    assert type(envs).__name__ == implementation
    assert envs.num_envs == 2
    assert envs.metadata["autoreset_mode"] is mode
    envs.close()


@pytest.mark.parametrize("mode", MODES)
def test_an_entry_point_without_the_autoreset_mode_is_passed_over(mode: AutoresetMode) -> None:
    # CartPole has a vectorised implementation, which knows one mode only.
    envs = make_vec("CartPole-v1", 2, autoreset_mode=mode)
    assert envs.metadata["autoreset_mode"] is mode
    assert isinstance(envs, SyncVectorEnv) == (mode is not AutoresetMode.NEXT_STEP)
    envs.close()


def test_arguments_reach_the_environment() -> None:
    envs = make_vec("Hopper-v5", 2, max_episode_steps=2, reset_noise_scale=0.0)
    observations, _ = envs.reset(seed=0)
    assert np.array_equal(observations[0], [1.25] + [0.0] * 10)
    assert [envs.step(np.zeros((2, 3)))[3].all() for _ in range(2)] == [False, True]
    with pytest.raises(InvalidValueError, match=r"no argument 'healthy_reword'.*'healthy_reward'"):
        make_vec("Hopper-v5", healthy_reword=2.0)


@pytest.mark.parametrize(
    ("id", "suggested"),
    [
        ("HalfCheetah-v9", ["HalfCheetah-v5"]),
        ("halfcheetah-v5", ["HalfCheetah-v5"]),
        ("HalfCheeta", ["HalfCheetah-v5"]),
        ("skilrl/Maze2D-v0", ["skillrl/Maze2D-v0"]),
        ("skillrl/Maze-v0", ["skillrl/Maze2D-v0"]),
        ("Atn-v5", ["Ant-v5"]),
        ("montezuma", ["skillrl/MontezumaRevenge-v5"]),
        ("Earthworld", ["skillrl/Earthworld-v5"]),
        ("what is this", []),
        ("", []),
    ],
)
def test_unknown_ids_bring_the_nearest(id: str, suggested: list[str]) -> None:
    with pytest.raises(InvalidValueError) as caught:
        make_vec(id, 2)
    message = str(caught.value)
    assert repr(id) in message
    for each in suggested:
        assert repr(each) in message
    if not suggested:
        assert "Import the package" in message


def test_a_package_before_the_id_is_imported(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package_with_envs.py").write_text(
        "import gymnasium as gym\n"
        "gym.register('Elsewhere-v0', 'gymnasium.envs.classic_control:PendulumEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert find_spec("package_with_envs:Elsewhere-v0").id == "Elsewhere-v0"
    finally:
        gym.registry.pop("Elsewhere-v0", None)
    with pytest.raises(InvalidValueError, match="'no_such_package' cannot be imported"):
        make_vec("no_such_package:Elsewhere-v0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"num_envs": 2.0}, "num_envs=2.0"),
        ({"autoreset_mode": "sometimes"}, "autoreset_mode='sometimes': choose from"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make_vec("Acrobot-v1", **arguments)


def test_arguments_that_an_environment_lacks_bring_those_it_has() -> None:
    with pytest.raises(InvalidValueError, match=r"argument 'frame_skip'\. It takes repeat_action"):
        make_vec("skillrl/Pong-v5", 2, frame_skip=4)
    with pytest.raises(InvalidValueError, match=r"argument 'len'\. It takes length\.$"):
        make_vec("skillrl/TMaze-v0", 2, len=4)


def test_games_that_are_to_be_rendered_come_with_pictures() -> None:
    with closing(make_vec("skillrl/Pong-v5", 2, render_mode="rgb_array")) as envs:
        envs.reset(seed=0)
        pictures = envs.render()
    assert pictures is not None
    assert [np.shape(each) for each in pictures] == [(210, 160, 3)] * 2
    told = pytest.raises(InvalidValueError, match="has no pictures: make games that have by")
    with closing(make_vec("skillrl/Pong-v5", 2)) as envs, told:
        envs.render()


def test_the_specification_rebuilds_the_environment() -> None:
    envs = make_vec("Hopper-v5", 3, reset_noise_scale=0.0)
    assert isinstance(envs.spec, EnvSpec)
    again: VectorEnv = gym.make_vec(copy.deepcopy(envs.spec))
    assert isinstance(again, MujocoVectorEnv)
    assert again.num_envs == 3
    assert np.array_equal(again.reset(seed=0)[0], envs.reset(seed=0)[0])


def test_ataris_games_need_no_import() -> None:
    # In its own process: here another test may have imported ale_py before.
    code = "from skillrl.envs.make import find_spec; print(find_spec('ALE/Pong-v5').id)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "ALE/Pong-v5\n", result.stderr
    envs = make_vec("ALE/Pong-v5", num_envs=2, autoreset_mode="SameStep")
    envs.reset(seed=1)
    assert envs.step(np.zeros(2, np.int64))[1].shape == (2,)
    envs.close()


@pytest.mark.parametrize("id", ["CartPole-v1", "Acrobot-v1"])
def test_arguments_that_an_environment_does_not_take_are_named(id: str) -> None:
    with pytest.raises(InvalidValueError, match=f"{id} cannot be made with the arguments {{'foo'"):
        make_vec(id, num_envs=2, foo=1)
