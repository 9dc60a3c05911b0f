"""What a new skill's agent takes over from the last one."""

from __future__ import annotations

from skillrl.agents import BaseSkillPolicy, SkillAgent
from skillrl.discovery.settings import TransferRecipe


def transfer(previous: BaseSkillPolicy, agent: SkillAgent, recipe: TransferRecipe) -> None:
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
        policy.reset_head(keep_mean=recipe.head == "noise")
    for normalizer in policy.normalizers:
        normalizer.decay(recipe.normalizer_decay)
    agent.reset_optimizers()
