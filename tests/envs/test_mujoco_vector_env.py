"""Every array of MujocoVectorEnv against Gymnasium's SyncVectorEnv, to the last bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from safetensors.numpy import load_file, save_file

from skillrl.envs.mujoco import MujocoVectorEnv
from skillrl.envs.mujoco.model import quiet_loading
from skillrl.envs.mujoco.tasks import TASKS
from skillrl.envs.testing import check_vector_env
from skillrl.errors import InvalidValueError, SkillrlError

NEXT_STEP, SAME_STEP, DISABLED = (
    AutoresetMode.NEXT_STEP,
    AutoresetMode.SAME_STEP,
    AutoresetMode.DISABLED,
)
BATCHED, THREADED = "HalfCheetah-v5", "Ant-v5"  # the two kinds of physics


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    """Equal keys, shapes, types and bits, in dictionaries and arrays of objects too."""
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs), where
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{where} {key}")
    elif theirs is None:
        assert ours is None, where
    elif theirs.dtype == object:
        assert ours.dtype == object, where
        for i, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(our, their, f"{where} [{i}]")
    else:
        assert ours.dtype == theirs.dtype, where
        assert np.array_equal(ours, theirs), (where, ours, theirs)


def gymnasiums(id: str, num_envs: int, mode: AutoresetMode, **arguments: Any) -> SyncVectorEnv:
    with quiet_loading():
        envs = gym.make_vec(
            id,
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": mode},
            **arguments,
        )
    assert isinstance(envs, SyncVectorEnv)
    return envs


def actions_for(envs: gym.vector.VectorEnv, seed: int) -> Callable[[], np.ndarray]:
    """Random actions, some beyond the action space's bounds."""
    random = np.random.default_rng(seed)
    assert isinstance(envs.single_action_space, gym.spaces.Box)
    shape, high = envs.action_space.shape, envs.single_action_space.high
    return lambda: (high * random.uniform(-1.2, 1.2, shape)).astype(np.float32)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("id", TASKS)
def test_equals_gymnasium(id: str, mode: AutoresetMode) -> None:
    theirs = gymnasiums(id, 3, mode, max_episode_steps=30)
    both = [
        MujocoVectorEnv(id, 3, num_threads=n, autoreset_mode=mode, max_episode_steps=30)
        for n in (1, 2)
    ]

    def compare(method: str, *arguments: Any, **keywords: Any) -> Any:
        expected = getattr(theirs, method)(*arguments, **keywords)
        for ours in both:
            results = getattr(ours, method)(*arguments, **keywords)
            for i, (our, their) in enumerate(zip(results, expected, strict=True)):
                assert_same(our, their, f"{method}, result {i}")
        return expected

    for ours in both:
        assert ours.observation_space == theirs.observation_space
        assert ours.single_observation_space == theirs.single_observation_space
        assert ours.action_space == theirs.action_space
        assert ours.single_action_space == theirs.single_action_space
        assert ours.metadata["autoreset_mode"] is mode
        assert ours.metadata["render_fps"] == theirs.metadata["render_fps"]
    draw = actions_for(theirs, seed=1)
    compare("reset", seed=7)
    num_finished = 0
    for step in range(130):
        actions = draw() if step % 10 else draw().astype(np.float64)
        _, _, terminations, truncations, _ = compare("step", actions)
        finished = terminations | truncations
        num_finished += finished.sum()
        if mode is DISABLED and finished.any():
            # Copies: SyncVectorEnv takes the mask out of the dictionary.
            expected = theirs.reset(options={"reset_mask": finished.copy()})
            for ours in both:
                results = ours.reset(options={"reset_mask": finished.copy()})
                assert_same(results[0], expected[0], "observations of a partial reset")
                assert_same(results[1], expected[1], "infos of a partial reset")
        if step == 40:
            compare("reset")  # the generators go on
        if step == 80:
            compare("reset", seed=[5, None, 3])
    assert num_finished >= 9
    for ours in both:
        ours.close()


@pytest.mark.parametrize("id", ["Hopper-v5", THREADED])
def test_follows_gymnasiums_conventions(id: str) -> None:
    def make(num_envs: int, mode: AutoresetMode) -> MujocoVectorEnv:
        return MujocoVectorEnv(id, num_envs, autoreset_mode=mode, max_episode_steps=20)

    check_vector_env(make, steps=50)


def test_the_tasks_own_limit_truncates() -> None:
    theirs, ours = gymnasiums("Reacher-v5", 2, NEXT_STEP), MujocoVectorEnv("Reacher-v5", 2)
    theirs.reset(seed=0)
    ours.reset(seed=0)
    truncated_at = []
    for step in range(110):
        actions = np.full((2, 2), 0.1)
        expected, result = theirs.step(actions), ours.step(actions)
        assert_same(result[3], expected[3], "truncations")
        if result[3].all():
            truncated_at.append(step)
    assert truncated_at == [49, 100]  # the reset in between is a step of its own

    endless = MujocoVectorEnv("Reacher-v5", 1, max_episode_steps=-1)
    endless.reset(seed=0)
    assert not any(endless.step(np.zeros((1, 2)))[3][0] for _ in range(60))


@pytest.mark.parametrize(
    ("id", "arguments"),
    [
        (
            "HalfCheetah-v5",
            {
                "frame_skip": 3,
                "forward_reward_weight": 2.5,
                "ctrl_cost_weight": 1,
                "reset_noise_scale": 0.3,
                "exclude_current_positions_from_observation": False,
            },
        ),
        (
            "Ant-v5",
            {
                "forward_reward_weight": 0.3,
                "ctrl_cost_weight": 0.1,
                "contact_cost_weight": 0.2,
                "healthy_reward": 2,
                "main_body": "front_left_leg",
                "healthy_z_range": (0.7, 0.78),
                "contact_force_range": (-0.5, 2.0),
                "exclude_current_positions_from_observation": False,
            },
        ),
        ("Ant-v5", {"terminate_when_unhealthy": False, "include_cfrc_ext_in_observation": False}),
        (
            "Humanoid-v5",
            {
                "contact_cost_weight": 0.1,
                "contact_cost_range": (0.5, 1.5),
                "healthy_reward": 1,
                "healthy_z_range": (1.3, 1.45),
                "include_cinert_in_observation": False,
                "include_cfrc_ext_in_observation": False,
                "exclude_current_positions_from_observation": False,
            },
        ),
        (
            "HumanoidStandup-v5",
            {
                "uph_cost_weight": 3,
                "ctrl_cost_weight": 0.5,
                "impact_cost_weight": 0.1,
                "impact_cost_range": (0.5, 1.5),
                "include_cvel_in_observation": False,
                "include_qfrc_actuator_in_observation": False,
            },
        ),
        (
            "Hopper-v5",
            {
                "healthy_reward": 2,
                "healthy_state_range": (-2.0, 2.0),
                "healthy_z_range": (1.2, 1.3),
                "healthy_angle_range": (-0.05, 0.1),
                "exclude_current_positions_from_observation": False,
            },
        ),
        (
            "Walker2d-v5",
            {
                "forward_reward_weight": 3.0,
                "ctrl_cost_weight": 0.2,
                "healthy_z_range": (1.2, 1.26),
                "healthy_angle_range": (-0.05, 0.1),
                "terminate_when_unhealthy": False,
            },
        ),
        ("Swimmer-v5", {"exclude_current_positions_from_observation": False, "frame_skip": 2}),
        ("InvertedPendulum-v5", {"reset_noise_scale": 0.1}),
        ("InvertedDoublePendulum-v5", {"healthy_reward": 3, "reset_noise_scale": 0.2}),
        ("Reacher-v5", {"reward_dist_weight": 0.3, "reward_control_weight": 2}),
        (
            "Pusher-v5",
            {"reward_near_weight": 2, "reward_dist_weight": 0.3, "reward_control_weight": 0.7},
        ),
    ],
)
def test_constructor_arguments_equal_gymnasiums(id: str, arguments: dict[str, Any]) -> None:
    theirs, ours = gymnasiums(id, 2, NEXT_STEP, **arguments), MujocoVectorEnv(id, 2, **arguments)
    draw = actions_for(theirs, seed=2)
    for result, expected in zip(ours.reset(seed=0), theirs.reset(seed=0), strict=True):
        assert_same(result, expected, "reset")
    for step in range(40):
        actions = draw()
        for result, expected in zip(ours.step(actions), theirs.step(actions), strict=True):
            assert_same(result, expected, f"step {step}")


def test_another_model_equals_gymnasiums(tmp_path: Path) -> None:
    text = (Path(gym.__file__).parent / "envs/mujoco/assets/hopper.xml").read_text()
    xml_file = tmp_path / "heavy_hopper.xml"
    xml_file.write_text(text.replace('name="foot_geom"', 'name="foot_geom" density="9000"'))
    assert xml_file.read_text() != text
    theirs = gymnasiums("Hopper-v5", 2, NEXT_STEP, xml_file=str(xml_file))
    ours = MujocoVectorEnv("Hopper-v5", 2, xml_file=str(xml_file))
    usual = MujocoVectorEnv("Hopper-v5", 2)
    for envs in (theirs, ours, usual):
        envs.reset(seed=0)
    actions = np.full((2, 3), 0.5)
    observations = ours.step(actions)[0]
    assert_same(observations, theirs.step(actions)[0], "step")
    assert not np.array_equal(observations, usual.step(actions)[0])


@pytest.mark.parametrize("id", [BATCHED, THREADED])
def test_an_unstable_simulation_goes_on_as_in_gymnasium(
    id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a MUJOCO_LOG.TXT
    theirs, ours = gymnasiums(id, 2, NEXT_STEP), MujocoVectorEnv(id, 2)
    theirs.reset(seed=0)
    ours.reset(seed=0)
    theirs.get_attr("data")[0].qvel[:] = 1e9
    state = ours.get_state()
    num_q, num_v = ours.model.nq, ours.model.nv
    state["physics"][0, 1 + num_q : 1 + num_q + num_v] = 1e9  # after time and qpos
    ours.set_state(state)
    draw = actions_for(theirs, seed=0)
    for _ in range(5):
        actions = draw()
        for result, expected in zip(ours.step(actions), theirs.step(actions), strict=True):
            assert_same(result, expected, "step")


@pytest.mark.parametrize(
    ("id", "file", "memory"), [(BATCHED, "half_cheetah.xml", "6K"), (THREADED, "ant.xml", "12K")]
)
def test_errors_of_mujoco_are_told(
    id: str, file: str, memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a MUJOCO_LOG.TXT
    text = (Path(gym.__file__).parent / "envs/mujoco/assets" / file).read_text()
    xml_file = tmp_path / file
    # Enough memory in the air, too little for all contacts.
    xml_file.write_text(text.replace("<worldbody>", f'<size memory="{memory}"/><worldbody>'))
    envs = MujocoVectorEnv(id, 3, xml_file=str(xml_file), num_threads=2)
    with pytest.raises(SkillrlError, match=r"cannot simulate this step: .*out of memory"):
        envs.reset(seed=0)
        for _ in range(60):
            envs.step(np.zeros(envs.action_space.shape or ()))


def test_results_are_not_overwritten() -> None:
    envs = MujocoVectorEnv(BATCHED, 2)
    observations, infos = envs.reset(seed=0)
    kept = observations.copy(), infos["x_position"].copy()
    stepped = envs.step(np.ones((2, 6)))
    kept_step = [each.copy() for each in stepped[:4]] + [dict(stepped[4])]
    envs.step(-np.ones((2, 6)))
    assert np.array_equal(observations, kept[0])
    assert np.array_equal(infos["x_position"], kept[1])
    for each, copy in zip(stepped, kept_step, strict=True):
        assert_same(each, copy, "step")
    stepped[0][:] = np.nan  # nor does the user's writing reach the environment
    assert np.isfinite(envs.get_state()["observations"]).all()


# --- saving and restoring


def run(envs: MujocoVectorEnv, draw: Callable[[], np.ndarray], steps: int) -> list[tuple[Any, ...]]:
    return [envs.step(draw()) for _ in range(steps)]


def assert_same_runs(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> None:
    for step, (one, two) in enumerate(zip(first, second, strict=True)):
        for a, b in zip(one, two, strict=True):
            assert_same(a, b, f"step {step}")


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
@pytest.mark.parametrize("id", TASKS)
def test_continues_exactly_from_a_saved_state(id: str, mode: AutoresetMode, tmp_path: Path) -> None:
    def make(num_threads: int) -> MujocoVectorEnv:
        return MujocoVectorEnv(
            id, 3, num_threads=num_threads, autoreset_mode=mode, max_episode_steps=20
        )

    envs = make(2)
    envs.reset(seed=3)
    # After 20 steps NEXT_STEP has resets pending, which the state must remember.
    run(envs, actions_for(envs, 0), 20)
    state = envs.get_state()
    save_file(state, tmp_path / "state.safetensors")
    first = run(envs, actions_for(envs, 1), 50)

    envs.set_state(load_file(tmp_path / "state.safetensors"))
    assert_same_runs(run(envs, actions_for(envs, 1), 50), first)

    fresh = make(1)
    fresh.set_state(json.loads(json.dumps({k: v.tolist() for k, v in state.items()})))
    assert_same_runs(run(fresh, actions_for(fresh, 1), 50), first)


@pytest.mark.parametrize("id", [BATCHED, THREADED])
def test_single_environments_restart_from_saved_rows(id: str) -> None:
    envs = MujocoVectorEnv(id, 4)
    envs.reset(seed=0)
    start = envs.get_state()
    action = np.full(envs.action_space.shape or (), 0.3)
    expected = envs.step(action)[0]
    envs.step(action)
    last = envs.get_state()
    untouched = envs.step(action)[0]

    rows = {name: values[[2, 0]] for name, values in start.items()}
    for where in ([1, 3], np.array([False, True, False, True])):
        envs.set_state(last)
        envs.set_state(rows, where)
        observations = envs.step(action)[0]
        assert np.array_equal(observations[1], expected[2])
        assert np.array_equal(observations[3], expected[0])
        assert np.array_equal(observations[[0, 2]], untouched[[0, 2]])


def test_a_state_that_does_not_fit_is_refused() -> None:
    envs, other = MujocoVectorEnv("Hopper-v5", 2), MujocoVectorEnv("Walker2d-v5", 2)
    with pytest.raises(ResetNeeded, match="before the first reset"):
        envs.get_state()
    with pytest.raises(ResetNeeded, match="some environments"):
        envs.set_state({}, where=[0])
    envs.reset(seed=0)
    other.reset(seed=0)
    before = envs.get_state()
    incomplete = {name: rows for name, rows in before.items() if name != "random"}
    with pytest.raises(InvalidValueError, match=r"state\['random'\] is missing"):
        envs.set_state(incomplete)
    with pytest.raises(InvalidValueError, match=r"state\['physics'\] has the shape \(2, \d+\)"):
        envs.set_state(other.get_state())
    with pytest.raises(InvalidValueError, match="1 environments of this task need"):
        envs.set_state(before, where=[1])
    with pytest.raises(InvalidValueError, match="twice"):
        envs.set_state(before, where=[1, 1])
    with pytest.raises(InvalidValueError, match="numbers of environments below 2"):
        envs.set_state(before, where=[0, 2])
    assert_same(envs.get_state(), before, "state after refusals")


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, r"num_envs=0: give a whole number"),
        ({"num_envs": 2.5}, r"num_envs=2.5"),
        ({"num_threads": 0}, r"num_threads=0"),
        ({"max_episode_steps": 0}, r"max_episode_steps=0"),
        ({"frame_skip": 0}, r"frame_skip=0"),
        ({"autoreset_mode": "never"}, r"autoreset_mode='never': choose from 'NextStep'"),
        ({"render_mode": "human"}, r"render_mode='human': choose from 'rgb_array'.*single"),
        ({"reset_noise": 0.1}, r"no argument 'reset_noise'. Did you mean 'reset_noise_scale'"),
        ({"num_thread": 2}, r"no argument 'num_thread'. Did you mean 'num_threads'"),
        ({"xml_file": "cheetah.xml"}, r"xml_file='cheetah.xml': there is no file"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        MujocoVectorEnv(BATCHED, **arguments)


def test_bad_models_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.xml"
    broken.write_text("<mujoco><nonsense/></mujoco>")
    with pytest.raises(InvalidValueError, match=r"broken.xml.*nonsense"):
        MujocoVectorEnv(BATCHED, xml_file=str(broken))
    with pytest.raises(InvalidValueError, match=r"no body 'fingertip'"):
        MujocoVectorEnv("Reacher-v5", xml_file="pusher_v5.xml")
    with pytest.raises(InvalidValueError, match=r"main_body='tail' is no body.*'torso'"):
        MujocoVectorEnv("Ant-v5", main_body="tail")


def test_an_unknown_task_brings_the_nearest() -> None:
    with pytest.raises(InvalidValueError, match=r"'HalfCheetah-v4'.*Did you mean 'HalfCheetah-v5'"):
        MujocoVectorEnv("HalfCheetah-v4")


def test_bad_actions_are_named() -> None:
    envs = MujocoVectorEnv(BATCHED, 3)
    with pytest.raises(ResetNeeded, match="reset"):
        envs.step(np.zeros((3, 6)))
    envs.reset(seed=0)
    with pytest.raises(InvalidValueError, match=r"shape \(6,\); 3 environments.*\(3, 6\)"):
        envs.step(np.zeros(6))
    with pytest.raises(InvalidValueError, match="no numbers"):
        envs.step(np.full((3, 6), "forward"))
    actions = np.zeros((3, 6))
    actions[1, 2], actions[2, 0] = np.nan, np.inf
    with pytest.raises(InvalidValueError, match=r"environments \[1, 2\] are not finite"):
        envs.step(actions)


def test_bad_seeds_and_masks_are_named() -> None:
    envs = MujocoVectorEnv(BATCHED, 2)
    seeds: list[Any] = [-1, [1], [1, -1], [1, 0.5]]
    for seed in seeds:
        with pytest.raises(InvalidValueError, match="seed="):
            envs.reset(seed=seed)
    with pytest.raises(ResetNeeded, match="without a mask"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(seed=0)
    for mask in ([True, False], np.array([True]), np.array([1, 0]), np.zeros(2, np.bool_)):
        with pytest.raises(InvalidValueError, match="reset_mask"):
            envs.reset(options={"reset_mask": mask})


def test_without_autoreset_a_forgotten_reset_is_refused() -> None:
    envs = MujocoVectorEnv(BATCHED, 2, autoreset_mode=DISABLED, max_episode_steps=1)
    envs.reset(seed=0)
    truncations = envs.step(np.zeros((2, 6)))[3]
    assert truncations.all()
    with pytest.raises(ResetNeeded, match=r"environments \[0, 1\].*reset_mask"):
        envs.step(np.zeros((2, 6)))
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"environments \[1\]"):
        envs.step(np.zeros((2, 6)))
    envs.reset(options={"reset_mask": np.array([False, True])})
    envs.step(np.zeros((2, 6)))


# --- frames


def make_renderable(id: str, mode: str, **arguments: Any) -> MujocoVectorEnv:
    try:
        return MujocoVectorEnv(id, 2, render_mode=mode, width=96, height=64, **arguments)
    except SkillrlError as error:
        if "OpenGL" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize(
    ("id", "mode", "arguments"),
    [
        ("HalfCheetah-v5", "rgb_array", {}),
        ("Ant-v5", "rgbd_tuple", {"visual_options": {14: True}}),  # contact points
        ("Humanoid-v5", "rgb_array", {"camera_id": 0}),
        ("Swimmer-v5", "depth_array", {"default_camera_config": {"distance": 9.0}}),
    ],
)
def test_frames_and_steps_equal_gymnasiums(id: str, mode: str, arguments: dict[str, Any]) -> None:
    ours = make_renderable(id, mode, max_episode_steps=6, **arguments)
    theirs = gymnasiums(
        id,
        2,
        NEXT_STEP,
        render_mode=mode,
        width=96,
        height=64,
        max_episode_steps=6,
        **arguments,
    )
    ours.reset(seed=0)
    theirs.reset(seed=0)
    draw = actions_for(theirs, seed=3)
    seen = []
    for step in range(8):
        if step in (3, 7):  # after a step, and after the reset that follows step 5
            for frame, reference in zip(ours.render(), theirs.render(), strict=True):
                parts, references = (
                    f if isinstance(f, tuple) else (f,) for f in (frame, reference)
                )
                for part, its_reference in zip(parts, references, strict=True):
                    assert_same(part, its_reference, f"frame {step}")
                    seen.append(part.std())
        actions = draw()
        for result, its_result in zip(ours.step(actions), theirs.step(actions), strict=True):
            assert_same(result, its_result, f"step {step}")
    assert min(seen) > 0  # there is something to see
    ours.close()
    theirs.close()


@pytest.mark.parametrize("id", [BATCHED, THREADED])
def test_a_restored_state_shows_and_continues_exactly(id: str) -> None:
    envs = make_renderable(id, "rgb_array")
    envs.reset(seed=0)
    state, frames = envs.get_state(), envs.render()
    draw = actions_for(envs, 0)
    first = run(envs, draw, 10)
    assert not np.array_equal(envs.render()[0], frames[0])
    envs.set_state(state)
    for restored, original in zip(envs.render(), frames, strict=True):
        assert np.array_equal(restored, original)
    assert_same_runs(run(envs, actions_for(envs, 0), 10), first)
    envs.close()


def test_bad_cameras_are_named() -> None:
    for arguments, message in (
        ({"camera_name": "front"}, r"camera_name='front': the model's cameras are \['track'\]"),
        ({"camera_id": 4}, r"camera_id=4: the model has 1 cameras"),
        ({"camera_id": 0, "camera_name": "track"}, r"only one of them"),
        ({"default_camera_config": {"zoom": 2}}, r"sets 'zoom'; a MuJoCo camera has.*distance"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            MujocoVectorEnv(BATCHED, render_mode="rgb_array", **arguments)
    with pytest.raises(InvalidValueError, match="render_mode=None"):
        MujocoVectorEnv(BATCHED).render()
