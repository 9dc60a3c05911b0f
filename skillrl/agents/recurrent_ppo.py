"""RecurrentPPO: Stable-Baselines3's PPO for policies with memory that learn online."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule
from stable_baselines3.common.utils import explained_variance, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn.functional import mse_loss

from skillrl.agents.recurrence import check_kind, check_policy, environment_for
from skillrl.agents.recurrent_policy import CnnLruPolicy, MultiInputLruPolicy, RecurrentPolicy
from skillrl.agents.spaces import check_bounded, check_observations
from skillrl.envs.arguments import positive_int
from skillrl.errors import InvalidValueError
from skillrl.recurrent import Carry

Refresh = Literal["sweep", "first-order", "none"]


@dataclass(frozen=True)
class _Chunks:
    """A rollout cut into chunks: the first dimension is the chunk's number, the next its steps."""

    observations: PyTorchObs
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    starts: Tensor

    def rows(self, chosen: Tensor) -> _Chunks:
        """Some of the chunks, the time first."""
        rest = (
            *(self.actions, self.log_probs, self.values),
            *(self.advantages, self.returns, self.starts),
        )
        return _Chunks(
            self.seen(chosen), *(value.index_select(0, chosen).transpose(0, 1) for value in rest)
        )

    def seen(self, chosen: Tensor | slice) -> PyTorchObs:
        """The observations of some of the chunks, the time first."""
        seen = self.observations
        if isinstance(seen, dict):
            return {key: value[chosen].transpose(0, 1) for key, value in seen.items()}
        return seen[chosen].transpose(0, 1)


class RecurrentPPO(PPO):
    """PPO whose policy remembers, and learns from chunks of its rollouts.

    Between two chunks a carry holds the state and, by the rule ``"online"``, what the past owes the
    parameters, so that credit reaches back beyond the chunk and beyond the rollout; see
    ``skillrl.recurrent.RecurrentLayer``. Carries are kept where chunks begin, and nowhere else.

    Args:
        policy: ``"MlpLruPolicy"``, ``"CnnLruPolicy"`` or ``"MultiInputLruPolicy"``, or a subclass
            of ``RecurrentPolicy``.
        env: as in Stable-Baselines3, or Gymnasium's vector environment whose episodes are reset in
            the step that ends them (``autoreset_mode="SameStep"``).
        chunk: steps of a chunk; it divides ``n_steps`` and ``batch_size``.
        refresh: how the carries of a rollout follow the parameters while these are updated.
            ``"sweep"``: they are computed anew before each epoch. ``"first-order"``: their states
            are corrected before each gradient step by their sensitivities, so that the rule must
            be ``"online"``; what lies below the recurrence is taken as it was. ``"none"``: they
            stay as they were in the rollout.

    The other arguments are those of Stable-Baselines3's PPO, as in sb3-contrib's RecurrentPPO.

    Raises:
        InvalidValueError: if the chunk does not divide the rollout and the batch, or an argument is
            out of range.

    >>> from stable_baselines3.common.env_util import make_vec_env
    >>> env = make_vec_env("CartPole-v1", n_envs=4, seed=0)
    >>> agent = RecurrentPPO("MlpLruPolicy", env, n_steps=32, batch_size=64, seed=0, device="cpu")
    >>> agent.learn(128).num_timesteps
    128
    >>> action, state = agent.predict(env.reset(), state=None, episode_start=[True] * 4)
    >>> action.shape
    (4,)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpLruPolicy": RecurrentPolicy,
        "CnnLruPolicy": CnnLruPolicy,
        "MultiInputLruPolicy": MultiInputLruPolicy,
    }
    policy: RecurrentPolicy

    def __init__(
        self,
        policy: str | type[RecurrentPolicy],
        env: GymEnv | VectorEnv[Any, Any, Any] | str,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 128,
        batch_size: int = 128,
        n_epochs: int = 10,
        *,
        chunk: int = 16,
        refresh: Refresh = "sweep",
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("use_sde"):
            raise InvalidValueError("RecurrentPPO takes no use_sde.")
        self.chunk = chunk
        self.refresh = refresh
        self._check_chunks(n_steps, batch_size)
        # At the present moment, with sensitivities where the rule has them.
        self._carry: Carry | None = None
        # None, too, where a saved agent is loaded.
        made = environment_for(env, kwargs.get("verbose", 0))
        if made is not None:
            self._check_spaces(made.observation_space, made.action_space)
            check_policy(
                *(policy, self.policy_aliases, made.observation_space), kwargs.get("policy_kwargs")
            )
        super().__init__(
            policy,
            made,  # type: ignore[arg-type]
            learning_rate,
            n_steps,
            batch_size,
            n_epochs,
            _init_setup_model=_init_setup_model,
            **kwargs,
        )

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        # Of `set_env` and `load`, too.
        known: Any = environment_for(env, verbose)
        return PPO._wrap_env(known, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        # Once more, because `load` may change what was saved.
        check_kind(self.policy_class, RecurrentPolicy)
        self._check_chunks(self.n_steps, self.batch_size)
        super()._setup_model()
        rule = self.policy.rule
        if rule == "bptt" and self.chunk != self.n_steps:
            raise InvalidValueError(
                "The rule 'bptt' takes a rollout as one chunk: set chunk to n_steps, which is "
                f"{self.n_steps}. Received {self.chunk}."
            )
        if self.refresh == "first-order" and rule != "online":
            raise InvalidValueError(
                "refresh='first-order' corrects states by their sensitivities, which only the rule "
                f"'online' carries. The policy's rule is {rule!r}."
            )

    def _check_chunks(self, n_steps: int, batch_size: int) -> None:
        if self.refresh not in get_args(Refresh):
            raise InvalidValueError(
                f"refresh should be one of {', '.join(get_args(Refresh))}. Received "
                f"{self.refresh!r}."
            )
        positive_int("chunk", self.chunk)
        for name, size in (("n_steps", n_steps), ("batch_size", batch_size)):
            if positive_int(name, size) % self.chunk:
                raise InvalidValueError(
                    f"chunk={self.chunk} does not divide {name}={size}: a rollout and a batch are "
                    "cut into whole chunks."
                )

    @staticmethod
    def _check_spaces(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        check_observations(observations)
        known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
        if not isinstance(actions, known):
            raise InvalidValueError(
                f"Actions should be a Box, Discrete, MultiDiscrete or MultiBinary. Received "
                f"{actions}."
            )
        check_bounded(actions)
        if not isinstance(actions, spaces.Box) and len(actions.shape or ()) > 1:
            raise InvalidValueError(
                f"MultiDiscrete and MultiBinary actions should be a vector. Received {actions}."
            )
        if np.any(getattr(actions, "start", 0)):
            raise InvalidValueError(f"Actions should be numbered from 0. Received {actions}.")

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill ``rollout_buffer``; the state is carried from step to step."""
        assert self._last_obs is not None  # set by learn
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        if self._carry is None or self._carry.batch_size != env.num_envs:
            self._carry = self.policy.initial_carry(env.num_envs)
        self._carry = self._carry.to(self.device)
        # At the rollout's begin, from where its carries are computed.
        self._first_carry = self._carry
        carry = self._carry.without_sensitivities()
        act = self.policy.stepper()
        callback.on_rollout_start()
        for _ in range(n_rollout_steps):
            starts = torch.as_tensor(self._last_episode_starts, device=self.device).bool()
            observations = obs_as_tensor(self._last_obs, self.device)  # type: ignore[arg-type]
            actions, values, log_probs, carry = act(observations, carry, starts)
            chosen = actions.cpu().numpy().reshape(-1, *(self.action_space.shape or ()))
            environment_actions = self.policy.environment_actions(actions)
            new_obs, rewards, dones, infos = env.step(environment_actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                # The part of a rollout is not learnt from. What is remembered of it counts from
                # the next step on as something given.
                fresh = self.policy.initial_carry(env.num_envs)
                self._carry = Carry({**fresh, **carry})
                self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
                return False
            self._update_info_buffer(infos, dones)
            if isinstance(self.action_space, spaces.Discrete):
                chosen = chosen.reshape(-1, 1)
            rewards = self._learnt_rewards(rewards)
            # An episode cut by its time limit goes on in the agent's eyes.
            for index in np.flatnonzero(dones):
                if infos[index].get("TimeLimit.truncated", False):
                    last = self.policy.obs_to_tensor(infos[index]["terminal_observation"])[0]
                    rows = carry.rows(slice(index, index + 1))
                    _, value, _, _ = act(last, rows, torch.zeros(1, dtype=torch.bool))
                    rewards[index] += self.gamma * float(value)
            rollout_buffer.add(
                self._last_obs,  # type: ignore[arg-type]
                chosen,
                rewards,
                self._last_episode_starts,  # type: ignore[arg-type]
                values,
                log_probs,
            )
            self._last_obs = new_obs  # type: ignore[assignment]
            self._last_episode_starts = dones
        starts = torch.as_tensor(dones, device=self.device)
        _, values, _, _ = act(obs_as_tensor(self._last_obs, self.device), carry, starts)  # type: ignore[arg-type]
        rollout_buffer.compute_returns_and_advantage(values, dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _learnt_rewards(self, rewards: np.ndarray) -> np.ndarray:
        """A step's rewards as they are learnt from, ``(num_envs,)``: a subclass may scale them."""
        return np.array(rewards, np.float32)

    def train(self) -> None:
        """Update the policy with the rollout, chunk by chunk."""
        policy = self.policy
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        clip_range_vf = None
        if self.clip_range_vf is not None:
            clip_range_vf = self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]
        chunks = self._cut()
        parameters = [*policy.parameters()]
        logs: list[Tensor] = []
        kl_reached = False
        carries = then = None
        for _ in range(self.n_epochs):
            if carries is None or self.refresh == "sweep":
                carries, self._carry = self._sweep(chunks)
                then = policy.coefficients() if self.refresh == "first-order" else None
            for rows in torch.randperm(len(chunks.starts), device=self.device).split(
                self.batch_size // self.chunk
            ):
                carry = carries.rows(rows)
                if then is not None:
                    carry = policy.corrected(carry, then)
                loss, log = self._loss(chunks.rows(rows), carry, clip_range, clip_range_vf)
                if self.target_kl is not None and log[-2] > 1.5 * self.target_kl:
                    kl_reached = True
                    break
                logs.append(log)
                policy.optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
                policy.optimizer.step()
            self._n_updates += 1
            if kl_reached:
                break
        # The rollout that follows begins with what the present parameters remember.
        if self.refresh == "sweep":
            _, self._carry = self._sweep(chunks)
        elif then is not None and self._carry is not None:
            self._carry = policy.corrected(self._carry, then)
        self._log(logs, clip_range)

    def _cut(self) -> _Chunks:
        """The rollout as chunks: of the first environments' first chunks first."""
        buffer = self.rollout_buffer
        count = self.n_steps // self.chunk

        def cut(values: np.ndarray, shape: tuple[int, ...] = ()) -> Tensor:
            tensor = torch.as_tensor(values, device=self.device)
            tensor = tensor.reshape(count, self.chunk, self.n_envs, *shape or tensor.shape[2:])
            return tensor.transpose(1, 2).flatten(0, 1)

        if isinstance(buffer, DictRolloutBuffer):
            observations: PyTorchObs = {
                key: cut(value) for key, value in buffer.observations.items()
            }
        else:
            observations = cut(buffer.observations)
        actions = cut(buffer.actions)
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().squeeze(-1)
        return _Chunks(
            observations,
            actions,
            cut(buffer.log_probs),
            cut(buffer.values),
            cut(buffer.advantages),
            cut(buffer.returns),
            cut(buffer.episode_starts).bool(),
        )

    @torch.no_grad()
    def _sweep(self, chunks: _Chunks) -> tuple[Carry, Carry]:
        """Carries where chunks begin, by the present parameters, and the one at the end."""
        # Features of one chunk after the other: those of images are large on the way.
        shape = torch.Size((self.chunk, self.n_envs))
        features = [
            self.policy.chunk_features(chunks.seen(slice(first, first + self.n_envs)), shape)
            for first in range(0, len(chunks.starts), self.n_envs)
        ]
        starts = chunks.starts.unflatten(0, (-1, self.n_envs)).transpose(1, 2).flatten(0, 1)
        *found, last = self.policy.sweep(torch.cat(features), self._first_carry, starts, self.chunk)
        return Carry.concatenate(found), last

    def _loss(
        self, batch: _Chunks, carry: Carry, clip_range: float, clip_range_vf: float | None
    ) -> tuple[Tensor, Tensor]:
        """PPO's loss on some chunks, and what to log of it, in the order of ``_log``."""
        values, log_prob, entropy = self.policy.evaluate_chunk(
            batch.observations, batch.actions, carry, batch.starts
        )
        advantages = batch.advantages
        if self.normalize_advantage and advantages.numel() > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = log_prob - batch.log_probs
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
        policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
        if clip_range_vf is not None:
            values = batch.values + (values - batch.values).clamp(-clip_range_vf, clip_range_vf)
        value_loss = mse_loss(values, batch.returns)
        # Without an analytic form it is estimated.
        entropy_loss = -(-log_prob if entropy is None else entropy).mean()
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        with torch.no_grad():
            log = torch.stack(
                [
                    policy_loss,
                    value_loss,
                    entropy_loss,
                    (ratio - 1 - log_ratio).mean(),
                    (ratio != clipped).to(ratio.dtype).mean(),
                ]
            )
        return loss, log

    def _log(self, logs: list[Tensor], clip_range: float) -> None:
        names = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")
        if logs:
            for name, value in zip(names, torch.stack(logs).mean(0).tolist(), strict=True):
                self.logger.record(f"train/{name}", value)
        buffer = self.rollout_buffer
        known = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        self.logger.record("train/explained_variance", known)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_first_carry"]
