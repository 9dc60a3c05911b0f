"""Acting with much more noise than a policy has, to reach what lies beyond it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from skillrl.agents import BaseSkillPolicy
from skillrl.discovery.following import Act, Memory, follow
from skillrl.discovery.settings import SampleRecipe


def explore(
    policy: BaseSkillPolicy,
    recipe: SampleRecipe,
    space: spaces.Space[Any],
    memory: Memory = None,
) -> Act:
    """Act with much more noise than the policy: in its actions or its weights, or at random."""
    if recipe.exploration == "uniform" or isinstance(space, spaces.Discrete):
        return uniform(space, recipe.exploration_hold)

    if recipe.exploration == "parameter-noise":
        return disturbed(policy, recipe.exploration_std, memory)

    follows = follow(policy, memory=memory)

    def act(observations: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        with policy.widened(recipe.exploration_std):
            return follows(observations, starts)

    return act


def uniform(space: spaces.Space[Any], hold: float = 1.0) -> Act:
    """Act at random, in each environment with one action for ``hold`` steps on average.

    Source of actions that are held: Dabney et al. 2021 (arXiv 2006.01782).
    """
    # Seeded from torch's generator, the one source of randomness of a run.
    space.seed(int(torch.randint(2**31, ())))
    actions: np.ndarray | None = None

    def act(observations: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        nonlocal actions
        drawn = np.stack([space.sample() for _ in observations])
        if actions is not None and hold > 1:
            anew = torch.rand(len(drawn)).numpy() * hold < 1
            drawn[~anew] = actions[~anew]
        actions = drawn
        return drawn

    return act


def disturbed(policy: BaseSkillPolicy, std: float, memory: Memory = None) -> Act:
    """Act in each environment as another copy of the policy, with noise in its last layer.

    A copy acts without other noise, so that what it does is something that a policy can do. Source
    of noise in parameters for exploration: Plappert et al. 2018 (arXiv 1706.01905).

    Args:
        policy: for continuous actions.
        std: of the change of a mean action before the tanh, at the first observations.
        memory: what it remembers so far.
    """
    noise: torch.Tensor | None = None
    size = int(np.prod(policy.action_space.shape or ()))
    follows = follow(policy, deterministic=True, memory=memory)

    def disturb(layer: Any, inputs: tuple[torch.Tensor], outputs: torch.Tensor) -> torch.Tensor:
        nonlocal noise
        (hidden,) = inputs
        if noise is None:
            noise = torch.randn(len(hidden), size, hidden.shape[-1]).to(hidden.device)
            noise *= std / hidden.square().sum(-1).mean().sqrt()
        # Means come first.
        changed = outputs.clone()
        changed[:, :size] += torch.einsum("nah,nh->na", noise, hidden)
        return changed

    def act(observations: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        hook = policy.mean_layer.register_forward_hook(disturb)
        try:
            return follows(observations, starts)
        finally:
            hook.remove()

    return act
