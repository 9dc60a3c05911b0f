"""Where the skills of a game go, read from the console's memory, which no agent ever sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillrl.discovery.library import Skill
from skillrl.envs.atari import AtariEnv
from skillrl.envs.atari.games import known
from skillrl.errors import InvalidValueError
from skillrl.randomness import drawn_aside


@dataclass(frozen=True)
class Places:
    """What a skill did in some episodes of a game, from ordinary resets."""

    skill: int
    """The skill's number."""
    steps: tuple[tuple[int, int, int, int], ...]
    """Room, x, y, and the steps spent there, of every place that was visited."""
    items: tuple[str, ...]
    """What was picked up at least once."""
    score: float
    """What an episode earned of the game's own reward, on average."""

    @property
    def rooms(self) -> tuple[int, ...]:
        """The rooms visited."""
        return tuple(sorted({room for room, *_ in self.steps}))

    def to_json(self) -> dict[str, Any]:
        """Return a description that JSON can hold."""
        return {**asdict(self), "rooms": list(self.rooms)}


def places(
    skill: Skill, *, episodes: int = 10, steps: int = 1_000, seed: int = 0
) -> tuple[Places, dict[int, NDArray[np.uint8]]]:
    """Let a skill play, and note where it goes.

    Args:
        skill: of one of the games whose memory is known.
        episodes: number of episodes.
        steps: the most steps of an episode.
        seed: of the resets, and of the actions.

    Returns:
        What the skill did, and a picture of every room that it visited.

    Raises:
        InvalidValueError: if it is not known where the game keeps room and position.
    """
    env, policy = skill.make_env(render_mode="rgb_array"), skill.policy
    game = env.unwrapped
    try:
        if not isinstance(game, AtariEnv) or not {"room", "x", "y"} <= {*known(game.game).memory}:
            raise InvalidValueError(
                f"Where the agent is in {skill.record.env} is not known: a map can be drawn of "
                "Montezuma's Revenge, Private Eye and Pitfall."
            )
        names = known(game.game).items
        visits: Counter[tuple[int, int, int]] = Counter()
        items: set[str] = set()
        pictures: dict[int, NDArray[np.uint8]] = {}
        score = 0.0
        with drawn_aside(seed):
            for episode in range(episodes):
                observation, _ = env.reset(seed=seed + episode)
                had, state = game.probe().get("inventory", 0), None
                for _ in range(steps):
                    action, state = policy.predict(
                        observation, state, deterministic=policy.noiseless
                    )
                    observation, _, terminated, truncated, info = env.step(action[()])
                    score += float(info["task_reward"]) / episodes
                    found = game.probe()
                    visits[found["room"], found["x"], found["y"]] += 1
                    new = found.get("inventory", 0) & ~had
                    items |= {name for bit, name in enumerate(names) if new >> bit & 1}
                    if found["room"] not in pictures:
                        pictures[found["room"]] = np.asarray(env.render())
                    if terminated or truncated:
                        break
    finally:
        env.close()
    where = tuple(sorted((*place, count) for place, count in visits.items()))
    return Places(skill.index, where, tuple(sorted(items)), score), pictures
