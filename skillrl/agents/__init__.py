"""Agents: Stable-Baselines3 algorithms that learn skills."""

from skillrl.agents.base_skill_policy import BaseSkillPolicy
from skillrl.agents.conditioning import fix_inputs
from skillrl.agents.loading import load_policy
from skillrl.agents.policy import SkillPolicy
from skillrl.agents.recurrent_policy import CnnLruPolicy, MultiInputLruPolicy, RecurrentPolicy
from skillrl.agents.recurrent_ppo import RecurrentPPO
from skillrl.agents.recurrent_sac import RecurrentSAC
from skillrl.agents.recurrent_sac_policy import RecurrentSACPolicy
from skillrl.agents.recurrent_skill_policy import RecurrentSkillPolicy
from skillrl.agents.skill_agent import OffPolicySkillAgent, OnPolicySkillAgent, SkillAgent
from skillrl.agents.skill_agents import RecurrentSkillPPO, RecurrentSkillSAC, SkillSAC
from skillrl.agents.skill_ppo import SkillPPO
from skillrl.agents.skill_sac_policies import RecurrentSkillSACPolicy, SkillSACPolicy

__all__ = [
    "BaseSkillPolicy",
    "CnnLruPolicy",
    "MultiInputLruPolicy",
    "OffPolicySkillAgent",
    "OnPolicySkillAgent",
    "RecurrentPPO",
    "RecurrentPolicy",
    "RecurrentSAC",
    "RecurrentSACPolicy",
    "RecurrentSkillPPO",
    "RecurrentSkillPolicy",
    "RecurrentSkillSAC",
    "RecurrentSkillSACPolicy",
    "SkillAgent",
    "SkillPPO",
    "SkillPolicy",
    "SkillSAC",
    "SkillSACPolicy",
    "fix_inputs",
    "load_policy",
]
