"""What a robot's body does in a skill, measured from the physics, and a name for it.

Velocity, height, somersaults, which feet touch the ground, effort: so that a front flip or a
one-legged hop is found among many skills without watching them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.policies import BasePolicy

from skillrl.discovery.following import follow
from skillrl.envs.make import find_spec, make_vec

# The geoms that are feet, by Gymnasium's id of the task.
FEET = {
    "HalfCheetah-v5": {"back": "bfoot", "front": "ffoot"},
    "Ant-v5": {
        "front left": "left_ankle_geom",
        "front right": "right_ankle_geom",
        "back left": "third_ankle_geom",
        "back right": "fourth_ankle_geom",
    },
    "Humanoid-v5": {"left": "left_foot", "right": "right_foot"},
    "Hopper-v5": {"only": "foot_geom"},
    "Walker2d-v5": {"left": "foot_left_geom", "right": "foot_geom"},
}


@dataclass(frozen=True)
class Descriptors:
    """A skill's behaviour: means over steps and episodes from ordinary resets."""

    forward_velocity: float
    """Of the torso, in m/s; negative is backwards."""
    lateral_velocity: float
    """To the left, in m/s."""
    height: float
    """Of the torso's origin, in m."""
    upside_down: float
    """Share of the time with the torso's top below its bottom, in [0, 1]."""
    front_somersaults: float
    """Forward somersaults an episode; see ``somersaults``."""
    back_somersaults: float
    """Backward somersaults an episode."""
    airborne: float
    """Share of the time with nothing of the body on the ground, in [0, 1]."""
    feet: dict[str, float]
    """Share of the time that each foot is on the ground, in [0, 1]."""
    effort: float
    """Mean square of the actions as shares of their bounds, in [0, 1]."""
    seconds: float | None = None
    """Duration of an episode, in s; None where it was not noted."""
    falls: float | None = None
    """Share of the episodes that the environment terminates, in [0, 1]; None where not noted."""

    @property
    def name(self) -> str:
        """A few words that tell the skill from others.

        >>> still = Descriptors(0.0, 0.0, 0.6, 0.0, 0.0, 0.0, 0.1, {"back": 0.9, "front": 0.9}, 0.1)
        >>> still.name
        'stays in place'
        """
        words = []
        for count, side in ((self.front_somersaults, "front"), (self.back_somersaults, "back")):
            if count >= 1:
                words.append(f"{count:.0f} {side} flip{'s' if count >= 1.5 else ''}")
        if self.upside_down >= 0.6:
            words.append("on its back")
        busiest = max(self.feet, key=lambda foot: self.feet[foot])
        others = max((share for foot, share in self.feet.items() if foot != busiest), default=1.0)
        if self.feet[busiest] >= 0.2 and others < 0.25 * self.feet[busiest]:
            words.append(f"on the {busiest} foot")
        speed, left = self.forward_velocity, self.lateral_velocity
        if math.hypot(speed, left) < 0.2:
            words.append("stays in place")
        elif abs(speed) >= abs(left):
            words.append(f"{'forwards' if speed > 0 else 'backwards'} {abs(speed):.1f} m/s")
        else:
            words.append(f"to the {'left' if left > 0 else 'right'} {abs(left):.1f} m/s")
        if self.falls is not None and self.seconds is not None and self.falls >= 0.5:
            words.append(f"falls after {self.seconds:.1f} s")
        return ", ".join(words)


@dataclass(frozen=True)
class Motion:
    """What ``N`` bodies did in ``T`` steps."""

    seconds: float
    """Duration of a step."""
    alive: np.ndarray
    """``(T, N)``: whether the episode was still going on, or the next one."""
    starts: np.ndarray
    """``(T, N)``: whether an episode began here."""
    position: np.ndarray
    """``(T, N, 3)``: of the torso, in metres."""
    rotation: np.ndarray
    """``(T, N, 3, 3)``: from the torso's axes (forwards, left, up) to the world's."""
    contacts: np.ndarray
    """``(T, N, F)``: whether each foot was on the ground."""
    lies: np.ndarray
    """``(T, N)``: whether anything else of the body was on the ground."""
    actions: np.ndarray
    """``(T, N, A)``: as shares of their bounds."""
    fell: np.ndarray
    """``(N,)``: whether the environment terminated the first episode."""

    @property
    def airborne(self) -> np.ndarray:
        """``(T, N)``: whether nothing of the body was on the ground."""
        return ~(self.contacts.any(-1) | self.lies)


def feet_of(env: str, env_kwargs: dict[str, Any]) -> dict[str, str] | None:
    """The geoms that are feet, by their names; None where no body is known.

    That is so of other environments, and of a robot from the user's own ``xml_file``.
    """
    name = find_spec(env).id.removeprefix("skillrl/")
    return None if "xml_file" in env_kwargs else FEET.get(name)


def describe(
    policy: BasePolicy,
    env: str,
    env_kwargs: dict[str, Any],
    *,
    episodes: int = 10,
    steps: int = 1_000,
    seed: int = 0,
) -> Descriptors | None:
    """Watch a policy act without noise and describe what its body does.

    None where no body is known; see ``feet_of``.

    Args:
        policy: acts.
        env: id of the environment.
        env_kwargs: its arguments.
        episodes: number of episodes, one in each of as many environments.
        steps: the most steps of an episode.
        seed: of the resets.
    """
    feet = feet_of(env, env_kwargs)
    if feet is None:
        return None
    motion = watch(policy, env, env_kwargs, feet, episodes=episodes, steps=steps, seed=seed)
    return summarise(motion, tuple(feet))


def watch(
    policy: BasePolicy,
    env: str,
    env_kwargs: dict[str, Any],
    feet: dict[str, str],
    *,
    episodes: int,
    steps: int,
    seed: int,
    again: bool = False,
) -> Motion:
    """Run one episode in each of ``episodes`` environments and measure the bodies.

    With ``again``, where an episode ends the next one follows, until all ``steps`` are done.
    """
    envs: Any = make_vec(env, episodes, autoreset_mode=AutoresetMode.SAME_STEP, **env_kwargs)
    act = follow(policy, deterministic=True)
    states: list[np.ndarray] = []
    alive: list[np.ndarray] = []
    started: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    first, starts = np.ones(episodes, bool), np.ones(episodes, bool)
    fell = np.zeros(episodes, bool)
    observations, _ = envs.reset(seed=seed)
    bound = np.abs(envs.single_action_space.high)
    while (again or first.any()) and len(states) < steps:
        states.append(envs.get_state()["physics"])
        alive.append(first | again)
        started.append(starts)
        chosen = act(observations, starts)
        actions.append(chosen / bound)
        observations, _, terminations, truncations, _ = envs.step(chosen)
        starts = terminations | truncations
        fell |= first & terminations
        first = first & ~starts
    envs.close()

    model = envs.model
    data = mujoco.MjData(model)
    torso = model.body("torso").id
    geoms = [model.geom(name).id for name in feet.values()]
    shape = (len(states), episodes)
    position, rotation = np.zeros((*shape, 3)), np.zeros((*shape, 3, 3))
    contacts, lies = np.zeros((*shape, len(geoms)), bool), np.zeros(shape, bool)
    for index in np.ndindex(shape):
        mujoco.mj_setState(model, data, states[index[0]][index[1]], _STATE)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        position[index] = data.xpos[torso]
        rotation[index] = data.xmat[torso].reshape(3, 3)
        touching = on_ground(model, data)
        contacts[index] = np.isin(geoms, touching)
        lies[index] = not np.isin(touching, geoms).all()
    return Motion(
        seconds=float(model.opt.timestep) * envs.task.frame_skip,
        alive=np.array(alive),
        starts=np.array(started),
        position=position,
        rotation=rotation,
        contacts=contacts,
        lies=lies,
        actions=np.array(actions),
        fell=fell,
    )


# How far up, or down, the torso's upward axis points where a body stands on its feet or its head.
UP = 0.5
_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


def on_ground(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """The geoms that touch what does not move: another foot is no ground."""
    pairs = data.contact.geom
    fixed = model.geom_bodyid[pairs] == 0
    return pairs[fixed[:, ::-1]]


def summarise(motion: Motion, feet: tuple[str, ...]) -> Descriptors:
    """Describe a motion; ``feet`` names the last axis of its contacts."""
    alive, airborne = motion.alive, motion.airborne
    turns, way, seconds = [], np.zeros(3), 0.0
    for n, last in enumerate(alive.sum(0) - 1):
        rotation = motion.rotation[: last + 1, n]
        turns.append(somersaults(pitch(rotation), rotation[:, 2, 2], airborne[: last + 1, n]))
        way += motion.position[last, n] - motion.position[0, n]
        seconds += last * motion.seconds
    front, back = np.mean(turns, axis=0)
    velocity = way / max(seconds, motion.seconds)
    return Descriptors(
        forward_velocity=float(velocity[0]),
        lateral_velocity=float(velocity[1]),
        height=float(motion.position[alive][:, 2].mean()),
        upside_down=float((motion.rotation[alive][:, 2, 2] < 0).mean()),
        front_somersaults=float(front),
        back_somersaults=float(back),
        airborne=float(airborne[alive].mean()),
        feet=dict(zip(feet, motion.contacts[alive].mean(0).tolist(), strict=True)),
        effort=float(np.square(motion.actions[alive]).mean()),
        seconds=float(alive.sum(0).mean() * motion.seconds),
        falls=float(motion.fell.mean()),
    )


def pitch(rotations: np.ndarray) -> np.ndarray:
    """The angle ``(T,)`` turned about the body's left axis since the first of ``(T, 3, 3)``.

    In radians, nose down positive, without jumps: more than a full turn is more than 2π.
    """
    turns = np.swapaxes(rotations[:-1], 1, 2) @ rotations[1:]
    cos = np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)
    angles = np.arccos(cos)
    # The left component of each turn's axis.
    left = (turns[:, 0, 2] - turns[:, 2, 0]) / np.maximum(2 * np.sin(angles), 1e-9)
    return np.concatenate([[0.0], np.cumsum(angles * left)])


def somersaults(pitch: np.ndarray, up: np.ndarray, airborne: np.ndarray) -> tuple[int, int]:
    """Count somersaults forwards and backwards.

    A somersault is a full turn of the torso in one direction with the whole body off the ground at
    some moment of it: who rolls over the back makes none. A body that leans to the side turns about
    its left axis also where it spins on the spot: so the torso must stand on its head and on its
    feet in the turn, as it always does where it can move in a plane only.

    Args:
        pitch: ``(T,)``, the angle turned so far in radians, nose down positive.
        up: ``(T,)``, how far the torso's upward axis points up, from −1 to 1.
        airborne: ``(T,)``, whether nothing of the body is on the ground.

    >>> turning, always = np.linspace(0.0, 5 * math.pi, 100), np.ones(100, bool)
    >>> somersaults(turning, np.cos(turning), always)
    (2, 0)
    >>> somersaults(turning, np.cos(turning), ~always), somersaults(turning, 0 * turning, always)
    ((0, 0), (0, 0))
    """
    counts = []
    for angle in (pitch, -pitch):
        start, count = 0, 0
        for t in range(1, len(angle)):
            if angle[t] < angle[start]:
                start = t  # turned back: a new turn can begin only here
            elif angle[t] - angle[start] >= 2 * math.pi:
                # The lowest angle may be long ago: what came before the turn is no part of it.
                begun = np.flatnonzero(angle[start:t] <= angle[t] - 2 * math.pi)[-1]
                turn = slice(start + begun, t + 1)
                over = up[turn].max() > UP and up[turn].min() < -UP
                count += bool(over and airborne[turn].any())
                start = t
        counts.append(count)
    return counts[0], counts[1]


def hops(
    motion: Motion, feet: tuple[str, ...], *, steps: int = 200, heights: tuple[float, float]
) -> dict[str, float]:
    """How fast the bodies hop on each foot: on it alone, for many steps on end.

    A stretch of steps counts if nothing else of the body is on the ground in it, this foot lands in
    it at least twice, and the torso stays between two heights; flight between two contacts is part
    of a hop.

    Args:
        motion: of ``N`` bodies.
        feet: names the last axis of the motion's contacts.
        steps: length of a stretch.
        heights: of the torso's origin, in metres, the lowest and the highest that count.

    Returns:
        By foot, the highest mean horizontal speed over such a stretch, in m/s; 0 where there is
        none.
    """
    low, high = heights
    height = motion.position[..., 2]
    upright = motion.alive & ~motion.lies & (height >= low) & (height <= high)
    fastest = dict.fromkeys(feet, 0.0)
    for index, foot in enumerate(feet):
        others = np.delete(motion.contacts, index, axis=-1).any(-1)
        allowed = upright & ~others
        own = motion.contacts[..., index]
        lands = own[1:] & ~own[:-1]
        for start in range(len(allowed) - steps + 1):
            window = slice(start, start + steps)
            landings = lands[start : start + steps - 1].sum(0)
            hopping = allowed[window].all(0) & (landings >= 2)
            if hopping.any():
                way = motion.position[start + steps - 1] - motion.position[start]
                speed = np.linalg.norm(way[hopping, :2], axis=-1) / ((steps - 1) * motion.seconds)
                fastest[foot] = max(fastest[foot], float(speed.max()))
    return fastest
