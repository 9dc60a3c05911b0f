"""Agents: Stable-Baselines3 algorithms that learn skills."""

from skillrl.agents.conditioning import fix_inputs
from skillrl.agents.policy import SkillPolicy
from skillrl.agents.skill_ppo import SkillPPO

__all__ = ["SkillPPO", "SkillPolicy", "fix_inputs"]
