"""Observations that tell what was done last, and what it earned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from skillrl.envs.wrapping import TransparentVectorWrapper
from skillrl.errors import InvalidValueError

State = dict[str, Any]


class PreviousActionReward(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """An environment whose observations hold the action before them and the reward that it earned.

    Both are zeros where an episode begins. An agent with memory then knows what it did and what
    came of it. That is the environment's to tell: an agent's ``predict`` is given observations, and
    never a reward.

    Vectors are continued, ``[observation, action, reward]``; to a dictionary the keys ``"action"``
    and ``"reward"`` are added; any other Box, such as an image, becomes the key ``"observation"``
    of a dictionary with these two. Discrete actions are one-hot.

    Args:
        env: with observations in a Box, or a Dict.

    Raises:
        InvalidValueError: if observations or actions are of another kind.

    >>> env = PreviousActionReward(gym.make("CartPole-v1"))
    >>> env.reset(seed=0)[0][4:]
    array([0., 0., 0.], dtype=float32)
    >>> env.step(1)[0][4:]
    array([0., 1., 1.], dtype=float32)
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self.observation_space = _joined_space(env.observation_space, env.action_space)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode: nothing was done before."""
        observation, info = self.env.reset(seed=seed, options=options)
        nothing = np.zeros(spaces.flatdim(self.env.action_space))
        return _joined(observation, nothing, np.zeros(()), self.observation_space), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        done = _flat(self.env.action_space, action)
        joined = _joined(observation, done, np.asarray(reward), self.observation_space)
        return joined, reward, terminated, truncated, info


class PreviousActionRewardVectorWrapper(TransparentVectorWrapper):
    """The same for a vector environment, in any autoreset mode.

    Args:
        env: as for ``PreviousActionReward``.

    Raises:
        InvalidValueError: as ``PreviousActionReward``.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self.single_observation_space = _joined_space(
            env.single_observation_space, env.single_action_space
        )
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._mode = env.metadata.get("autoreset_mode")
        if not isinstance(self._mode, AutoresetMode):
            raise InvalidValueError(
                f"{env} must say in metadata['autoreset_mode'] what follows the end of an "
                f"episode, a member of gymnasium.vector.AutoresetMode, not {self._mode!r}."
            )
        self._actions = np.zeros((env.num_envs, spaces.flatdim(env.single_action_space)))
        self._rewards = np.zeros(env.num_envs)
        # Where the next step will only reset; all False unless the mode is "NextStep".
        self._resetting = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments; where one goes on, so does what was done in it."""
        mask = (options or {}).get("reset_mask")
        where = np.ones(self.num_envs, np.bool_) if mask is None else np.array(mask, np.bool_)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._forget(where)
        self._resetting[where] = False
        return self._joined(observations), infos

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environments; final observations hold the episode's last action and reward."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        space = self.env.single_action_space
        self._actions = np.stack(
            [_flat(space, action) for action in iterate(self.env.action_space, actions)]
        )
        self._rewards = np.array(rewards, float)
        done = terminations | truncations
        if self._mode is AutoresetMode.SAME_STEP:
            if "final_obs" in infos:
                infos["final_obs"] = infos["final_obs"].copy()
                for index in np.flatnonzero(infos["_final_obs"]):
                    infos["final_obs"][index] = _joined(
                        infos["final_obs"][index],
                        *(self._actions[index], self._rewards[index]),
                        self.single_observation_space,
                    )
            self._forget(done)
        elif self._mode is AutoresetMode.NEXT_STEP:
            self._forget(self._resetting)
            self._resetting = done
        return self._joined(observations), rewards, terminations, truncations, infos

    def _forget(self, where: np.ndarray) -> None:
        self._actions[where] = 0
        self._rewards[where] = 0

    def _joined(self, observations: Any) -> Any:
        return _joined(observations, self._actions, self._rewards, self.single_observation_space)

    # Properties, so that the wrapper has these methods exactly where its environment has them.
    @property
    def get_state(self) -> Callable[[], State]:
        """The environment's ``get_state``, with the last actions and rewards."""
        inner: Callable[[], State] = self.env.get_state  # type: ignore[attr-defined]
        return lambda: {
            **inner(),
            "previous_actions": self._actions.copy(),
            "previous_rewards": self._rewards.copy(),
            "previous_resetting": self._resetting.copy(),
        }

    @property
    def set_state(self) -> Callable[..., Any]:
        """The environment's ``set_state``, for a state that this wrapper's ``get_state`` gave."""
        inner: Callable[..., Any] = self.env.set_state  # type: ignore[attr-defined]

        def set_state(state: State, where: np.ndarray | None = None) -> Any:
            own = ("previous_actions", "previous_rewards", "previous_resetting")
            missing = [name for name in own if name not in state]
            if missing:
                raise InvalidValueError(
                    f"The state has no {', '.join(missing)}: take it with get_state from an "
                    "environment wrapped like this one."
                )
            result = inner({name: state[name] for name in state if name not in own}, where)
            chosen = slice(None) if where is None else where
            for name, kept in zip(
                own, (self._actions, self._rewards, self._resetting), strict=True
            ):
                kept[chosen] = state[name]
            return result

        return set_state


def _flat(space: spaces.Space[Any], action: Any) -> np.ndarray:
    """An action as a vector."""
    return np.asarray(flatten(space, action), float)


def _joined_space(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of observations with actions and rewards."""
    action = flatten_space(actions)
    if not isinstance(action, spaces.Box):
        raise InvalidValueError(f"Actions should be vectors of a fixed size. Received {actions}.")
    if isinstance(observations, spaces.Box) and len(observations.shape) == 1:
        # float32 where that holds what is observed, else float64.
        dtype = np.result_type(observations.dtype, np.float32).type
        low = np.concatenate([observations.low, action.low, [-np.inf]], dtype=dtype)
        high = np.concatenate([observations.high, action.high, [np.inf]], dtype=dtype)
        return spaces.Box(low, high, dtype=dtype)
    more = {
        "action": spaces.Box(action.low, action.high, dtype=np.float32),
        "reward": spaces.Box(-np.inf, np.inf, (1,), np.float32),
    }
    if isinstance(observations, spaces.Box):
        return spaces.Dict({"observation": observations, **more})
    if isinstance(observations, spaces.Dict):
        taken = [key for key in more if key in observations.spaces]
        if taken:
            raise InvalidValueError(f"The observations have the keys {', '.join(taken)} already.")
        return spaces.Dict({**observations.spaces, **more})
    raise InvalidValueError(
        f"Observations should be a Box or a Dict. Received {observations}. "
        "gymnasium.wrappers.FlattenObservation turns most other spaces into one."
    )


def _joined(
    observations: Any, actions: np.ndarray, rewards: np.ndarray, space: spaces.Space[Any]
) -> Any:
    """Observations, of one environment or of several, with actions and rewards."""
    rewards = rewards[..., None]
    if isinstance(space, spaces.Box):
        return np.concatenate([observations, actions, rewards], -1).astype(space.dtype)
    return {
        **(observations if isinstance(observations, dict) else {"observation": observations}),
        "action": actions.astype(np.float32),
        "reward": rewards.astype(np.float32),
    }
