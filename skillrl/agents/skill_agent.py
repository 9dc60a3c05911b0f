"""What discovery needs of an agent: training with pauses, on rewards that change between skills."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn

from skillrl.agents.base_skill_policy import BaseSkillPolicy
from skillrl.agents.skill_replay import SkillReplay
from skillrl.agents.squashed_actor import SquashedActor
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import read_tensors, write_tensors


class SkillAgent(BaseAlgorithm):
    """Base of the algorithms of Stable-Baselines3 that skills are trained with."""

    policy: BaseSkillPolicy
    mean_reward: float
    """What the agent's actions earned in the last rollout, per step and unscaled."""

    def set_guide(self, guide: BaseSkillPolicy | None, max_steps: int, until: int) -> None:
        """Refuse a guide, which is SkillPPO's alone.

        Raises:
            InvalidValueError: if ``max_steps`` is more than 0.
        """
        if max_steps > 0:
            raise InvalidValueError(
                f"{type(self).__name__} takes no guide: set guide.max_steps to 0."
            )

    def set_noise(self, begin: int, end: int, final: float) -> None:
        """Let the noise of continuous actions shrink; nothing here, where it is learnt alone."""

    def reset_optimizers(self) -> None:
        """Forget the moments of all optimisers."""
        self.policy.reset_optimizer()

    def rescore(self, score: Callable[[np.ndarray], np.ndarray]) -> None:
        """Let what is remembered be paid by another reward; nothing where nothing is.

        Args:
            score: from observations ``(batch, *shape)`` to rewards ``(batch,)``.
        """

    def forget_states(self) -> None:
        """Forget the states of a recurrent network that is no more, where such are remembered."""

    def save_memory(self, path: Path) -> None:
        """Write what is learnt from beside the present rollout; nothing where nothing is."""

    def load_memory(self, path: Path) -> None:
        """Go on with what ``save_memory`` wrote."""

    def start_from_reset(self, seed: int) -> None:
        """Reset the environments with ``seed``; the next ``learn`` goes on from there.

        Raises:
            InvalidValueError: if the agent was loaded without an environment.
        """
        if self.env is None:
            raise InvalidValueError("The agent has no environment: give it one with set_env.")
        self.env.seed(seed)
        self._last_obs = np.asarray(self.env.reset())
        self._last_episode_starts = np.ones(self.n_envs, bool)

    def updates(self, until: int, log_interval: int = 4) -> Iterator[None]:
        """Collect rollouts and learn from each, as ``learn`` does, with a pause after every update.

        What the caller does in a pause, such as saving the agent's state or leaving the loop, finds
        the agent between two rollouts.

        Args:
            until: the number of time steps from which on no further rollout is begun.
            log_interval: updates between two rows of the log.

        Raises:
            InvalidValueError: if the agent was loaded without an environment.
        """
        if self.env is None:
            raise InvalidValueError("The agent has no environment: give it one with set_env.")
        _, callback = self._setup_learn(until - self.num_timesteps, reset_num_timesteps=False)
        callback.on_training_start(locals(), globals())
        iteration = 0
        while self.num_timesteps < until:
            self._collect(callback)
            iteration += 1
            self._update_current_progress_remaining(self.num_timesteps, until)
            if iteration % log_interval == 0:
                self._dump(iteration)
            self._learn()
            yield
        callback.on_training_end()

    def _collect(self, callback: BaseCallback) -> None:
        raise NotImplementedError

    def _learn(self) -> None:
        raise NotImplementedError

    def _dump(self, iteration: int) -> None:
        raise NotImplementedError


class OnPolicySkillAgent(SkillAgent, OnPolicyAlgorithm):
    """Base of the agents that learn from the present rollout alone.

    Their training goes on exactly from weights, optimiser and ``rollout_state``.
    """

    policy: SquashedActor
    # Time steps between which the noise shrinks, and the factor on it that is left.
    _annealing: tuple[int, int, float] = (0, 1, 1.0)

    def set_noise(self, begin: int, end: int, final: float) -> None:
        """Let the noise of continuous actions shrink linearly between two time steps.

        Args:
            begin: the number of time steps until which all of the noise is there.
            end: the number of time steps from which on ``final`` of it is left.
            final: factor on the standard deviations, in (0, 1].

        Raises:
            InvalidValueError: if ``final`` or the order of the two is out of range.
        """
        if not 0.0 < final <= 1.0 or not begin < end:
            raise InvalidValueError(
                "Noise shrinks to a share in (0, 1], between two numbers of time steps. Received "
                f"final={final}, begin={begin}, end={end}."
            )
        self._annealing = (begin, end, final)
        self._anneal()

    def _anneal(self) -> None:
        begin, end, final = self._annealing
        progress = np.clip((self.num_timesteps - begin) / (end - begin), 0.0, 1.0)
        self.policy.noise_scale.fill_(1.0 + progress * (final - 1.0))

    def rollout_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of ``rollout_state``."""
        shape = self.observation_space.shape or ()
        return {"last_obs": (self.n_envs, *shape), "last_episode_starts": (self.n_envs,)}

    def rollout_state(self) -> dict[str, np.ndarray]:
        """Return what the next rollout starts from, besides the environments' own state."""
        return {
            "last_obs": np.asarray(self._last_obs),
            "last_episode_starts": np.asarray(self._last_episode_starts, bool),
        }

    def set_rollout_state(self, state: dict[str, np.ndarray]) -> None:
        """Start the next rollout from what ``rollout_state`` returned.

        Raises:
            InvalidValueError: if it is that of another agent.
        """
        shapes = {name: array.shape for name, array in state.items()}
        if shapes != self.rollout_shapes():
            raise InvalidValueError(
                f"The next rollout's start should have the shapes {self.rollout_shapes()}. "
                f"Received {shapes}."
            )
        self._last_obs = state["last_obs"]
        self._last_episode_starts = state["last_episode_starts"]

    def _collect(self, callback: BaseCallback) -> None:
        assert self.env is not None  # checked by `updates`
        self.collect_rollouts(self.env, callback, self.rollout_buffer, self.n_steps)

    def _learn(self) -> None:
        self.train()

    def _dump(self, iteration: int) -> None:
        self.dump_logs(iteration)


class OffPolicySkillAgent(SkillAgent, SAC):
    """Base of SAC's agents, whose replay buffers can be paid by another reward."""

    policy: BaseSkillPolicy  # type: ignore[assignment]
    reward_scale: float
    replay_buffer: SkillReplay | None  # type: ignore[assignment]

    def rescore(self, score: Callable[[np.ndarray], np.ndarray]) -> None:
        """Let every transition that is remembered be paid by another reward.

        Args:
            score: from observations ``(batch, *shape)`` to rewards ``(batch,)``.
        """
        assert self.replay_buffer is not None
        self.replay_buffer.rescore(lambda seen: self.reward_scale * score(seen))

    def start_from_reset(self, seed: int) -> None:
        """Reset the environments with ``seed``; see ``SkillAgent.start_from_reset``."""
        super().start_from_reset(seed)
        # Actions at the very beginning are drawn by the space.
        self.action_space.seed(seed)

    def save_memory(self, path: Path) -> None:
        """Write what is learnt from beside the policy: transitions and entropy coefficient."""
        assert self.replay_buffer is not None
        arrays = dict(self.replay_buffer.state())
        if self.log_ent_coef is not None:
            arrays["log_ent_coef"] = self.log_ent_coef.detach().numpy()
        write_tensors(path, arrays, {"format": "replay"})

    def load_memory(self, path: Path) -> None:
        """Go on with what ``save_memory`` wrote.

        Raises:
            DamagedFileError: if the file is damaged or that of another agent.
        """
        assert self.replay_buffer is not None
        tensors, description = read_tensors(path)
        try:
            if description.get("format") != "replay":
                raise ValueError(f"it holds {description.get('format')!r}")
            if self.log_ent_coef is not None:
                coefficient = tensors.pop("log_ent_coef")
                with torch.no_grad():
                    self.log_ent_coef.copy_(coefficient)
            self.replay_buffer.set_state({n: tensor.numpy() for n, tensor in tensors.items()})
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path} is no memory of this agent: {error}.") from None

    def reset_optimizers(self) -> None:
        """Forget the moments of all optimisers; the entropy coefficient stays what it is."""
        super().reset_optimizers()
        if self.log_ent_coef is not None:
            self.ent_coef_optimizer = torch.optim.Adam([self.log_ent_coef], lr=0.0)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Take steps and remember them; see Stable-Baselines3's ``OffPolicyAlgorithm``."""
        self._earned: list[np.ndarray] = []
        rollout = super().collect_rollouts(*args, **kwargs)
        if self._earned:  # a callback may have stopped at the first step
            self.mean_reward = float(np.mean(self._earned))
            self.logger.record("rollout/mean_reward", self.mean_reward)
        return rollout

    def _collect(self, callback: BaseCallback) -> None:
        assert self.env is not None and self.replay_buffer is not None  # checked by `updates`
        self.collect_rollouts(
            self.env,
            train_freq=self.train_freq,
            callback=callback,
            learning_starts=self.learning_starts,
            replay_buffer=self.replay_buffer,
        )

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        self._earned.append(reward)
        super()._store_transition(
            replay_buffer, buffer_action, new_obs, self.reward_scale * reward, dones, infos
        )
        for normalizer in self.policy.normalizers:
            normalizer.update(torch.as_tensor(new_obs))

    def _learn(self) -> None:
        if self.num_timesteps >= self.learning_starts:
            self.train(self.gradient_steps, self.batch_size)

    def _dump(self, iteration: int) -> None:
        self.dump_logs()
