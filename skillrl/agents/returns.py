"""What policies earn in the same episodes, and what they see there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import PyTorchObs

from skillrl.agents.normalizer import Observation
from skillrl.agents.policy_network import PolicyNetwork
from skillrl.envs import (
    MaskVelocityVectorWrapper,
    NeuralRewardVectorWrapper,
    PreviousActionRewardVectorWrapper,
    make_vec,
)
from skillrl.errors import InvalidValueError

# An episode that does not end by itself is cut: no task registered with a limit has a longer one.
_LONGEST_EPISODE = 30_000
# Steps of a chunk that policies with a memory are compared on.
_CHUNK = 32

Act = Callable[[Observation, np.ndarray], np.ndarray]
Rewards = Callable[[np.ndarray], np.ndarray]
"""From observations ``(batch, *shape)`` to rewards ``(batch,)``."""


@dataclass(frozen=True)
class Task:
    """An environment as a policy was trained in it."""

    env: str
    """Its id."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Its keyword arguments."""
    mask_velocity: bool = False
    """Whether velocities are hidden."""
    previous_action_reward: bool = False
    """Whether the last action and reward are observed."""

    def make(self, num_envs: int, reward: Rewards | None = None) -> VectorEnv[Any, Any, Any]:
        """Make environments that begin a new episode in the step that ends one.

        Args:
            num_envs: how many.
            reward: in the place of the environment's own; None for that.
        """
        mode = AutoresetMode.SAME_STEP
        envs = make_vec(self.env, num_envs, autoreset_mode=mode, **self.env_kwargs)
        if self.mask_velocity:
            envs = MaskVelocityVectorWrapper(envs)
        if self.previous_action_reward:
            envs = PreviousActionRewardVectorWrapper(envs)
        return envs if reward is None else NeuralRewardVectorWrapper(envs, reward)

    def __str__(self) -> str:
        arguments = f" with {self.env_kwargs}" if self.env_kwargs else ""
        masked = " without velocities" if self.mask_velocity else ""
        told = " with the last action and reward" if self.previous_action_reward else ""
        return f"{self.env}{arguments}{masked}{told}"


@dataclass(frozen=True)
class Seen:
    """What a policy saw in its episodes, and what it earned.

    Attributes:
        observations: ``(time, episodes, *shape)``, or that for each key; what comes after an
            episode's end is of no episode.
        lengths: steps of each episode.
        returns: sum of the rewards of each.
    """

    observations: Observation
    lengths: np.ndarray
    returns: np.ndarray


class Episodes:
    """Some episodes, always from the same resets, that different policies can be put into.

    Args:
        task: the environment.
        count: number of episodes.
        seed: of the first; those that follow have the next ones.
        reward: in the place of the environment's own.
    """

    def __init__(
        self, task: Task, count: int, seed: int = 0, reward: Rewards | None = None
    ) -> None:
        if count < 1:
            raise InvalidValueError(f"At least one episode is needed. Received {count}.")
        self.task = task
        self.count = count
        self.seed = seed
        self.envs = task.make(count, reward)

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def check(self, network: PolicyNetwork, name: str) -> None:
        """Refuse a policy that does not suit the environment.

        Raises:
            InvalidValueError: naming the spaces that differ.
        """
        policy = network.policy
        for what, own, other in (
            ("observations", policy.observation_space, self.envs.single_observation_space),
            ("actions", policy.action_space, self.envs.single_action_space),
        ):
            if not _fits(own, other):
                raise InvalidValueError(
                    f"The policy of {name} is for {what} {own}, and {self.task} has {other}."
                )

    def mean_return(self, network: PolicyNetwork) -> float:
        """Return what a policy earns in an episode without noise, on average."""
        return float(self._run(_follow(network)).returns.mean())

    def random_return(self) -> float:
        """Return what actions drawn uniformly earn on average."""
        space = self.envs.action_space
        space.seed(self.seed)
        return float(self._run(lambda observations, starts: space.sample()).returns.mean())

    def watch(self, network: PolicyNetwork) -> Seen:
        """Return what a policy sees."""
        return self._run(_follow(network), keep=True)

    def _run(self, act: Act, *, keep: bool = False) -> Seen:
        envs, count = self.envs, self.count
        observations, _ = envs.reset(seed=self.seed)
        running, starts = np.ones(count, bool), np.ones(count, bool)
        returns, lengths = np.zeros(count), np.zeros(count, int)
        kept = []
        while running.any() and lengths.max() < _LONGEST_EPISODE:
            if keep:
                kept.append(_copied(observations))
            observations, rewards, terminations, truncations, _ = envs.step(
                act(observations, starts)
            )
            returns += np.where(running, rewards, 0.0)
            lengths += running
            starts = terminations | truncations
            running &= ~starts
        return Seen(_stacked(kept) if keep else np.zeros(0), lengths, returns)


def comparison_batch(
    networks: Sequence[PolicyNetwork], seen: Sequence[Seen], count: int, seed: int = 0
) -> PyTorchObs:
    """Return raw observations to compare networks on, a share from the episodes of each.

    Args:
        networks: of one kind.
        seen: by each of them.
        count: of observations, about; of networks with a memory they are chunks of at most 32
            steps from the begin of episodes.
        seed: of the choice.

    Returns:
        As the networks take them: ``(batch, *shape)``, or ``(time, batch, *shape)``.
    """
    rng = np.random.default_rng(seed)
    network, share = networks[0], -(-count // len(networks))
    if not network.recurrent:
        rows = []
        for each in seen:
            of_episodes = np.arange(each.lengths.max())[:, None] < each.lengths
            time, episode = np.nonzero(of_episodes)
            chosen = rng.permutation(len(time))[:share]
            rows.append(_picked(each.observations, time[chosen], episode[chosen]))
        return network.tensors(_joined(rows))
    # Half of the episodes of each are long enough, or more.
    steps = int(min(_CHUNK, *(np.median(each.lengths) for each in seen)))
    chunks = []
    for each in seen:
        long = rng.permutation(np.flatnonzero(each.lengths >= steps))[: max(share // steps, 1)]
        chunks.append([_picked(each.observations, np.array([t]), long) for t in range(steps)])
    moments = [network.tensors(_joined(parts)) for parts in zip(*chunks, strict=True)]
    if isinstance(moments[0], dict):
        parts = cast(list[dict[str, torch.Tensor]], moments)
        return {key: torch.stack([each[key] for each in parts]) for key in parts[0]}
    return torch.stack(cast(list[torch.Tensor], moments))


def _follow(network: PolicyNetwork) -> Act:
    state = None

    def act(observations: Observation, starts: np.ndarray) -> np.ndarray:
        nonlocal state
        actions, state = network.predict(observations, state, starts)
        return actions

    return act


def _fits(own: spaces.Space[Any], other: spaces.Space[Any]) -> bool:
    """Whether a policy's space is an environment's, up to where images have their channels."""
    if isinstance(own, spaces.Dict) and isinstance(other, spaces.Dict):
        return own.spaces.keys() == other.spaces.keys() and all(
            _fits(part, other.spaces[key]) for key, part in own.spaces.items()
        )
    if type(own) is not type(other):
        return False
    if isinstance(own, spaces.Box):
        shapes = {other.shape}
        if is_image_space(other) and other.shape is not None:
            shapes.add((other.shape[2], *other.shape[:2]))
        return own.shape in shapes
    return own == other


def _copied(observations: Observation) -> Observation:
    if isinstance(observations, dict):
        return {key: values.copy() for key, values in observations.items()}
    return observations.copy()


def _stacked(kept: Sequence[Any]) -> Observation:
    if isinstance(kept[0], dict):
        return {key: np.stack([each[key] for each in kept]) for key in kept[0]}
    return np.stack(kept)


def _picked(observations: Observation, time: np.ndarray, episode: np.ndarray) -> Observation:
    if isinstance(observations, dict):
        return {key: values[time, episode] for key, values in observations.items()}
    return observations[time, episode]


def _joined(rows: Sequence[Any]) -> Observation:
    if isinstance(rows[0], dict):
        return {key: np.concatenate([each[key] for each in rows]) for key in rows[0]}
    return np.concatenate(rows)
