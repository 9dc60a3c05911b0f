from collections import deque
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from PIL import Image

from skillrl.envs.maze import (
    DANGER_COLUMN,
    DOWN,
    LEFT,
    RIGHT,
    SIZE,
    START,
    STAY,
    UP,
    WALLS,
    MazeEnv,
    MazeVectorEnv,
    Observation,
    move,
)
from skillrl.errors import InvalidValueError

# Down through the openings in columns 25, 6, 25 and 6, which the walls in rows 6, 12, 19, 25 leave.
ORACLE = [DOWN] * 4 + [RIGHT] * 24 + [DOWN] * 6 + [LEFT] * 19 + [DOWN] * 7 + [RIGHT] * 19
ORACLE += [DOWN] * 6 + [LEFT] * 19 + [DOWN] * 6


def test_walls_are_those_drawn_by_hand() -> None:
    border = "#" * 32
    corridor = "#" + "." * 30 + "#"
    opening_right = "#" * 25 + "." * 6 + "#"
    opening_left = "#" + "." * 6 + "#" * 25
    rows = [border] + [corridor] * 5 + [opening_right] + [corridor] * 5 + [opening_left]
    rows += [corridor] * 6 + [opening_right] + [corridor] * 5 + [opening_left]
    rows += [corridor] * 5 + [border]
    assert ["".join(".#"[int(wall)] for wall in row) for row in WALLS] == rows


@pytest.mark.parametrize(
    ("position", "action", "expected"),
    [
        ((3, 3), STAY, (3, 3)),
        ((3, 3), UP, (2, 3)),
        ((3, 3), DOWN, (4, 3)),
        ((3, 3), LEFT, (3, 2)),
        ((3, 3), RIGHT, (3, 4)),
        ((1, 1), UP, (1, 1)),  # the border
        ((30, 30), RIGHT, (30, 30)),
        ((5, 24), DOWN, (5, 24)),  # the last cell of the first wall …
        ((5, 25), DOWN, (6, 25)),  # … and its opening
        ((11, 7), DOWN, (11, 7)),
        ((11, 6), DOWN, (12, 6)),
        ((20, 14), RIGHT, (20, 15)),  # into column 15, and out of it
        ((20, 15), RIGHT, (20, 16)),
        ((20, 15), LEFT, (20, 14)),
        ((20, 15), STAY, START),
        ((20, 15), UP, START),
        ((20, 15), DOWN, START),
    ],
)
def test_one_step(position: tuple[int, int], action: int, expected: tuple[int, int]) -> None:
    assert move(np.array([position]), np.array([action]))[0].tolist() == list(expected)
    envs = MazeVectorEnv(2)
    envs.reset()
    envs.set_state({**envs.get_state(), "observations": np.array([position, START])})
    assert envs.step(np.array([action, STAY]))[0].tolist() == [list(expected), list(START)]


def test_oracle_reaches_the_bottom_in_110_steps_and_nobody_is_faster() -> None:
    env = MazeEnv()
    env.reset(seed=0)
    rows = [env.step(np.int64(action))[0][0] for action in ORACLE]
    assert len(rows) == 110
    assert rows.index(30) == 109

    distance = {START: 0}
    queue = deque([START])
    while queue:
        position = queue.popleft()
        for action in range(5):
            after = tuple(move(np.array([position]), np.array([action]))[0].tolist())
            if after not in distance:
                distance[after] = distance[position] + 1
                queue.append(after)
    assert min(steps for (row, _), steps in distance.items() if row == 30) == 110
    assert len(distance) == (~WALLS).sum()  # every free cell can be reached
    assert max(distance.values()) < 250


OBSERVATIONS = pytest.mark.parametrize("observation", ["position", "image"])


@OBSERVATIONS
@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector_equals_gymnasiums_vector_of_single_mazes(
    mode: AutoresetMode, observation: Observation
) -> None:
    ours = MazeVectorEnv(4, max_episode_steps=7, autoreset_mode=mode, observation=observation)
    theirs = SyncVectorEnv([partial(_limited, 7, observation)] * 4, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert data_equivalence(ours.reset(seed=0), theirs.reset(seed=0), exact=True)
    rng = np.random.default_rng(0)
    # One environment is reset early, so that episodes end at different steps.
    early = {"reset_mask": np.array([False, True, False, False])}
    for step in range(30):
        if step == 3:
            assert data_equivalence(
                ours.reset(options=dict(early)), theirs.reset(options=dict(early)), exact=True
            )
        actions = rng.integers(0, 5, 4)
        mine, others = ours.step(actions), theirs.step(actions)
        assert data_equivalence(mine, others, exact=True)
        done = mine[2] | mine[3]
        if mode is AutoresetMode.DISABLED and done.any():
            assert data_equivalence(
                ours.reset(options={"reset_mask": done}),
                theirs.reset(options={"reset_mask": done}),
                exact=True,
            )


def _limited(steps: int, observation: Observation) -> gym.Env:
    return TimeLimit(MazeEnv(observation=observation), steps)


def test_an_observed_picture_is_the_rendered_one_in_grey_negative_and_shrunk() -> None:
    env = MazeEnv(render_mode="rgb_array", observation="image")
    seen = [env.reset(seed=0)[0], *(env.step(np.int64(each))[0] for each in (RIGHT, DOWN))]
    for observation in seen:
        assert env.observation_space.contains(observation)
    frame = env.render()
    assert frame is not None
    small = Image.fromarray(frame).convert("L").resize((64, 64), Image.Resampling.BOX)
    difference = np.abs(seen[-1][0].astype(int) - (255 - np.asarray(small).astype(int)))
    assert difference.max() <= 1
    # A cell to the right, and below: the agent is bright, and dark is where it was.
    assert seen[1][0, 2:4, 4:6].min() > seen[2][0, 2:4, 4:6].max()
    assert seen[2][0, 4:6, 4:6].min() > seen[1][0, 4:6, 4:6].max()


@OBSERVATIONS
def test_single_maze_passes_gymnasiums_check(observation: Observation) -> None:
    env = MazeEnv(render_mode="rgb_array", observation=observation)
    env.spec = EnvSpec("Maze-v0", entry_point="skillrl.envs.maze:MazeEnv")
    check_env(env)


def test_registered() -> None:
    import skillrl  # noqa: F401

    env = gym.make("skillrl/Maze2D-v0")
    env.reset(seed=0)
    truncated = [env.step(STAY)[3] for _ in range(250)]
    assert truncated == [False] * 249 + [True]
    envs = gym.make_vec("skillrl/Maze2D-v0", num_envs=3, autoreset_mode="SameStep")
    assert isinstance(envs, MazeVectorEnv)
    assert envs.max_episode_steps == 250
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_picture_shows_walls_danger_start_and_agent() -> None:
    envs = MazeVectorEnv(2, render_mode="rgb_array")
    envs.reset()
    envs.step(np.array([RIGHT, DOWN]))
    frames = envs.render()
    assert frames is not None
    assert [frame.shape for frame in frames] == [(256, 256, 3)] * 2
    assert frames[0].dtype == np.uint8

    def colour(frame: np.ndarray, row: int, column: int) -> tuple[int, ...]:
        return tuple(frame[8 * row + 4, 8 * column + 4].tolist())

    wall, free, danger = (colour(frames[0], *cell) for cell in ((0, 0), (2, 3), (2, 15)))
    start, agent = colour(frames[0], 1, 1), colour(frames[0], 1, 2)
    assert len({wall, free, danger, start, agent}) == 5
    assert colour(frames[0], 6, 24) == wall
    assert colour(frames[0], 6, 25) == free
    assert colour(frames[0], 6, DANGER_COLUMN) == wall
    assert colour(frames[1], 2, 1) == agent
    assert colour(frames[1], 1, 2) == free

    single = MazeEnv(render_mode="rgb_array")
    single.reset()
    single.step(np.int64(RIGHT))
    np.testing.assert_array_equal(single.render(), frames[0])
    with pytest.warns(UserWarning, match="rgb_array"):
        assert MazeEnv().render() is None


@OBSERVATIONS
@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_restored_state_continues_exactly(mode: AutoresetMode, observation: Observation) -> None:
    envs = MazeVectorEnv(3, max_episode_steps=5, autoreset_mode=mode, observation=observation)
    envs.reset()
    rng = np.random.default_rng(1)
    actions = rng.integers(0, 5, (40, 3))

    def run(first: int, count: int) -> list[np.ndarray]:
        seen = []
        for chosen in actions[first : first + count]:
            observations, _, _, truncations, _ = envs.step(chosen)
            seen += [observations, truncations]
            if mode is AutoresetMode.DISABLED and truncations.any():
                envs.reset(options={"reset_mask": truncations})
        return seen

    run(0, 5)  # an episode has just ended
    state = envs.get_state()
    first = run(5, 12)
    envs.set_state(state)
    np.testing.assert_array_equal(np.hstack(run(5, 12)[::2]), np.hstack(first[::2]))
    envs.set_state(state)
    np.testing.assert_array_equal(run(5, 12)[1::2], first[1::2])


def test_some_environments_are_set_and_the_others_stay() -> None:
    envs = MazeVectorEnv(2)
    envs.reset()
    state = envs.get_state()
    envs.step(np.array([RIGHT, RIGHT]))
    envs.set_state({k: v[:1] for k, v in state.items()}, where=np.array([True, False]))
    assert envs.get_state()["observations"].tolist() == [[1, 1], [1, 2]]
    assert envs.get_state()["elapsed_steps"].tolist() == [0, 1]


def test_states_that_do_not_fit_are_refused() -> None:
    envs = MazeVectorEnv(2)
    state = envs.get_state()
    with pytest.raises(InvalidValueError, match=r"'finished' must have shape \(2,\), got nothing"):
        envs.set_state({k: v for k, v in state.items() if k != "finished"})
    with pytest.raises(
        InvalidValueError, match=r"'observations' must have shape \(2, 2\), got \(3, 2"
    ):
        envs.set_state(MazeVectorEnv(3).get_state())
    for position in ([0, 0], [6, 3], [-1, 1], [SIZE, 1]):
        with pytest.raises(InvalidValueError, match="free cells"):
            envs.set_state({**state, "observations": np.array([START, position])})
    assert envs.get_state()["observations"].tolist() == [list(START)] * 2
    envs = MazeVectorEnv(2, observation="image")
    with pytest.raises(InvalidValueError, match="'positions' must hold rows and columns of free"):
        envs.set_state({**envs.get_state(), "positions": np.array([START, [0, 0]])})


@pytest.mark.parametrize("actions", [[0, 5], [-1, 0], [0], [0.0, 1.0]])
def test_actions_that_do_not_fit_are_refused(actions: list) -> None:
    with pytest.raises(InvalidValueError, match=r"integers in 0 … 4 of shape \(2,\)"):
        MazeVectorEnv(2).step(np.array(actions))
    with pytest.raises(InvalidValueError, match="integer in 0 … 4, not 5"):
        MazeEnv().step(5)  # type: ignore[arg-type]


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="'NextStep', 'SameStep', 'Disabled', not 'never'"):
        MazeVectorEnv(2, autoreset_mode="never")
    with pytest.raises(InvalidValueError, match="num_envs must be at least 1, not 0"):
        MazeVectorEnv(0)
    with pytest.raises(InvalidValueError, match="max_episode_steps must be at least 1"):
        MazeVectorEnv(2, max_episode_steps=0)
    with pytest.raises(InvalidValueError, match="render_mode must be None or 'rgb_array'"):
        MazeVectorEnv(2, render_mode="human")
    with pytest.raises(InvalidValueError, match="one of 'position', 'image', not 'pixels'"):
        MazeVectorEnv(2, observation="pixels")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="one for each of the 2 environments, not 3"):
        MazeVectorEnv(2).reset(seed=[1, 2, 3])
    for mask in (np.zeros(2, bool), np.ones(3, bool), np.ones(2), [True, True]):
        with pytest.raises(InvalidValueError, match="reset_mask"):
            MazeVectorEnv(2).reset(options={"reset_mask": mask})


def test_a_finished_episode_must_be_reset_where_resets_are_disabled() -> None:
    envs = MazeVectorEnv(2, max_episode_steps=1, autoreset_mode="Disabled")
    envs.reset()
    envs.step(np.array([STAY, STAY]))
    with pytest.raises(ResetNeeded, match=r"\[0, 1\]"):
        envs.step(np.array([STAY, STAY]))


def test_without_a_limit_episodes_do_not_end() -> None:
    envs = MazeVectorEnv(2, max_episode_steps=-1)
    envs.reset()
    assert not any(envs.step(np.array([STAY, STAY]))[3].any() for _ in range(300))
