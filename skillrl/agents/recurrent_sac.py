"""RecurrentSAC: Stable-Baselines3's SAC for policies with memory that learn online."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, RolloutReturn, Schedule
from stable_baselines3.common.utils import obs_as_tensor, polyak_update
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from skillrl.agents.recurrence import check_kind, check_policy, environment_for
from skillrl.agents.recurrent_sac_policy import (
    CnnLruSACPolicy,
    MultiInputLruSACPolicy,
    RecurrentActor,
    RecurrentCritic,
    RecurrentSACPolicy,
)
from skillrl.agents.sequence_replay import SequenceReplayBuffer
from skillrl.agents.spaces import check_bounded, check_observations
from skillrl.envs.arguments import positive_int, whole_number
from skillrl.errors import InvalidValueError
from skillrl.recurrent import Carry

# What SAC takes and this agent does not, with Stable-Baselines3's defaults, which ask for nothing.
_UNSUPPORTED: dict[str, Any] = {
    "action_noise": None,
    "n_steps": 1,
    "optimize_memory_usage": False,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": None,
    "use_sde": False,
}


class RecurrentSAC(SAC):
    """SAC whose actor and critics remember, and learn from sequences of the replay buffer.

    A sequence begins with a burn-in, in which the states that were stored with it are brought up to
    the present parameters and sensitivities are rebuilt; then follows a chunk that is learnt from.
    By the rule ``"online"`` credit reaches back to the begin of the burn-in. Target critics burn in
    with their own weights.

    Args:
        policy: ``"MlpLruPolicy"``, ``"CnnLruPolicy"`` or ``"MultiInputLruPolicy"``, or a subclass
            of ``RecurrentSACPolicy``.
        env: as of ``RecurrentPPO``; with continuous actions.
        batch_size: sequences of a gradient step.
        chunk: steps of a sequence that are learnt from.
        burn_in: steps of a sequence before them.

    The other arguments are those of Stable-Baselines3's SAC.

    The replay buffer keeps each observation once, and every ``chunk`` steps the states of actor and
    critics; besides, what was seen at time limits. Its bytes, without the latter, are
    ``replay_buffer.nbytes``, which is printed where ``verbose`` is set.

    Raises:
        InvalidValueError: if actions are not continuous, an argument is out of range, or the replay
            buffer would not fit into memory.

    >>> from stable_baselines3.common.env_util import make_vec_env
    >>> env = make_vec_env("Pendulum-v1", n_envs=2, seed=0)
    >>> agent = RecurrentSAC("MlpLruPolicy", env, buffer_size=1_000, batch_size=4, seed=0)
    >>> agent.learn(150).num_timesteps
    150
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpLruPolicy": RecurrentSACPolicy,
        "CnnLruPolicy": CnnLruSACPolicy,
        "MultiInputLruPolicy": MultiInputLruSACPolicy,
    }
    sequence_buffer_class: ClassVar[type[SequenceReplayBuffer]] = SequenceReplayBuffer
    policy: RecurrentSACPolicy
    actor: RecurrentActor
    critic: RecurrentCritic
    critic_target: RecurrentCritic
    replay_buffer: SequenceReplayBuffer | None

    def __init__(
        self,
        policy: str | type[RecurrentSACPolicy],
        env: GymEnv | VectorEnv[Any, Any, Any] | str,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 32,
        *,
        chunk: int = 16,
        burn_in: int = 16,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        _check_supported(kwargs)
        # None, too, where a saved agent is loaded.
        made = environment_for(env, kwargs.get("verbose", 0))
        if made is not None:
            if not isinstance(made.action_space, spaces.Box):
                raise InvalidValueError(
                    f"SAC is for continuous actions, a Box. Received {made.action_space}: use "
                    "RecurrentPPO."
                )
            check_observations(made.observation_space)
            check_bounded(made.action_space)
            check_policy(
                *(policy, self.policy_aliases, made.observation_space), kwargs.get("policy_kwargs")
            )
        self.chunk, self.burn_in = chunk, burn_in
        # At the present moment.
        self._carry: Carry | None = None
        super().__init__(
            policy,
            made,  # type: ignore[arg-type]
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            _init_setup_model=_init_setup_model,
            **kwargs,
        )

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Load a replay buffer that ``save_replay_buffer`` wrote; see Stable-Baselines3.

        Raises:
            InvalidValueError: if it is that of an agent with other environments, sequences or
                recurrent layers.
        """
        own = self.replay_buffer
        assert own is not None
        super().load_replay_buffer(path, truncate_last_traj)
        loaded: ReplayBuffer | None = self.replay_buffer
        if not isinstance(loaded, type(own)):
            self.replay_buffer = own
            raise InvalidValueError(
                f"The replay buffer should be a {type(own).__name__}. Received a "
                f"{type(loaded).__name__}, as another agent has."
            )
        for name, value in own.layout().items():
            if (found := loaded.layout()[name]) != value:
                self.replay_buffer = own
                raise InvalidValueError(
                    f"The replay buffer is of an agent with {name}={found}, and this one has "
                    f"{value}: load it into an agent of the same settings."
                )

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        # Of `set_env` and `load`, too.
        known: Any = environment_for(env, verbose)
        return SAC._wrap_env(known, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        # Here, because `load` may change what was saved.
        check_kind(self.policy_class, RecurrentSACPolicy)
        kept = ("action_noise", "n_steps", "use_sde")
        _check_supported({name: vars(self)[name] for name in kept})
        for name in ("chunk", "batch_size", "buffer_size"):
            positive_int(name, vars(self)[name])
        for name in ("burn_in", "learning_starts"):
            whole_number(name, vars(self)[name], at_least=0)
        # SB3 makes the buffer before the policy, which knows what is to be stored.
        self.replay_buffer_class = _Later
        super()._setup_model()
        self.replay_buffer_class = self.sequence_buffer_class
        shapes = {
            name: tuple(value.shape[1:])
            for name, value in self.policy.initial_carry(1, sensitivities=False).items()
        }
        length = self.burn_in + self.chunk
        self.replay_buffer = self.sequence_buffer_class(
            *(self.buffer_size, self.observation_space, self.action_space, self.device),
            n_envs=self.n_envs,
            stride=self.chunk,
            length=length,
            states=shapes,
        )
        # Earlier there is no whole sequence.
        self.learning_starts = max(self.learning_starts, (length + 1) * self.n_envs)
        if self.verbose:
            print(f"The replay buffer takes up to {self.replay_buffer.nbytes / 2**30:.2f} GiB.")

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Take steps and remember them; see Stable-Baselines3's ``OffPolicyAlgorithm``."""
        rollout = super().collect_rollouts(*args, **kwargs)
        if not rollout.continue_training:
            # A callback stopped after a step that is not stored: `learn` is to begin new episodes.
            self._last_obs = None
        return rollout

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Act, or draw an action at random in the beginning; remember in both cases."""
        assert self.replay_buffer is not None and self._last_obs is not None
        if self._carry is None or self._carry.batch_size != n_envs:
            self._carry = self.policy.initial_carry(n_envs, sensitivities=False)
        self._carry = self._carry.to(self.device)
        # True after every reset, those of `learn` included.
        begins = np.asarray(self._last_episode_starts, bool)
        self.replay_buffer.add_state(self._carry, begins)
        observations = obs_as_tensor(self._last_obs, self.device)
        starts = torch.as_tensor(begins, device=self.device)
        actions, self._carry = self.policy.act(observations, self._carry, starts)
        scaled = actions.cpu().numpy().reshape(n_envs, *(self.action_space.shape or ()))
        if self.num_timesteps < learning_starts:
            scaled = np.stack(
                [self.policy.scale_action(self.action_space.sample()) for _ in range(n_envs)]
            )
        return self.policy.unscale_action(scaled), scaled

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        self._last_episode_starts = dones.copy()

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """Update actor, critics and entropy coefficient with sequences of the replay buffer."""
        assert self.replay_buffer is not None
        if len(self.replay_buffer.first_steps()) == 0:
            return  # A loaded agent's buffer is empty at first.
        self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)
        logs = []
        for step in range(gradient_steps):
            logs.append(self._update(batch_size))
            if step % self.target_update_interval == 0:
                polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in zip(
            ("ent_coef", "actor_loss", "critic_loss", "entropy"), np.mean(logs, 0), strict=True
        ):
            self.logger.record(f"train/{name}", value)

    def _update(self, batch_size: int) -> tuple[float, float, float, float]:
        """One gradient step of everything; what to log of it."""
        assert self.replay_buffer is not None
        actor, critic, target = self.actor, self.critic, self.critic_target
        batch = self.replay_buffer.sample_sequences(batch_size, self._vec_normalize_env)
        begin = self.burn_in
        actions, rewards = batch.actions[begin:], batch.rewards[begin:]
        weights = batch.counts[begin:]
        weights = weights / weights.sum().clamp_min(1)

        # What each network remembers of the sequence, (chunk + 1, batch, size).
        remembered = actor.remember(batch.seen, begin)
        known = critic.remember(batch.seen, begin)
        with torch.no_grad():
            expected = target.remember(batch.seen, begin)

        chosen, log_prob = actor.choose(remembered[:-1])
        if self.ent_coef_optimizer is not None and self.log_ent_coef is not None:
            ent_coef = self.log_ent_coef.detach().exp()
            assert isinstance(self.target_entropy, float)
            surplus = (weights * (log_prob.detach() + self.target_entropy)).sum()
            ent_coef_loss = -(self.log_ent_coef * surplus).sum()
            self.ent_coef_optimizer.zero_grad()
            ent_coef_loss.backward()
            self.ent_coef_optimizer.step()
        else:
            ent_coef = self.ent_coef_tensor

        def soft_value(remembered: Tensor, expected: list[Tensor]) -> Tensor:
            following, following_log_prob = actor.choose(remembered)
            least = target.values(expected, following).min(0).values
            return least - ent_coef * following_log_prob

        with torch.no_grad():
            value = soft_value(remembered[1:], [latent[1:] for latent in expected])
            # An episode that a time limit ended goes on in the agent's eyes.
            steps, rows, seen = batch.beyond_limits(begin)
            if len(steps):
                ends = (steps + 1 - begin, torch.arange(len(steps), device=self.device))
                value[steps - begin, rows] = soft_value(
                    actor.remember(seen, begin)[ends][None],
                    [latent[ends][None] for latent in target.remember(seen, begin)],
                )[0]
            returns = rewards + (1 - batch.terminations[begin:]) * self.gamma * value

        values = critic.values([latent[:-1] for latent in known], actions)
        critic_loss = 0.5 * (weights * (values - returns).square()).sum()
        critic.optimizer.zero_grad()
        critic_loss.backward()
        critic.optimizer.step()

        # The critics' memory, of before their step, is not the actor's to change.
        judged = critic.values([latent[:-1].detach() for latent in known], chosen).min(0).values
        actor_loss = (weights * (ent_coef * log_prob - judged)).sum()
        actor.optimizer.zero_grad()
        actor_loss.backward()
        actor.optimizer.step()
        entropy = -float((weights * log_prob.detach()).sum())
        return float(ent_coef), float(actor_loss.detach()), float(critic_loss.detach()), entropy


def _check_supported(arguments: Mapping[str, Any]) -> None:
    unsupported = [n for n, usual in _UNSUPPORTED.items() if arguments.get(n, usual) != usual]
    if unsupported:
        raise InvalidValueError(f"RecurrentSAC takes no {', '.join(unsupported)}.")


class _Later(ReplayBuffer):
    """Stands for the buffer until the policy is there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass
