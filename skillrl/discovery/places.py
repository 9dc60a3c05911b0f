"""Where the skills of a game go, read from the console's memory, which no agent ever sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillrl.agents import load_policy
from skillrl.discovery.library import SkillLibrary
from skillrl.envs.atari import AtariEnv
from skillrl.envs.atari.games import known
from skillrl.envs.make import make_single
from skillrl.errors import InvalidValueError
from skillrl.randomness import drawn_aside

# Pixels, each way, of the cells that positions are counted by.
CELL = 8


@dataclass(frozen=True)
class Places:
    """What a skill, or the untrained policy, did in some episodes of a game."""

    skill: int | None
    """The skill's number; None for the untrained policy."""
    episodes: int
    """Episodes that it played, from ordinary resets."""
    steps: tuple[tuple[int, int, int, int], ...]
    """Room, x, y, and the steps spent there, of every place that was visited."""
    rooms: dict[int, int]
    """Of each room that was visited, the episodes in which it was."""
    items: dict[str, int]
    """Of each thing that was picked up, the episodes in which it was."""
    score: float
    """What an episode earned of the game's own reward, on average."""

    @property
    def player(self) -> str:
        """What it is called."""
        return "untrained" if self.skill is None else f"skill {self.skill}"

    @property
    def cells(self) -> int:
        """How many squares of 8 x 8 pixels were visited, in all rooms together."""
        return len({(room, x // CELL, y // CELL) for room, x, y, _ in self.steps})

    def to_json(self) -> dict[str, Any]:
        """Return a description that JSON can hold."""
        return {**asdict(self), "cells": self.cells}


def places(
    library: SkillLibrary,
    skill: int | None,
    *,
    episodes: int = 10,
    steps: int = 1_000,
    seed: int | None = None,
) -> tuple[Places, dict[int, NDArray[np.uint8]]]:
    """Let a skill play, and note where it goes.

    Args:
        library: a run in one of the games whose memory is known.
        skill: its number; None for the untrained policy, whose luck is no skill's.
        episodes: number of episodes.
        steps: the most steps of an episode.
        seed: of the resets, and of the actions; None for another one for each skill of each run.

    Returns:
        What the skill did, and a picture of every room that it visited.

    Raises:
        InvalidValueError: if it is not known where the game keeps room and position.
    """
    if seed is None:
        # Resets differ little: by the same ones all that act alike would have the same luck.
        words = [library.seed, 0 if skill is None else skill + 1, *b"places"]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)
    policy = load_policy(library.untrained) if skill is None else library[skill].policy
    recipe = library.recipe
    env = make_single(recipe.env, render_mode="rgb_array", **recipe.env_kwargs)
    game = env.unwrapped
    try:
        if not isinstance(game, AtariEnv) or not {"room", "x", "y"} <= {*known(game.game).memory}:
            raise InvalidValueError(
                f"Where the agent is in {recipe.env} is not known: a map can be drawn of "
                "Montezuma's Revenge, Private Eye and Pitfall."
            )
        names = known(game.game).items
        visits: Counter[tuple[int, int, int]] = Counter()
        rooms: Counter[int] = Counter()
        items: Counter[str] = Counter()
        pictures: dict[int, NDArray[np.uint8]] = {}
        score = 0.0
        with drawn_aside(seed):
            for episode in range(episodes):
                observation, _ = env.reset(seed=seed + episode)
                had, state = game.probe().get("inventory", 0), None
                entered, taken = set(), 0
                for _ in range(steps):
                    action, state = policy.predict(
                        observation, state, deterministic=policy.noiseless
                    )
                    observation, reward, terminated, truncated, _ = env.step(action[()])
                    score += float(reward) / episodes
                    found = game.probe()
                    visits[found["room"], found["x"], found["y"]] += 1
                    entered.add(found["room"])
                    taken |= found.get("inventory", 0) & ~had
                    if found["room"] not in pictures:
                        pictures[found["room"]] = np.asarray(env.render())
                    if terminated or truncated:
                        break
                rooms.update(entered)
                # A set: there are several keys, and it is episodes that are counted.
                items.update({name for bit, name in enumerate(names) if taken >> bit & 1})
    finally:
        env.close()
    where = tuple(sorted((*place, count) for place, count in visits.items()))
    went = dict(sorted(rooms.items())), dict(sorted(items.items()))
    return Places(skill, episodes, where, *went, score), pictures
