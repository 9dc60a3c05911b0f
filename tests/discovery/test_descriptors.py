import dataclasses
import itertools
import math
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from skillrl.agents import SkillPolicy
from skillrl.discovery.descriptors import (
    FEET,
    Descriptors,
    Motion,
    describe,
    feet_of,
    hops,
    on_ground,
    pitch,
    somersaults,
    summarise,
    watch,
)
from skillrl.envs.make import make_single

STILL = Descriptors(0.0, 0.0, 0.6, 0.0, 0.0, 0.0, 0.1, {"back": 0.9, "front": 0.9}, 0.1)


def turned(*angles: float) -> np.ndarray:
    """A pitch that goes from angle to angle in small steps."""
    pieces = [np.linspace(a, b, 50) for a, b in itertools.pairwise(angles)]
    return np.concatenate([[angles[0]], *(piece[1:] for piece in pieces)])


@pytest.mark.parametrize(
    ("angles", "front", "back"),
    [
        ((0.0, 0.9 * 2 * math.pi), 0, 0),
        ((0.0, 1.1 * 2 * math.pi), 1, 0),
        ((0.0, 3.1 * 2 * math.pi), 3, 0),
        ((0.0, -2.1 * 2 * math.pi), 0, 2),
        # Rocking by half a turn to and fro is none.
        ((0.0, math.pi, 0.0, math.pi, 0.0, math.pi), 0, 0),
        # There and back again is one of each.
        ((0.0, 7.0, 0.0), 1, 1),
        # A turn may begin after some way in the other direction.
        ((0.0, -3.0, 3.5), 1, 0),
        ((0.0, -3.0, 3.0), 0, 0),
    ],
)
def test_somersaults_worked_by_hand(angles: tuple[float, ...], front: int, back: int) -> None:
    angle = turned(*angles)
    up, always = np.cos(angle), np.ones(len(angle), bool)
    assert somersaults(angle, up, always) == (front, back)
    assert somersaults(angle, up, ~always) == (0, 0)


def test_the_body_must_leave_the_ground_in_each_turn() -> None:
    angle = turned(0.0, 2.1 * 2 * math.pi)
    airborne = np.zeros(len(angle), bool)
    airborne[5] = True
    assert somersaults(angle, np.cos(angle), airborne) == (1, 0)
    airborne[-10] = True
    assert somersaults(angle, np.cos(angle), airborne) == (2, 0)


def test_flight_long_before_a_roll_makes_it_no_somersault() -> None:
    bounding, roll = turned(*[0.0, 0.2] * 4), turned(0.0, 2.1 * math.pi)
    angle = np.concatenate([bounding, roll])
    airborne = np.arange(len(angle)) < len(bounding) - 50
    assert somersaults(angle, np.cos(angle), airborne) == (0, 0)


@pytest.mark.parametrize("lean", [30.0, 89.0, 91.0, 150.0])
def test_spinning_on_the_spot_is_no_somersault(lean: float) -> None:
    # Leaning to the side, a body turns about its own left axis by sin(lean) of what it spins.
    spin = np.linspace(0.0, 6 * math.pi, 200)
    rotations = np.array(
        [
            (Rotation.from_euler("z", a) * Rotation.from_euler("x", lean, True)).as_matrix()
            for a in spin
        ]
    )
    turned_so_far, always = pitch(rotations), np.ones(200, bool)
    assert turned_so_far[-1] == pytest.approx(6 * math.pi * math.sin(math.radians(lean)), rel=1e-3)
    # Who lies on the side rocks to either side of it.
    up = rotations[:, 2, 2] + 0.1 * np.cos(np.arange(200))
    assert somersaults(turned_so_far, up, always) == (0, 0)


@pytest.mark.parametrize("env", sorted(FEET))
@pytest.mark.parametrize("forwards", [True, False])
def test_which_way_is_forwards(env: str, forwards: bool) -> None:
    single = make_single(env)
    robot: Any = single.unwrapped
    model, data = robot.model, robot.data
    torso = model.body("torso").id
    mujoco.mj_resetData(model, data)
    rotations = []
    for angle in np.linspace(0.0, 7.0 if forwards else -7.0, 100):
        # About the axis to the left, by hand: the top of the torso goes forwards first.
        if model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE:
            data.qpos[3:7] = [np.cos(angle / 2), 0.0, np.sin(angle / 2), 0.0]
        else:
            joint = model.joint("rooty")
            data.qpos[joint.qposadr] = angle * joint.axis[1]
        mujoco.mj_kinematics(model, data)
        rotations.append(data.xmat[torso].reshape(3, 3).copy())
    single.close()
    rotation = np.array(rotations)
    top = rotation @ np.array([0.0, 0.0, 1.0])
    assert (top[1, 0] > 0) == forwards
    found = somersaults(pitch(rotation), rotation[:, 2, 2], np.ones(100, bool))
    assert found == ((1, 0) if forwards else (0, 1))


def test_feet_that_touch_each_other_are_not_on_the_ground() -> None:
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody><geom name="floor" type="plane" size="1 1 1"/>
        <body pos="0 0 2"><freejoint/><geom name="left" size=".1"/></body>
        <body pos=".1 0 2"><freejoint/><geom name="right" size=".1"/></body>
        </worldbody></mujoco>"""
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.ncon == 1
    assert on_ground(model, data).tolist() == []
    data.qpos[2] = 0.05
    mujoco.mj_forward(model, data)
    assert on_ground(model, data).tolist() == [model.geom("left").id]
    data.qpos[:3] = [0.0, 0.0, 5.0]
    mujoco.mj_forward(model, data)
    assert data.ncon == 0
    assert on_ground(model, data).tolist() == []


def test_pitch_is_what_was_turned_about_the_left_axis() -> None:
    angles = np.cumsum(np.random.default_rng(0).uniform(-0.5, 1.0, 200))
    heading = Rotation.from_euler("z", 1.0)
    rotations = (heading * Rotation.from_euler("y", angles[:, None])).as_matrix()
    np.testing.assert_allclose(pitch(rotations), angles - angles[0], atol=1e-6)
    assert angles[-1] > 4 * math.pi
    # Turning on the spot, or rolling, is no pitch.
    for axis in "xz":
        others = Rotation.from_euler(axis, angles[:, None]).as_matrix()
        np.testing.assert_allclose(pitch(others), 0.0, atol=1e-9)


def test_a_motion_worked_by_hand() -> None:
    # Two bodies for four steps of half a second; the second's episode ends after the third.
    x = np.array([[0.0, 0.0], [1.0, -0.5], [2.0, -1.0], [3.0, 99.0]])
    position = np.stack([x, 0.5 * x, np.full_like(x, 0.6)], -1)
    position[0, 0, 2] = 2.0
    rotation = np.broadcast_to(np.eye(3), (4, 2, 3, 3)).copy()
    rotation[1:3, 1] = np.diag([1.0, -1.0, -1.0])  # on its back
    contacts = np.zeros((4, 2, 2), bool)
    contacts[:, :, 0] = True
    contacts[1, 0] = False
    contacts[2, 0, 1] = True
    alive = np.array([[True, True], [True, True], [True, True], [True, False]])
    starts = np.array([[True, True], [False, False], [False, False], [False, True]])
    lies = np.zeros((4, 2), bool)
    lies[1, 1] = True
    actions = np.full((4, 2, 3), 0.5)
    fell = np.array([False, True])
    motion = Motion(0.5, alive, starts, position, rotation, contacts, lies, actions, fell)
    found = summarise(motion, ("left", "right"))
    # 3 m in 1.5 s and −1 m in 1 s.
    assert found.forward_velocity == pytest.approx(2.0 / 2.5)
    assert found.lateral_velocity == pytest.approx(1.0 / 2.5)
    assert found.height == pytest.approx((6 * 0.6 + 2.0) / 7)
    assert found.upside_down == pytest.approx(2 / 7)
    assert found.airborne == pytest.approx(1 / 7)
    assert found.feet == pytest.approx({"left": 6 / 7, "right": 1 / 7})
    assert found.effort == pytest.approx(0.25)
    assert found.seconds == pytest.approx(1.75)
    assert found.falls == 0.5
    assert (found.front_somersaults, found.back_somersaults) == (0.0, 0.0)


@pytest.mark.parametrize("env", sorted(FEET))
def test_what_is_watched_is_what_gymnasium_simulates(env: str) -> None:
    single = make_single(env)
    torch.manual_seed(0)
    policy = SkillPolicy(single.observation_space, single.action_space, lambda _: 0.0, hidden=(8,))
    with torch.no_grad():
        policy.action_net.weight.mul_(300.0)  # so that it does something
    motion = watch(policy, env, {}, FEET[env], episodes=2, steps=25, seed=4)
    robot = single.unwrapped
    observation, _ = single.reset(seed=5)  # as the second environment
    # Later on, what is rounded differently in a batch has grown.
    for step in range(min(10, int(motion.alive[:, 1].sum()))):
        data = robot.data  # type: ignore[attr-defined]
        start = robot.model.body("torso").pos if data.qpos.size < 15 else np.zeros(3)  # type: ignore[attr-defined]
        where = motion.position[step, 1]
        if data.qpos.size < 15 and env != "Ant-v5":  # planar: x and z joints are the first two
            x, z = data.qpos[:2]
            offset = 0.0 if env in ("Hopper-v5", "Walker2d-v5") else start[2]
            np.testing.assert_allclose(where[[0, 2]], [x, z + offset], atol=1e-6)
        else:
            np.testing.assert_allclose(where, data.qpos[:3], atol=1e-6)
        action, _ = policy.predict(observation, deterministic=True)
        observation, *_ = single.step(action)
    assert motion.alive[0].all()
    assert motion.contacts.any()  # a humanoid begins above the ground
    single.close()


def test_an_agent_that_stands_has_its_feet_on_the_ground() -> None:
    single = make_single("HalfCheetah-v5")
    policy = SkillPolicy(single.observation_space, single.action_space, lambda _: 0.0, hidden=(8,))
    with torch.no_grad():
        policy.action_net.weight.zero_()
        policy.action_net.bias.zero_()
    found = describe(policy, "HalfCheetah-v5", {}, episodes=2, steps=200)
    assert found is not None
    assert found.feet["back"] > 0.8
    assert found.feet["front"] > 0.8
    assert abs(found.forward_velocity) < 0.05
    assert found.effort == 0.0
    assert 0.4 < found.height < 0.8
    assert found.name == "stays in place"
    assert found.seconds == pytest.approx(200 * 0.05)
    assert found.falls == 0.0
    single.close()


def test_a_walker_that_leans_falls() -> None:
    single = make_single("Walker2d-v5")
    policy = SkillPolicy(single.observation_space, single.action_space, lambda _: 0.0, hidden=(8,))
    with torch.no_grad():
        policy.action_net.weight.zero_()
        policy.action_net.bias.fill_(1.0)
    found = describe(policy, "Walker2d-v5", {}, episodes=2, steps=400)
    assert found is not None
    assert found.falls == 1.0
    assert found.seconds is not None and found.seconds < 3.0
    assert found.name.endswith(f"falls after {found.seconds:.1f} s")
    # What a time limit ends has not fallen.
    limited = describe(policy, "Walker2d-v5", {"max_episode_steps": 5}, episodes=2, steps=400)
    assert limited is not None
    assert limited.seconds == pytest.approx(5 * 0.008)
    assert limited.falls == 0.0
    single.close()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "stays in place"),
        ({"forward_velocity": 2.53}, "forwards 2.5 m/s"),
        ({"forward_velocity": -2.0}, "backwards 2.0 m/s"),
        ({"lateral_velocity": -1.0}, "to the right 1.0 m/s"),
        ({"front_somersaults": 6.8, "forward_velocity": 1.0}, "7 front flips, forwards 1.0 m/s"),
        ({"back_somersaults": 1.0}, "1 back flip, stays in place"),
        ({"upside_down": 0.9}, "on its back, stays in place"),
        (
            {"feet": {"left": 0.5, "right": 0.02}, "forward_velocity": 0.6},
            "on the left foot, forwards 0.6 m/s",
        ),
        ({"feet": {"only": 0.6}}, "stays in place"),
        (
            {"forward_velocity": 1.0, "seconds": 0.6, "falls": 0.8},
            "forwards 1.0 m/s, falls after 0.6 s",
        ),
        ({"seconds": 9.0, "falls": 0.4}, "stays in place"),
    ],
)
def test_names(changes: dict[str, object], name: str) -> None:
    assert dataclasses.replace(STILL, **changes).name == name  # type: ignore[arg-type]


def test_which_environments_have_a_body() -> None:
    assert feet_of("skillrl/Humanoid-v5", {}) == FEET["Humanoid-v5"]
    assert feet_of("Ant", {"frame_skip": 3}) == FEET["Ant-v5"]
    assert feet_of("Ant", {"xml_file": "mine.xml"}) is None
    assert feet_of("CartPole-v1", {}) is None
    assert feet_of("skillrl/Maze2D-v0", {}) is None


def test_hops_worked_by_hand() -> None:
    steps, seconds = 30, 0.1
    time = np.arange(steps) * seconds
    # The first hops to the left on its right foot at 2 m/s and lands every third step; the second
    # does so at 3 m/s, and falls after ten steps; the third puts down the other foot in the middle;
    # the fourth glides on its foot, and the fifth drags a hand.
    position = np.zeros((steps, 5, 3))
    position[:, 0, 1], position[:, 1, 0], position[:, 2, 0] = 2 * time, 3 * time, 5 * time
    position[:, 3:, 0] = 7 * time[:, None]
    position[..., 2] = 1.4
    position[10:, 1, 2] = 0.4
    contacts, lies = np.zeros((steps, 5, 2), bool), np.zeros((steps, 5), bool)
    contacts[::3, :, 1] = True
    contacts[15, 2, 0] = True
    contacts[:, 3, 1] = True
    lies[:, 4] = True
    motion = Motion(
        seconds=seconds,
        alive=np.ones((steps, 5), bool),
        starts=np.zeros((steps, 5), bool),
        position=position,
        rotation=np.tile(np.eye(3), (steps, 5, 1, 1)),
        contacts=contacts,
        lies=lies,
        actions=np.zeros((steps, 5, 1)),
        fell=np.zeros(5, bool),
    )
    feet = ("left", "right")
    assert hops(motion, feet, steps=20, heights=(1.0, 2.0)) == {
        "left": 0.0,
        "right": pytest.approx(2.0),
    }
    assert hops(motion, feet, steps=14, heights=(1.0, 2.0))["right"] == pytest.approx(5.0)
    # In seven steps it lands twice, in four once.
    assert hops(motion, feet, steps=7, heights=(1.0, 2.0))["right"] == pytest.approx(5.0)
    assert hops(motion, feet, steps=4, heights=(1.0, 2.0))["right"] == 0.0
    assert hops(motion, feet, steps=20, heights=(1.5, 2.0))["right"] == 0.0
    assert hops(motion, feet, steps=31, heights=(1.0, 2.0))["right"] == 0.0
