"""Recorded actions once more, in colour and with what the game's memory held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillrl.envs.atari.env import AtariEnv
from skillrl.errors import InvalidValueError


@dataclass(frozen=True)
class Replay:
    """An episode of T actions.

    Attributes:
        frames: the console's pictures in colour, uint8 of shape (T + 1, height, width, 3).
        observations: what the agent saw, uint8 of shape (T + 1, 4, 84, 84).
        rewards: what the score grew by, of shape (T,).
        terminated: whether the last action ended the episode.
        probe: what the memory held, integers of shape (T + 1,) by name; see
            :meth:`AtariEnv.probe`.
    """

    frames: NDArray[np.uint8]
    observations: NDArray[np.uint8]
    rewards: NDArray[np.float64]
    terminated: bool
    probe: Mapping[str, NDArray[np.int64]]


def replay(
    game: str,
    actions: Iterable[int],
    *,
    seed: int,
    noops: int | None = None,
    **settings: Any,
) -> Replay:
    """Play recorded actions again: without sticky actions, a game has no other randomness.

    Args:
        game: ALE's name, such as ``"montezuma_revenge"``.
        actions: the actions of one episode.
        seed: what the environment was seeded with.
        noops: of a later episode than the first after seeding, the
            ``"episode_frame_number"`` in the infos of its first observation.
        **settings: of :class:`AtariEnv`, where they were not its defaults.

    Raises:
        InvalidValueError: if the episode ends before the actions do.

    >>> again = replay("montezuma_revenge", [0, 0, 0], seed=0)
    >>> again.frames.shape, again.probe["room"].tolist()
    ((4, 210, 160, 3), [1, 1, 1, 1])
    """
    actions = list(actions)
    env = AtariEnv(game, render_mode="rgb_array", **settings)
    observation, _ = env.reset(seed=seed, options=None if noops is None else {"noops": noops})
    frames, observations, rewards, probes = [env.render()], [observation], [], [env.probe()]
    terminated = False
    for taken, action in enumerate(actions):
        if terminated:
            raise InvalidValueError(
                f"The episode ends after {taken} of the {len(actions)} actions: they were recorded "
                "with another seed, number of no-ops, or settings."
            )
        observation, reward, terminated, _, _ = env.step(np.int64(action))
        frames.append(env.render())
        observations.append(observation)
        rewards.append(reward)
        probes.append(env.probe())
    return Replay(
        frames=np.stack([frame for frame in frames if frame is not None]),
        observations=np.stack(observations),
        rewards=np.array(rewards, np.float64),
        terminated=terminated,
        probe={name: np.array([each[name] for each in probes]) for name in probes[0]},
    )
