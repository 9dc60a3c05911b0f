"""Policies so simple that what they do is known beforehand."""

import numpy as np
import torch
from gymnasium import spaces

from skillrl.agents import SkillPolicy


def walker(pace: float, noise: float = 1e-3) -> SkillPolicy:
    """A policy that walks at a pace in [-1, 1], whatever it observes."""
    torch.manual_seed(0)
    policy = SkillPolicy(
        spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-1.0, 1.0, (1,)), lambda _: 0.0, hidden=(4,)
    )
    with torch.no_grad():
        policy.action_net.weight.zero_()
        mean = 50.0 * pace if abs(pace) == 1 else np.arctanh(pace)
        raw_std = np.log(np.expm1(noise)) if noise > 1e-3 else -50.0
        policy.action_net.bias.copy_(torch.tensor([mean, raw_std]))
    return policy


def maze_policy() -> SkillPolicy:
    """An untrained policy for the maze."""
    torch.manual_seed(0)
    space = spaces.Box(0, 31, (2,), np.int64)
    return SkillPolicy(space, spaces.Discrete(5), lambda _: 0.0, hidden=(4,))
