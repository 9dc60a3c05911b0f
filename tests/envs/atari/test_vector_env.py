"""The vector environment, in threads and in processes."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from skillrl.envs import NeuralRewardVectorWrapper, RestartVectorWrapper, SB3VecEnv, make_vec
from skillrl.envs.atari import AtariEnv, AtariVectorEnv
from skillrl.envs.atari.games import available
from skillrl.envs.registration import register_envs
from skillrl.envs.testing import check_vector_env
from skillrl.errors import InvalidValueError, SkillrlError

MONTEZUMA = "skillrl/MontezumaRevenge-v5"
KINDS = pytest.mark.parametrize("saves_states", [False, True], ids=["threads", "processes"])


@KINDS
@pytest.mark.parametrize("mode", AutoresetMode)
def test_it_conforms_and_equals_single_environments(
    saves_states: bool, mode: AutoresetMode
) -> None:
    settings: dict[str, Any] = {"max_episode_steps": 3}

    def make(num_envs: int, autoreset_mode: AutoresetMode) -> gym.vector.VectorEnv:
        return make_vec(
            MONTEZUMA,
            num_envs,
            num_threads=2,
            autoreset_mode=autoreset_mode,
            saves_states=saves_states,
            **settings,
        )

    register_envs()
    check_vector_env(
        make,
        modes=[mode],
        num_envs=2,
        steps=7,
        reference=lambda: gym.make(MONTEZUMA, disable_env_checker=True, **settings),
    )


@KINDS
def test_deaths_equal_those_of_single_environments(saves_states: bool) -> None:
    register_envs()
    envs = AtariVectorEnv(
        "montezuma_revenge",
        2,
        num_threads=2,
        autoreset_mode="SameStep",
        saves_states=saves_states,
        repeat_action_probability=0.25,
    )
    single = gym.make(MONTEZUMA, disable_env_checker=True, repeat_action_probability=0.25)
    sync = SyncVectorEnv([lambda: single.unwrapped] * 1, autoreset_mode="SameStep")
    envs.reset(seed=4)
    sync.reset(seed=4)
    deaths = 0
    for actions in np.random.default_rng(4).choice(
        [3] * 9 + [0], (80, 2)
    ):  # to the right, off the ledge
        ours, theirs = envs.step(actions), sync.step(actions[:1])
        for one, other in zip(ours[:4], theirs[:4], strict=True):
            assert np.array_equal(one[:1], other)
        for key in ("lives", "episode_frame_number"):
            assert ours[4][key][0] == theirs[4][key][0]
        if theirs[2][0]:
            assert np.array_equal(ours[4]["final_obs"][0], theirs[4]["final_obs"][0])
            assert ours[4]["final_info"]["lives"][0] == theirs[4]["final_info"]["lives"][0] == 5
            deaths += 1
    assert deaths >= 2
    envs.close()


def test_skipped_deaths_equal_those_of_single_environments() -> None:
    settings: dict[str, Any] = {"terminal_on_life_loss": False, "skip_deaths": True}
    envs = AtariVectorEnv("montezuma_revenge", 2, autoreset_mode="SameStep", **settings)
    single = AtariEnv("montezuma_revenge", **settings)
    observations, _ = envs.reset(seed=4)
    expected, _ = single.reset(seed=4)
    assert np.array_equal(observations[0], expected)
    lives: set[int] = set()
    ways: list[list[np.ndarray]] = []
    state = envs.get_state()
    for _ in range(2):
        envs.set_state(state)
        ways.append([])
        for _ in range(60):
            observations, _, _, _, infos = envs.step(np.array([3, 0]))
            ways[-1].append(observations)
            lives.add(int(infos["lives"][0]))
    assert np.array_equal(ways[0], ways[1])
    assert min(lives) < 6
    for seen in ways[0]:
        expected, *_ = single.step(np.int64(3))
        assert np.array_equal(seen[0], expected)
    envs.close()


def test_an_episode_that_is_cut_off_with_a_skipped_death_leaves_nothing_behind() -> None:
    envs = AtariVectorEnv(
        "montezuma_revenge",
        terminal_on_life_loss=False,
        skip_deaths=True,
        max_episode_steps=9,
    )
    envs.reset(seed=0)
    lives, truncated = [], False
    while not truncated:
        observations, _, _, (truncated,), infos = envs.step(np.array([3]))
        lives += infos["lives"].tolist()
    assert lives[-2:] == [6, 5]
    assert (observations[0] == observations[0, -1]).all()
    observations, *_ = envs.step(np.array([3]))
    assert not observations[0, :3].any()
    envs.close()


def test_other_wrappers_go_with_it() -> None:
    envs: Any = make_vec(
        MONTEZUMA, 2, autoreset_mode="SameStep", saves_states=True, max_episode_steps=3
    )
    envs = RestartVectorWrapper(envs, share=1.0)
    envs = NeuralRewardVectorWrapper(envs, lambda observations: observations[:, -1].mean((1, 2)))
    agents = SB3VecEnv(envs)
    agents.seed(0)
    agents.reset()
    for _ in range(2):
        reached, rewards, *_ = agents.step(np.full(2, 3))
    observations = np.asarray(reached)
    assert np.allclose(rewards, observations[:, -1].mean((1, 2)))
    saved: dict[str, np.ndarray] = envs.get_state()
    saved = {key: rows for key, rows in saved.items() if key != "reward_resetting"}
    envs.set_starts(saved)
    _, _, dones, infos = agents.step(np.full(2, 3))  # ends both, which begin again one step back
    assert dones.all()
    final = [infos[i]["terminal_observation"] for i in range(2)]
    _, _, dones, infos = agents.step(np.full(2, 3))
    assert dones.all()
    for i in range(2):
        assert np.array_equal(infos[i]["terminal_observation"], final[i])
    agents.close()


def test_only_processes_have_states() -> None:
    envs = AtariVectorEnv("freeway", num_threads=1)
    assert not hasattr(envs, "get_state")
    assert not hasattr(envs, "set_state")
    with pytest.raises(AttributeError, match="saves_states=True"):
        envs.get_state()
    envs.close()


def test_a_state_can_be_set_before_any_reset() -> None:
    one, other = (AtariVectorEnv("freeway", 2, num_threads=1, saves_states=True) for _ in "12")
    one.reset(seed=0)
    one.step(np.array([1, 0]))
    state = one.get_state()
    with pytest.raises(ResetNeeded, match="the state of all environments"):
        other.set_state({name: rows[:1] for name, rows in state.items()}, where=[0])
    with pytest.raises(ResetNeeded):
        other.step(np.array([1, 1]))
    other.set_state(state)
    for actions in ([1, 1], [2, 0]):
        ours, theirs = (envs.step(np.array(actions)) for envs in (one, other))
        np.testing.assert_array_equal(ours[0], theirs[0])
    one.close()
    other.close()


def test_a_state_of_another_shape_is_refused() -> None:
    envs = AtariVectorEnv("freeway", saves_states=True)
    with pytest.raises(ResetNeeded):
        envs.get_state()
    envs.reset(seed=0)
    state = envs.get_state()
    with pytest.raises(InvalidValueError, match=r"'screen' must have shape \(1, 210, 160\)"):
        envs.set_state({**state, "screen": state["screen"][:, :9]})
    del state["console"]
    with pytest.raises(InvalidValueError, match=r"'console' must have .* got nothing"):
        envs.set_state(state)
    envs.close()


def test_a_state_of_another_game_is_refused_and_the_games_go_on() -> None:
    envs, other = (AtariVectorEnv(game, saves_states=True) for game in ("freeway", "pong"))
    envs.reset(seed=0)
    other.reset(seed=0)
    with pytest.raises(InvalidValueError, match="of another game than 'freeway'"):
        envs.set_state(other.get_state())
    envs.step(np.zeros(1, np.int64))
    envs.close()
    other.close()


def test_a_process_that_is_killed_is_told() -> None:
    envs: Any = AtariVectorEnv("freeway", saves_states=True)
    envs.reset(seed=0)
    (process,) = envs._games._processes
    process.kill()
    process.wait()
    with pytest.raises(SkillrlError, match="A process that plays games has ended"):
        envs.step(np.zeros(1, np.int64))


def test_what_cannot_be_used_is_named() -> None:
    with pytest.raises(InvalidValueError, match="no game 'montezuma'"):
        AtariVectorEnv("montezuma")
    envs = AtariVectorEnv("freeway", 2, num_threads=1, autoreset_mode="Disabled")
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros(2, np.int64))
    for seed in (-1, [0, -1], 2**31 - 1):
        with pytest.raises(InvalidValueError, match="ALE takes whole numbers"):
            envs.reset(seed=seed)
    with pytest.raises(InvalidValueError, match="one for each of the 2"):
        envs.reset(seed=[1, 2, 3])
    envs.reset(seed=[None, np.int64(3)])  # type: ignore[list-item]
    # Which would leave ALE's own vector environment waiting forever.
    for actions in ([0, 3], [0, -1], [0], [0.0, 1.0]):
        with pytest.raises(InvalidValueError, match="integers in 0 … 2 of shape"):
            envs.step(np.array(actions))
    with pytest.raises(InvalidValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.array([True])})
    envs.close()


def test_every_game_is_registered() -> None:
    register_envs()
    ours = {
        spec.kwargs["game"]: spec.id
        for spec in gym.registry.values()
        if spec.vector_entry_point == "skillrl.envs.atari:AtariVectorEnv"
    }
    assert sorted(ours) == available()
    assert all(gym.spec(id).max_episode_steps == 27_000 for id in ours.values())
    import ale_py  # noqa: F401 (registers ALE's)

    assert {id.replace("skillrl/", "ALE/") for id in ours.values()} <= set(gym.registry)
