"""Agents: Stable-Baselines3 algorithms that learn skills."""

from skillrl.agents.conditioning import fix_inputs
from skillrl.agents.policy import SkillPolicy
from skillrl.agents.recurrent_policy import CnnLruPolicy, MultiInputLruPolicy, RecurrentPolicy
from skillrl.agents.recurrent_ppo import RecurrentPPO
from skillrl.agents.recurrent_sac import RecurrentSAC
from skillrl.agents.recurrent_sac_policy import RecurrentSACPolicy
from skillrl.agents.skill_ppo import SkillPPO

__all__ = [
    "CnnLruPolicy",
    "MultiInputLruPolicy",
    "RecurrentPPO",
    "RecurrentPolicy",
    "RecurrentSAC",
    "RecurrentSACPolicy",
    "SkillPPO",
    "SkillPolicy",
    "fix_inputs",
]
