"""What a new skill's agent takes over from the last one."""

from __future__ import annotations

import torch

from skillrl.agents import SkillPolicy, SkillPPO
from skillrl.discovery.recipes import TransferRecipe


def transfer(previous: SkillPolicy, agent: SkillPPO, recipe: TransferRecipe) -> None:
    """Make ``previous`` the starting point of ``agent``, with a new optimiser.

    Source: Meier & Mujika 2022 (arXiv 2202.08266): the last policy layer is set to zero, the value
    function is kept, and the observation normaliser's step count shrinks.
    """
    policy = agent.policy
    policy.load_state_dict(previous.state_dict())
    if not recipe.reuse_features:
        policy.reset_actor()
    if not recipe.reuse_value:
        policy.reset_critic()
    if recipe.reset_head:
        with torch.no_grad():
            for parameter in policy.action_net.parameters():
                parameter.zero_()
    if policy.normalizer is not None:
        policy.normalizer.decay(recipe.normalizer_decay)
    policy.reset_optimizer()
