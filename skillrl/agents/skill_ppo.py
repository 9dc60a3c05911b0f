"""SkillPPO: Stable-Baselines3's PPO with what learning from a neural reward needs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.vec_env import VecEnv

from skillrl.agents.base_skill_policy import BaseSkillPolicy
from skillrl.agents.policy import SkillPolicy
from skillrl.agents.skill_agent import OnPolicySkillAgent
from skillrl.agents.spaces import check_spaces
from skillrl.errors import InvalidValueError

# Numbers that are turned into floats at once.
_PIECE = 2**24


class _Rollout(RolloutBuffer):
    """A rollout whose observations keep their type: as floats, images are four times as large."""

    def reset(self) -> None:
        super().reset()
        dtype = self.observation_space.dtype
        if dtype is not None and np.issubdtype(dtype, np.integer):
            self.observations = np.zeros(self.observations.shape, dtype)


class SkillPPO(OnPolicySkillAgent, PPO):
    """PPO with squashed state-dependent noise, a guide, and entropy by reward.

    What differs from Stable-Baselines3's PPO, after Meier & Mujika 2022 (arXiv 2202.08266):

    - the policy is a ``SkillPolicy``: it carries its own observation normaliser, which counts in
      each rollout after it was learnt from;
    - a *guide*, another policy, may act first in an episode. Guided transitions are not learnt
      from, and environment 0 is never guided;
    - the entropy bonus may differ where the reward is positive;
    - the noise of continuous actions may shrink during training, so that the agent, which may earn
      its reward by the noise at first, learns to earn it without;
    - rewards are scaled, and the actor's hidden layers may learn more slowly than the rest
      (``policy_kwargs={"hidden_learning_rate": 0.5}``).

    Args:
        policy: ``"SkillPolicy"``, or a subclass of it.
        env: as in Stable-Baselines3.
        ent_coef_rewarded: weight of the entropy where the reward is positive; ``ent_coef``
            where None.
        reward_scale: factor on the environment's reward.

    The other arguments are those of Stable-Baselines3's PPO.

    >>> from stable_baselines3.common.env_util import make_vec_env
    >>> env = make_vec_env("CartPole-v1", n_envs=4, seed=0)
    >>> agent = SkillPPO("SkillPolicy", env, n_steps=16, batch_size=64, seed=0, device="cpu")
    >>> agent.learn(128).num_timesteps
    128
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"SkillPolicy": SkillPolicy}
    policy: SkillPolicy

    def __init__(
        self,
        policy: str | type[SkillPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 64,
        batch_size: int = 1_024,
        n_epochs: int = 4,
        *,
        ent_coef: float = 0.0,
        ent_coef_rewarded: float | None = None,
        reward_scale: float = 1.0,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        unsupported = {"use_sde", "clip_range_vf", "target_kl"} & set(kwargs)
        if unsupported:
            raise InvalidValueError(f"SkillPPO takes no {', '.join(sorted(unsupported))}.")
        self.ent_coef_rewarded = ent_coef if ent_coef_rewarded is None else ent_coef_rewarded
        self.reward_scale = reward_scale
        self._guide: BaseSkillPolicy | None = None
        self._guide_max_steps = 0
        self._guided_until = 0
        # Steps for which each environment is still guided.
        self.guided_steps = np.zeros(0, np.int64)
        if isinstance(env, (gym.Env, VecEnv)):
            # Before Stable-Baselines3 does so by an assertion.
            check_spaces(env.observation_space, env.action_space)
            num_envs = env.num_envs if isinstance(env, VecEnv) else 1
            if num_envs * n_steps < 2:
                raise InvalidValueError(
                    "A rollout of one step of one environment is too short to learn from: set "
                    f"n_steps to at least 2. Received {n_steps}."
                )
        with warnings.catch_warnings():
            if not _init_setup_model:
                # `load` sets the saved batch size only after this.
                warnings.filterwarnings("ignore", "You have specified a mini-batch size")
            super().__init__(
                policy,
                env,
                learning_rate,
                n_steps,
                batch_size,
                n_epochs,
                ent_coef=ent_coef,
                rollout_buffer_class=_Rollout,
                _init_setup_model=_init_setup_model,
                **kwargs,
            )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_guide"]

    def set_guide(self, guide: BaseSkillPolicy | None, max_steps: int, until: int) -> None:
        """Let ``guide`` act for the first U[0, max_steps) steps of each episode.

        Args:
            guide: the policy that acts first; None for no guide.
            max_steps: the bound on guided steps of an episode.
            until: episodes that begin at or after this number of time steps are not guided.
        """
        self._guide = guide if max_steps > 0 else None
        self._guide_max_steps = max_steps
        self._guided_until = until
        self.guided_steps = np.zeros(self.n_envs, np.int64)

    def start_from_reset(self, seed: int) -> None:
        """Reset the environments with ``seed``; see ``SkillAgent.start_from_reset``."""
        super().start_from_reset(seed)
        self.guided_steps = np.zeros(self.n_envs, np.int64)

    def rollout_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of ``rollout_state``."""
        return {**super().rollout_shapes(), "guided_steps": (self.n_envs,)}

    def rollout_state(self) -> dict[str, np.ndarray]:
        """Return what the next rollout starts from, besides the environments' own state."""
        return {**super().rollout_state(), "guided_steps": self.guided_steps}

    def set_rollout_state(self, state: dict[str, np.ndarray]) -> None:
        """Start the next rollout from what ``rollout_state`` returned."""
        super().set_rollout_state(state)
        self.guided_steps = state["guided_steps"]

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill ``rollout_buffer`` with ``n_rollout_steps`` steps of every environment."""
        self._anneal()
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        shape = (n_rollout_steps, env.num_envs)
        last_obs = np.asarray(self._last_obs)
        # False where the guide acted.
        self._learnt = np.ones(shape, bool)
        timeouts: list[tuple[int, int, np.ndarray]] = []
        chosen: list[tuple[torch.Tensor, torch.Tensor]] = []
        callback.on_rollout_start()
        for step in range(n_rollout_steps):
            observations = torch.as_tensor(last_obs, device=self.device)
            with torch.no_grad():
                parameters = self.policy.action_parameters(observations)
                actions = self.policy.distribution(parameters).sample()
            chosen.append((parameters, actions))
            environment_actions = self.policy.environment_actions(actions)
            if self._guide is not None:
                guided = self._guided()
                self._learnt[step] = ~guided
                if guided.any():
                    choices, _ = self._guide.predict(last_obs[guided])
                    environment_actions[guided] = choices

            new_obs, rewards, dones, infos = env.step(environment_actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            if dones.any():  # infos tell of finished episodes only
                self._update_info_buffer(infos, dones)
            for index in np.flatnonzero(dones):
                if infos[index].get("TimeLimit.truncated", False):
                    timeouts.append((step, int(index), infos[index]["terminal_observation"]))

            row = rollout_buffer.pos
            rollout_buffer.observations[row] = last_obs
            rollout_buffer.rewards[row] = rewards
            rollout_buffer.episode_starts[row] = self._last_episode_starts
            rollout_buffer.pos += 1
            self._last_obs = last_obs = np.asarray(new_obs)
            self._last_episode_starts = dones
        rollout_buffer.full = True

        # (n_steps, num_envs, size): once for the whole rollout, which is cheaper than step by step.
        parameters, actions = (torch.stack(rows) for rows in zip(*chosen, strict=True))
        rollout_buffer.actions[:] = actions.cpu().numpy()
        log_probs = self.policy.distribution(parameters).log_prob(actions)
        rollout_buffer.log_probs[:] = log_probs.cpu().numpy()
        self._rewarded = rollout_buffer.rewards > 0
        # What the agent's own actions earned, per step and unscaled.
        self.mean_reward = float(rollout_buffer.rewards[self._learnt].mean())
        self.logger.record("rollout/mean_reward", self.mean_reward)
        rollout_buffer.rewards *= self.reward_scale
        self._estimate_returns(rollout_buffer, timeouts)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _guided(self) -> np.ndarray:
        """Whether the guide acts now, per environment; draws the share of new episodes."""
        starts = np.asarray(self._last_episode_starts, bool)
        # torch's generator: one source of randomness to save and restore.
        drawn = torch.randint(self._guide_max_steps, (self.n_envs,)).numpy()
        drawn[0] = 0
        if self.num_timesteps >= self._guided_until:
            drawn[:] = 0
        self.guided_steps = np.where(starts, drawn, np.maximum(self.guided_steps - 1, 0))
        return self.guided_steps > 0

    def _estimate_returns(
        self, buffer: RolloutBuffer, timeouts: list[tuple[int, int, np.ndarray]]
    ) -> None:
        """Evaluate the critic on the whole rollout in one pass, then the advantages (GAE)."""
        rows = [buffer.observations.reshape(-1, *buffer.obs_shape), np.asarray(self._last_obs)]
        rows += [observation[None] for _, _, observation in timeouts]
        with torch.no_grad():
            tensor = torch.as_tensor(np.concatenate(rows), device=self.device)
            # In pieces: images would take much memory as floats.
            piece = max(1, _PIECE // tensor[0].numel())
            values = torch.cat([self.policy.predict_values(t) for t in tensor.split(piece)])
        values = values.squeeze(-1)
        size = buffer.buffer_size * buffer.n_envs
        buffer.values[:] = values[:size].view(buffer.buffer_size, -1).cpu().numpy()
        last_values = values[size : size + buffer.n_envs]
        final_values = values[size + buffer.n_envs :].cpu().numpy()
        # An episode cut by its time limit goes on in the agent's eyes.
        for (step, index, _), value in zip(timeouts, final_values, strict=True):
            buffer.rewards[step, index] += self.gamma * value
        buffer.compute_returns_and_advantage(last_values, np.asarray(self._last_episode_starts))

    def train(self) -> None:
        """Update the policy with the transitions of the rollout that were not guided."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        buffer = self.rollout_buffer
        learnt = self._learnt.reshape(-1)
        ent_coef = np.where(self._rewarded, self.ent_coef_rewarded, self.ent_coef)

        def flat(array: np.ndarray) -> torch.Tensor:
            rows = array.reshape(learnt.size, *array.shape[2:])
            tensor = torch.as_tensor(rows, device=self.device)
            if tensor.is_floating_point():  # images stay bytes until they are learnt from
                tensor = tensor.float()
            return tensor if learnt.all() else tensor[torch.as_tensor(learnt, device=self.device)]

        data = [
            flat(array)
            for array in (
                buffer.observations,
                buffer.actions,
                buffer.log_probs,
                buffer.advantages,
                buffer.returns,
                ent_coef,
            )
        ]
        logs: list[torch.Tensor] = []
        with ThreadPoolExecutor(1) as worker:
            for _ in range(self.n_epochs):
                for batch in self._batches(data):
                    self.policy.optimizer.zero_grad()
                    logs.append(self._compute_gradients(worker, clip_range, *batch))
                    torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                    self.policy.optimizer.step()
                self._n_updates += 1
        if self.policy.normalizer is not None:
            self.policy.normalizer.update(data[0])
        self._log(logs, clip_range)

    def _batches(self, data: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield all rows once, in random order and in batches of about equal size.

        What is left of a rollout without its guided transitions may be any number: a small last
        batch would move the parameters as far as the others by very few.
        """
        order = torch.randperm(len(data[0]))
        count = max(1, math.ceil(len(order) / self.batch_size))
        for rows in order.tensor_split(count):
            if len(rows) >= 2:
                yield tuple(tensor[rows] for tensor in data)

    def _compute_gradients(
        self,
        worker: Executor,
        clip_range: float,
        observations: torch.Tensor,
        actions: torch.Tensor,
        old_log_prob: torch.Tensor,
        advantages: torch.Tensor,
        returns: torch.Tensor,
        ent_coef: torch.Tensor,
    ) -> torch.Tensor:
        """Backpropagate PPO's loss on one batch; what to log of it, in the order of ``_log``.

        Actor and critic share no weights but those of the features. So the critic has a thread of
        its own, which for networks this small is worth more than threads within an operation. Only
        the actor draws random numbers: the result does not depend on timing.
        """
        policy = self.policy
        features = policy.features(observations)
        # Each backpropagates down to its own view of the features.
        actor_features, critic_features = (
            features.detach().requires_grad_(features.requires_grad) for _ in range(2)
        )

        def critic() -> torch.Tensor:
            values = policy.critic(critic_features).squeeze(-1)
            value_loss = (values - returns).square().mean()
            (self.vf_coef * value_loss).backward()
            return value_loss.detach()

        value_loss = worker.submit(critic)
        try:
            distribution = policy.distribution(policy.actor(actor_features))
            if self.normalize_advantage:
                advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            log_ratio = distribution.log_prob(actions) - old_log_prob
            ratio = log_ratio.exp()
            clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
            policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
            entropy = distribution.entropy()
            (policy_loss - (ent_coef * entropy).mean()).backward()
        finally:
            wait([value_loss])
        if features.requires_grad:
            gradients = [view.grad for view in (actor_features, critic_features)]
            torch.autograd.backward([features, features], gradients)
        with torch.no_grad():
            return torch.stack(
                [
                    policy_loss,
                    value_loss.result(),
                    entropy.mean(),
                    (ratio - 1 - log_ratio).mean(),
                    (ratio != clipped).float().mean(),
                ]
            )

    def _log(self, logs: list[torch.Tensor], clip_range: float) -> None:
        names = ("policy_gradient_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
        if logs:
            for name, value in zip(names, torch.stack(logs).mean(0).tolist(), strict=True):
                self.logger.record(f"train/{name}", value)
        buffer = self.rollout_buffer
        variance = float(buffer.returns.var())
        error = float((buffer.returns - buffer.values).var())
        explained = 1 - error / variance if variance > 0 else float("nan")
        self.logger.record("train/explained_variance", explained)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Set the learning rate of every part of the policy."""
        rate = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", rate)
        for group in optimizers.param_groups:
            group["lr"] = rate * group["lr_share"]
