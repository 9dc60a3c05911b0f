"""What a new skill's agent takes over from the last one."""

from __future__ import annotations

import torch

from skillrl.agents import SkillPolicy, SkillPPO
from skillrl.discovery.recipes import TransferRecipe


def transfer(previous: SkillPolicy, agent: SkillPPO, recipe: TransferRecipe) -> None:
    """Make ``previous`` the starting point of ``agent``, with a new optimiser.

    Source: Meier & Mujika 2022 (arXiv 2202.08266): the value function is kept, the observation
    normaliser's step count shrinks, and the last policy layer is set to zero. The last is not the
    default here: a policy that stands still seldom meets a reward that lies beyond the last skill.
    """
    policy = agent.policy
    policy.load_state_dict(previous.state_dict())
    if not recipe.reuse_features:
        policy.reset_actor()
    if not recipe.reuse_value:
        policy.reset_critic()
    if recipe.head != "keep":
        keep_mean = recipe.head == "noise" and policy.squash_output
        # Means come first, raw standard deviations after them.
        first = policy.action_net.out_features // 2 if keep_mean else 0
        with torch.no_grad():
            for parameter in policy.action_net.parameters():
                parameter[first:] = 0.0
    if policy.normalizer is not None:
        policy.normalizer.decay(recipe.normalizer_decay)
    policy.reset_optimizer()
