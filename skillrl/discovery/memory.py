"""How much memory a run's observations take, known before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from skillrl.agents.recipes import OFF_POLICY
from skillrl.discovery.settings import Recipe

MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """Bytes that observations take at most in a generation, the copies made of them included.

    Networks, and what the simulations themselves need, come on top of it, and so do the states from
    which exploration sets out, but for the observations in them.
    """

    rollouts: int
    """What the agent learns from: a rollout as it is, without what was guided, and a batch; or, of
    SAC, the replay buffer, and twice more while it is saved."""
    archive: int
    """Negatives of earlier skills, when there is no more room: as they are, and twice more while
    they are saved."""
    samples: int
    """Negatives and positives of one generation, the latter twice while they are sorted, and what
    was seen where exploration sets out."""
    starts: int
    """Saved states that episodes restart from, twice while they are collected."""

    def __str__(self) -> str:
        """The same in MiB.

        >>> str(Memory(rollouts=3 * MIB, archive=10 * MIB, samples=MIB // 2, starts=0))
        'memory at most: rollouts 3 MiB, archive 10 MiB when full, samples 1 MiB'
        """
        parts = {
            "rollouts {}": self.rollouts,
            "archive {} when full": self.archive,
            "samples {}": self.samples,
            "saved states {}": self.starts,
        }
        sizes = [
            text.format(f"{-(-size // MIB):,} MiB") for text, size in parts.items() if size > 0
        ]
        return f"memory at most: {', '.join(sizes)}"


def memory_for(
    recipe: Recipe, space: spaces.Space[Any], state: Mapping[str, np.ndarray] | None = None
) -> Memory:
    """Return how much memory a run's observations take at most.

    Args:
        recipe: of the run.
        space: of one environment's observations.
        state: that of the environments that samples are gathered in, where episodes restart from
            saved ones.
    """
    one = int(np.prod(space.shape or ())) * np.dtype(space.dtype).itemsize
    agent, samples = recipe.agent, recipe.samples
    rollouts = 2 * agent.n_steps * agent.num_envs + agent.batch_size
    if recipe.algorithm in OFF_POLICY:
        # Each transition with what it led to.
        rollouts = 3 * 2 * recipe.replay.buffer_size
    moments = samples.positive_repeats if samples.explores_from == "way" else 1
    # As they are and in the environments' states, and those that are explored from in turn.
    starting = samples.num_envs * 2 * (moments + 1)
    negatives = samples.num_envs * (samples.negative_steps + 1)
    positives = samples.num_envs * samples.positive_steps * samples.positive_repeats
    # What the archive is cut to holds no room for the present generation's yet.
    each = min(samples.archived, negatives)
    archived = min(recipe.generations * each, samples.archive_size + each)
    starts = 0
    if state is not None:
        # From every tenth step, or the last one.
        starts = 2 * max(1, samples.negative_steps // 10) * sum(a.nbytes for a in state.values())
    return Memory(
        rollouts=one * rollouts,
        archive=one * 3 * archived,
        samples=one * (negatives + starting + 2 * positives),
        starts=starts,
    )
