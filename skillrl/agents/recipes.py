"""Every setting of an ordinary training on an environment's own reward."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from skillrl.envs.make import check_arguments
from skillrl.errors import InvalidValueError

AgentName = Literal["recurrent-ppo", "recurrent-sac", "ppo", "sac", "skill-ppo"]

OFF_POLICY: tuple[AgentName, ...] = ("sac", "recurrent-sac")
"""The agents that learn from a replay buffer."""


@dataclass(frozen=True)
class TrainRecipe:
    """Settings of one training; the same for each of its seeds.

    Raises:
        InvalidValueError: if a setting is out of range.
    """

    env: str
    """Id of the environment, as in `gymnasium.make`."""
    agent: AgentName = "recurrent-ppo"
    """The agent: with memory or without, on-policy (PPO) or off-policy (SAC, which needs continuous
    actions). skill-ppo is the agent of `skillrl discover`."""
    timesteps: int = 1_000_000
    """Environment steps of each seed, of all its environments together; as in Stable-Baselines3 the
    last rollout is taken to its end, which may be a little beyond."""
    n_envs: int | None = None
    """Environments that are stepped together; None for 8 (16 with skill-ppo, whose batches are
    large; 1 with SAC, which takes a gradient step for each step of all of them)."""
    eval_every: int = 50_000
    """Environment steps between two evaluations; the end is evaluated in any case."""
    eval_episodes: int = 10
    """Episodes of an evaluation, without noise, from the same resets each time."""
    mask_velocity: bool = False
    """Hide velocities, so that the agent has to remember; of classic control and MuJoCo."""
    previous_action_reward: bool = False
    """Show the action before each observation and the reward that it earned, so that an agent with
    memory knows what came of what it did."""
    normalize: bool = False
    """Normalise observations (real vectors) and rewards by running statistics, as VecNormalize."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    agent_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the agent's constructor. The device is the CPU unless given here."""
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the policy. `activation_fn` is a name of torch.nn, such as "ReLU"."""

    def __post_init__(self) -> None:
        if self.agent not in get_args(AgentName):
            raise InvalidValueError(
                f"agent should be one of {', '.join(get_args(AgentName))}. Received {self.agent!r}."
            )
        for name in ("timesteps", "n_envs", "eval_every", "eval_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidValueError(f"{name} should be at least 1. Received {value}.")
        check_arguments(self.env_kwargs)

    @property
    def num_envs(self) -> int:
        """How many environments are stepped together."""
        if self.n_envs is not None:
            return self.n_envs
        if self.agent in OFF_POLICY:
            return 1
        return 16 if self.agent == "skill-ppo" else 8
