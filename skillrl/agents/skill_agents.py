"""Agents that skills are trained with, besides SkillPPO."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from skillrl.agents.recurrent_ppo import RecurrentPPO
from skillrl.agents.recurrent_sac import RecurrentSAC
from skillrl.agents.recurrent_skill_policy import RecurrentSkillPolicy
from skillrl.agents.skill_agent import OffPolicySkillAgent, OnPolicySkillAgent
from skillrl.agents.skill_replay import SkillReplayBuffer, SkillSequenceReplayBuffer
from skillrl.agents.skill_sac_policies import (
    RecurrentSkillSACPolicy,
    SkillSACPolicy,
    check_continuous,
)
from skillrl.recurrent import Carry


class RecurrentSkillPPO(OnPolicySkillAgent, RecurrentPPO):
    """RecurrentPPO with the policy of a skill: its own normaliser, and noise that may shrink.

    Args:
        policy: ``"SkillPolicy"``, or a subclass of ``RecurrentSkillPolicy``.
        env: as in Stable-Baselines3.
        reward_scale: factor on the environment's reward.

    The other arguments are those of RecurrentPPO.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"SkillPolicy": RecurrentSkillPolicy}
    policy: RecurrentSkillPolicy

    def __init__(
        self,
        policy: str | type[RecurrentSkillPolicy],
        env: GymEnv | str,
        *,
        reward_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.reward_scale = reward_scale
        super().__init__(policy, env, **kwargs)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill ``rollout_buffer``; see ``RecurrentPPO.collect_rollouts``."""
        self._anneal()
        self._earned: list[np.ndarray] = []
        goes_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        if self._earned:  # a callback may have stopped at the first step
            self.mean_reward = float(np.mean(self._earned))
            self.logger.record("rollout/mean_reward", self.mean_reward)
        return goes_on

    def _learnt_rewards(self, rewards: np.ndarray) -> np.ndarray:
        self._earned.append(rewards)
        return np.array(self.reward_scale * rewards, np.float32)

    def train(self) -> None:
        """Update the policy with the rollout, and let its normaliser count it."""
        super().train()
        for normalizer in self.policy.normalizers:
            seen = torch.as_tensor(np.asarray(self.rollout_buffer.observations))
            normalizer.update(seen.flatten(0, 1))

    def start_from_reset(self, seed: int) -> None:
        """Reset the environments with ``seed``; see ``SkillAgent.start_from_reset``."""
        super().start_from_reset(seed)
        self._carry = None

    def _present_carry(self) -> Carry:
        return self.policy.initial_carry(self.n_envs) if self._carry is None else self._carry

    def rollout_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of ``rollout_state``."""
        carry = self.policy.initial_carry(self.n_envs)
        shapes = {f"carry.{name}": tuple(value.shape) for name, value in carry.items()}
        return {**super().rollout_shapes(), **shapes}

    def rollout_state(self) -> dict[str, np.ndarray]:
        """Return what the next rollout starts from, besides the environments' own state."""
        carried = {f"carry.{n}": value.numpy() for n, value in self._present_carry().items()}
        return {**super().rollout_state(), **carried}

    def set_rollout_state(self, state: dict[str, np.ndarray]) -> None:
        """Start the next rollout from what ``rollout_state`` returned."""
        super().set_rollout_state(state)
        names = self.policy.initial_carry(self.n_envs)
        self._carry = Carry({n: torch.as_tensor(state[f"carry.{n}"]) for n in names})


class SkillSAC(OffPolicySkillAgent):
    """Stable-Baselines3's SAC with the policy of a skill and a memory that can be scored anew.

    Args:
        policy: ``"SkillPolicy"``, or a subclass of ``SkillSACPolicy``.
        env: as in Stable-Baselines3.
        reward_scale: factor on the environment's reward.

    The other arguments are those of Stable-Baselines3's SAC.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"SkillPolicy": SkillSACPolicy}
    policy: SkillSACPolicy

    def __init__(
        self,
        policy: str | type[SkillSACPolicy],
        env: GymEnv | str,
        *,
        reward_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.reward_scale = reward_scale
        if isinstance(env, gym.Env | VecEnv):
            check_continuous(env.action_space)  # before Stable-Baselines3 does so by an assertion
        super().__init__(policy, env, replay_buffer_class=SkillReplayBuffer, **kwargs)


class RecurrentSkillSAC(OffPolicySkillAgent, RecurrentSAC):
    """RecurrentSAC with the policy of a skill and a memory that can be scored anew.

    Args:
        policy: ``"SkillPolicy"``, or a subclass of ``RecurrentSkillSACPolicy``.
        env: as in Stable-Baselines3.
        reward_scale: factor on the environment's reward.

    The other arguments are those of RecurrentSAC.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"SkillPolicy": RecurrentSkillSACPolicy}
    sequence_buffer_class = SkillSequenceReplayBuffer
    policy: RecurrentSkillSACPolicy
    replay_buffer: SkillSequenceReplayBuffer | None

    def __init__(
        self,
        policy: str | type[RecurrentSkillSACPolicy],
        env: GymEnv | str,
        *,
        reward_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.reward_scale = reward_scale
        super().__init__(policy, env, **kwargs)

    def forget_states(self) -> None:
        """Let what is replayed begin with empty states."""
        assert self.replay_buffer is not None
        self.replay_buffer.forget_states()

    def start_from_reset(self, seed: int) -> None:
        """Reset the environments with ``seed``; see ``SkillAgent.start_from_reset``."""
        super().start_from_reset(seed)
        self._carry = None
