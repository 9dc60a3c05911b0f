"""Wrappers that put a learnt reward in the place of an environment's own.

The reward of a step is the reward function's value at the observation that the step led to; the
environment's own reward stays in ``info["task_reward"]``. ``NeuralRewardWrapper`` is for one
environment, ``NeuralRewardVectorWrapper`` for a vector environment, which it scores with one
call of the reward function per step.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv

from skillrl.envs.wrapping import TransparentVectorWrapper
from skillrl.errors import InvalidValueError

State = dict[str, np.ndarray]


@runtime_checkable
class RewardModel(Protocol):
    """What the wrappers need of a reward network; ``skillrl.rewards.NeuralReward`` is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        ...

    def reward(self, observations: np.ndarray) -> np.ndarray:
        """Rewards (batch,) of raw observations (batch, *shape)."""
        ...


Reward = str | os.PathLike[str] | RewardModel | Callable[[np.ndarray], np.ndarray]
"""The path of a saved reward or of a skill's folder, a reward network, or a function of
observations (batch, *shape) that returns rewards (batch,)."""


class NeuralRewardWrapper(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """An environment with a learnt reward.

    Where the reward is given as a path, the environment's ``spec`` can be turned into JSON, and
    ``gymnasium.make(spec)`` builds the environment and its reward again.

    Args:
        env: Any environment whose observations are arrays.
        reward: A path, a reward network, or a function; see ``Reward``.

    Raises:
        InvalidValueError: If the observations are no arrays or do not have the shape the reward
            was made for; from ``step``, if an observation or a reward is NaN or infinite, or a
            function returns anything but one reward.

    Examples:
        >>> env = gym.make("CartPole-v1")
        >>> env = NeuralRewardWrapper(env, lambda observations: abs(observations[:, 0]))
        >>> _ = env.reset(seed=0)
        >>> observation, reward, _, _, info = env.step(0)
        >>> reward == abs(float(observation[0]))
        True
        >>> info["task_reward"]
        1.0
    """

    def __init__(self, env: gym.Env[Any, Any], reward: Reward) -> None:
        given: Any = env
        if isinstance(given, VectorEnv):
            raise InvalidValueError(
                f"{given} is a vector environment: wrap it in NeuralRewardVectorWrapper."
            )
        # Not copied: a network is large, and training may go on changing it.
        RecordConstructorArgs.__init__(self, reward=_plain(reward), _disable_deepcopy=True)
        gym.Wrapper.__init__(self, env)
        self._step = 0
        self.set_reward(reward)

    def set_reward(self, reward: Reward) -> None:
        """Score all following steps with another reward; the environment goes on as it is."""
        self._score = _Score(reward, self.observation_space)
        # The spec must rebuild the environment with the reward it has now.
        self._saved_kwargs = {**self._saved_kwargs, "reward": _plain(reward)}
        self._cached_spec = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; its first observation is not scored."""
        self._step = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and score the observation it leads to.

        Returns:
            As Gymnasium's; the environment's own reward is in ``info["task_reward"]``.
        """
        observation, task_reward, terminated, truncated, info = self.env.step(action)
        self._step += 1
        reward = self._score(np.asarray(observation)[None], self._step)[0]
        info["task_reward"] = task_reward
        return observation, float(reward), terminated, truncated, info


class NeuralRewardVectorWrapper(TransparentVectorWrapper):
    """A vector environment with a learnt reward, one call of the reward function per step.

    In every autoreset mode the *final* observation of an episode is the one scored:

    - "SameStep": the step that ends an episode returns the next episode's first observation; the
      reward is that of ``infos["final_obs"]``.
    - "NextStep": the step after the end only resets; its reward is 0.
    - "Disabled": every observation is scored as it is.

    ``infos["task_reward"]``, shape (num_envs,), holds the environment's own rewards of the step;
    its mask ``"_task_reward"`` is False for steps that only reset. In the mode "SameStep" the
    own rewards of finishing steps are in ``infos["final_info"]`` too, where Gymnasium puts what a
    single environment's last ``info`` held.

    Whatever else the wrapped environment has, such as ``get_state`` and ``set_state``, the
    wrapper has too.

    Args:
        env: Any vector environment whose observations are arrays.
        reward: A path, a reward network, or a function; see ``Reward``.

    Raises:
        InvalidValueError: If the observations are no arrays or do not have the shape the reward
            was made for, or if the environment does not name its autoreset mode; from ``step``,
            if an observation or a reward is NaN or infinite, a function does not return one
            reward per environment, or a final observation is missing.

    Examples:
        >>> envs = gym.make_vec("CartPole-v1", num_envs=2)
        >>> envs = NeuralRewardVectorWrapper(envs, lambda observations: abs(observations[:, 0]))
        >>> _ = envs.reset(seed=0)
        >>> observations, rewards, _, _, infos = envs.step(np.array([0, 1]))
        >>> bool((rewards == abs(observations[:, 0])).all())
        True
        >>> infos["task_reward"].tolist()
        [1.0, 1.0]
    """

    def __init__(self, env: VectorEnv[Any, Any, np.ndarray], reward: Reward) -> None:
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise InvalidValueError(
                f"{env} must say in metadata['autoreset_mode'] what follows the end of an "
                f"episode, a member of gymnasium.vector.AutoresetMode, not {mode!r}."
            )
        self._mode = mode
        self._step = 0
        # Where the next step will only reset; all False unless the mode is "NextStep".
        self._resetting = np.zeros(self.num_envs, dtype=np.bool_)
        self.set_reward(reward)

    def set_reward(self, reward: Reward) -> None:
        """Score all following steps with another reward; the environments go on as they are."""
        self._score = _Score(reward, self.single_observation_space)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments; their first observations are not scored."""
        # Read beforehand: Gymnasium's vector environments take the mask out of the options.
        mask = (options or {}).get("reset_mask")
        result = self.env.reset(seed=seed, options=options)
        self._resetting[slice(None) if mask is None else mask] = False
        return result

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environments and score the observations they lead to.

        Returns:
            As Gymnasium's, with rewards in float64, shape (num_envs,).
        """
        observations, task_rewards, terminations, truncations, infos = self.env.step(actions)
        self._step += 1
        done = terminations | truncations
        stepped = ~self._resetting

        reached = observations
        if self._mode is AutoresetMode.SAME_STEP and done.any():
            reached = self._with_final_observations(observations, done, infos)
        rewards = self._score(reached, self._step)
        if self._mode is AutoresetMode.NEXT_STEP:
            rewards[self._resetting] = 0.0
            self._resetting = done

        infos["task_reward"] = task_rewards
        infos["_task_reward"] = stepped
        if self._mode is AutoresetMode.SAME_STEP and isinstance(infos.get("final_info"), dict):
            infos["final_info"]["task_reward"] = np.where(done, task_rewards, 0.0)
            infos["final_info"]["_task_reward"] = done
        return observations, rewards, terminations, truncations, infos

    def _with_final_observations(
        self, observations: np.ndarray, done: np.ndarray, infos: dict[str, Any]
    ) -> np.ndarray:
        if "final_obs" not in infos:
            raise InvalidValueError(
                f"{self.env} ended episodes in environments {np.flatnonzero(done).tolist()} and "
                "reset them in the same step, but its infos have no 'final_obs' to score. Use "
                "another autoreset mode, or check the environment with skillrl.envs.testing."
            )
        reached = observations.copy()
        for index in np.flatnonzero(done):
            reached[index] = infos["final_obs"][index]
        return reached

    # Properties, so that the wrapper has these methods exactly where its environment has them.
    @property
    def get_state(self) -> Callable[[], State]:
        """The environment's ``get_state``; in "NextStep" with what the wrapper itself knows."""
        inner: Callable[[], State] = self.env.get_state  # type: ignore[attr-defined]
        if self._mode is not AutoresetMode.NEXT_STEP:
            return inner
        return lambda: {**inner(), "reward_resetting": self._resetting.copy()}

    @property
    def set_state(self) -> Callable[..., Any]:
        """The environment's ``set_state``, for a state that this wrapper's ``get_state`` gave."""
        inner: Callable[..., Any] = self.env.set_state  # type: ignore[attr-defined]
        if self._mode is not AutoresetMode.NEXT_STEP:
            return inner

        def set_state(state: State, where: np.ndarray | None = None) -> Any:
            if "reward_resetting" not in state:
                raise InvalidValueError(
                    "The state has no 'reward_resetting', so which rewards are those of resets "
                    "is unknown: take it with get_state from an environment wrapped like this one."
                )
            result = inner({k: v for k, v in state.items() if k != "reward_resetting"}, where)
            self._resetting[slice(None) if where is None else where] = state["reward_resetting"]
            return result

        return set_state


class _Score:
    """A reward as a function from observations to rewards that checks what goes in and out."""

    def __init__(self, reward: Reward, space: gym.Space[Any]) -> None:
        if isinstance(reward, (str, os.PathLike)):
            # Imported here, so that wrapping with a function does not load torch.
            from skillrl.rewards import NeuralReward

            path = Path(reward)
            reward = NeuralReward.load(path / "reward.safetensors" if path.is_dir() else path)
        if space.shape is None:
            raise InvalidValueError(
                f"A reward needs observations that are arrays; this environment's space is "
                f"{space}. Wrap it in gymnasium.wrappers.FlattenObservation first."
            )
        if isinstance(reward, RewardModel):
            if tuple(reward.shape) != space.shape:
                raise InvalidValueError(
                    f"The reward was made for observations of shape {tuple(reward.shape)}, the "
                    f"environment's have shape {space.shape}. Use a reward that was learnt in "
                    "this environment."
                )
            self._function: Callable[[np.ndarray], np.ndarray] = reward.reward
        elif callable(reward):
            self._function = reward
        else:
            raise InvalidValueError(
                "The reward must be the path of a saved reward, a skillrl.rewards.NeuralReward, "
                f"or a function of observations, not {reward!r}."
            )

    def __call__(self, observations: np.ndarray, step: int) -> np.ndarray:
        """Rewards, float64 of shape (batch,), in memory that nobody else holds."""
        if observations.dtype.kind == "f" and not np.isfinite(observations).all():
            raise InvalidValueError(_not_finite("observation", observations, step))
        rewards = np.array(self._function(observations), dtype=np.float64)
        if rewards.shape != (len(observations),):
            raise InvalidValueError(
                f"For observations of shape {observations.shape} the reward function must return "
                f"an array of shape ({len(observations)},), not {rewards.shape}."
            )
        if not np.isfinite(rewards).all():
            raise InvalidValueError(_not_finite("reward", rewards, step))
        return rewards


def _not_finite(what: str, values: np.ndarray, step: int) -> str:
    bad = ~np.isfinite(values)
    index, *entry = (int(axis[0]) for axis in np.nonzero(bad))
    remedy = {
        "observation": (
            "The simulation has probably diverged: keep the actions within the action space, or "
            "let the environment terminate before it returns such an observation."
        ),
        "reward": "The observation it belongs to is finite: check the reward function.",
    }[what]
    return (
        f"The {what} of environment {index} at step {step} is not finite: "
        f"{values[index, *entry]}{f' at index {tuple(entry)}' if entry else ''}. {remedy}"
    )


def _plain(reward: Reward) -> Reward:
    """Paths as strings, which a spec in JSON can hold."""
    return os.fspath(reward) if isinstance(reward, os.PathLike) else reward
