"""Agents: Stable-Baselines3 algorithms that learn skills, and that remember."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skillrl.agents.base_skill_policy import BaseSkillPolicy
    from skillrl.agents.conditioning import fix_inputs
    from skillrl.agents.loading import load_policy
    from skillrl.agents.policy import SkillPolicy
    from skillrl.agents.recipes import TrainRecipe
    from skillrl.agents.recurrent_policy import CnnLruPolicy, MultiInputLruPolicy, RecurrentPolicy
    from skillrl.agents.recurrent_ppo import RecurrentPPO
    from skillrl.agents.recurrent_sac import RecurrentSAC
    from skillrl.agents.recurrent_sac_policy import RecurrentSACPolicy
    from skillrl.agents.recurrent_skill_policy import RecurrentSkillPolicy
    from skillrl.agents.skill_agent import OffPolicySkillAgent, OnPolicySkillAgent, SkillAgent
    from skillrl.agents.skill_agents import RecurrentSkillPPO, RecurrentSkillSAC, SkillSAC
    from skillrl.agents.skill_ppo import SkillPPO
    from skillrl.agents.skill_sac_policies import RecurrentSkillSACPolicy, SkillSACPolicy
    from skillrl.agents.zip_files import read_zip_policy

# Imported when first used: recipes are read by the command line, which must not load torch.
_MODULES = {
    "BaseSkillPolicy": "base_skill_policy",
    "CnnLruPolicy": "recurrent_policy",
    "MultiInputLruPolicy": "recurrent_policy",
    "OffPolicySkillAgent": "skill_agent",
    "OnPolicySkillAgent": "skill_agent",
    "RecurrentPPO": "recurrent_ppo",
    "RecurrentPolicy": "recurrent_policy",
    "RecurrentSAC": "recurrent_sac",
    "RecurrentSACPolicy": "recurrent_sac_policy",
    "RecurrentSkillPPO": "skill_agents",
    "RecurrentSkillPolicy": "recurrent_skill_policy",
    "RecurrentSkillSAC": "skill_agents",
    "RecurrentSkillSACPolicy": "skill_sac_policies",
    "SkillAgent": "skill_agent",
    "SkillPPO": "skill_ppo",
    "SkillPolicy": "policy",
    "SkillSAC": "skill_agents",
    "SkillSACPolicy": "skill_sac_policies",
    "TrainRecipe": "recipes",
    "fix_inputs": "conditioning",
    "load_policy": "loading",
    "read_zip_policy": "zip_files",
}

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
    "TrainRecipe",
    "fix_inputs",
    "load_policy",
    "read_zip_policy",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
