"""What the components of a MuJoCo task's observations are, in words."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco

# Positions and velocities of a joint that moves freely, or turns as a ball does.
_PLACE = [f"{axis} position" for axis in "xyz"]
_TURN = [f"orientation ({part})" for part in "wxyz"]
_MOTION = [f"{axis} velocity" for axis in "xyz"]
_SPIN = [f"{axis} angular velocity" for axis in "xyz"]
_JOINTS = {
    mujoco.mjtJoint.mjJNT_FREE: (_PLACE + _TURN, _MOTION + _SPIN),
    mujoco.mjtJoint.mjJNT_BALL: (_TURN, _SPIN),
    mujoco.mjtJoint.mjJNT_SLIDE: (["position"], ["velocity"]),
    mujoco.mjtJoint.mjJNT_HINGE: (["angle"], ["angular velocity"]),
}
# What Gymnasium's robots that move in a plane call the joints of the torso.
_TORSO = {
    "rootx": ("forward position", "forward velocity"),
    "rootz": ("height", "vertical velocity"),
    "rooty": ("pitch", "pitch rate"),
}


def component_names(env: gym.Env[Any, Any]) -> list[str]:
    """Return the name of each component of an environment's observations.

    Args:
        env: a task of Gymnasium's (v5) that says how its observations are made up.

    Returns:
        Names; none where the environment is another one.

    >>> component_names(gym.make("HalfCheetah-v5"))[6:9]
    ['angle of fshin', 'angle of ffoot', 'forward velocity']
    """
    structure = getattr(env.unwrapped, "observation_structure", None)
    model = getattr(env.unwrapped, "model", None)
    if structure is None or not isinstance(model, mujoco.MjModel):
        return []
    known: dict[str, list[str]] = {"qpos": [], "qvel": []}
    for number in range(model.njnt):
        name, kind = model.joint(number).name, mujoco.mjtJoint(model.jnt_type[number])
        for part, which in (("qpos", 0), ("qvel", 1)):
            named = [f"{each} of {name}" for each in _JOINTS[kind][which]]
            known[part] += [_TORSO[name][which]] if name in _TORSO else named
    # What is left out of the observation are the first positions.
    known["qpos"] = known["qpos"][structure.get("skipped_qpos", 0) :]
    return [
        name
        for part, size in structure.items()
        if part != "skipped_qpos"
        for name in known.get(part, [f"{part} {number}" for number in range(size)])[:size]
    ]
