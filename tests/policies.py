"""Small policies of every kind as networks, with normalisers that differ."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.sac.policies import SACPolicy

from skillrl.agents.normalizer import Normalizer
from skillrl.agents.policy import SkillPolicy
from skillrl.agents.policy_network import policy_network
from skillrl.agents.recurrent_policy import RecurrentPolicy
from skillrl.agents.recurrent_sac_policy import RecurrentSACPolicy
from skillrl.agents.recurrent_skill_policy import RecurrentSkillPolicy
from skillrl.agents.skill_sac_policies import RecurrentSkillSACPolicy, SkillSACPolicy

BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = spaces.Box(-2, 2, (2,), np.float32)

Make = Callable[[spaces.Space[Any]], BasePolicy]


def rate(_: float) -> float:
    return 1e-3


POLICIES: dict[str, Make] = {
    "ppo": lambda actions: ActorCriticPolicy(BOX, actions, rate, net_arch=[8]),
    "sac": lambda actions: SACPolicy(BOX, actions, rate, net_arch=[8]),  # type: ignore[arg-type]
    "recurrent-ppo": lambda actions: RecurrentPolicy(
        BOX, actions, rate, net_arch=[8], encoder=(6,), state_size=4
    ),
    "recurrent-sac": lambda actions: RecurrentSACPolicy(
        BOX,
        actions,  # type: ignore[arg-type]
        rate,
        net_arch=[8],
        encoder=(6,),
        state_size=4,
    ),
    "skill": lambda actions: SkillPolicy(BOX, actions, rate, hidden=(8,)),
    "recurrent-skill": lambda actions: RecurrentSkillPolicy(
        BOX, actions, rate, hidden=(8,), encoder=(6,), state_size=4
    ),
    "skill-sac": lambda actions: SkillSACPolicy(BOX, actions, rate, hidden=(8,)),
    "recurrent-skill-sac": lambda actions: RecurrentSkillSACPolicy(
        BOX, actions, rate, hidden=(8,), encoder=(6,), state_size=4
    ),
}


def normalizer(seed: int) -> Normalizer:
    rng = np.random.default_rng(seed)
    return Normalizer(
        {
            "observation.mean": 100 + rng.normal(size=3),
            "observation.var": rng.uniform(0.5, 2, 3),
            "observation.count": np.array(9.0),
            "clip": np.array(10.0),
            "epsilon": np.array(1e-8),
        }
    )


def network(kind: str, seed: int, *, normalised: bool = True, actions: Any = ACTIONS) -> Any:
    torch.manual_seed(seed)
    found = policy_network(POLICIES[kind](actions), normalizer(seed) if normalised else None)
    with torch.no_grad():
        for name, buffer in found.policy.named_buffers():
            # Of skills' own normalisers.
            if name.endswith("mean"):
                buffer += (0.0 if normalised else 100.0) + torch.randn_like(buffer)
            if name.endswith("var"):
                buffer *= torch.rand_like(buffer) + 0.5
    return found


def observations(recurrent: bool) -> np.ndarray:
    shape = (12, 5, 3) if recurrent else (60, 3)
    return (100 + np.random.default_rng(0).normal(size=shape)).astype(np.float32)
