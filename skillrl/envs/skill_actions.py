"""Skills as actions: an ordinary agent chooses which skill acts next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import RecordConstructorArgs

from skillrl.errors import InvalidValueError


class Policy(Protocol):
    """What the wrapper needs of a policy; every algorithm of Stable-Baselines3 has it."""

    def predict(
        self, observation: np.ndarray, state: Any = None, *, deterministic: bool
    ) -> tuple[Any, Any]:
        """Return the action for an observation, and the state to give back with the next one."""
        ...


class SkillActionWrapper(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """An environment whose actions are skills: each acts for several steps.

    Action ``n`` lets skill ``n`` act for ``steps`` steps or until the episode ends; without noise,
    unless the skill says that its noise belongs to it (``noiseless``, as policies of skills have).
    The reward is the sum of the rewards meanwhile, and ``info["skill_steps"]`` is the number of
    steps taken, by which an agent may discount. Source of temporally extended actions: Sutton,
    Precup & Singh 1999 (options).

    Args:
        env: any environment with the skills' action space.
        skills: policies, such as ``skill.policy`` for the skills of a library.
        steps: for which a skill acts.
        skill_observation: from the environment's observation to what the skills observe, where the
            task shows more than they have learnt from, such as a goal; None for the same.

    Raises:
        InvalidValueError: if there are no skills or steps, or a skill is no policy or has other
            actions or, without ``skill_observation``, other observations; from ``step``, if an
            action is no skill.
        gymnasium.error.ResetNeeded: from ``step``, before the first reset.

    >>> class Still:
    ...     def predict(self, observation, state=None, *, deterministic):
    ...         return np.zeros(1, np.float32), None
    >>> env = SkillActionWrapper(gym.make("Pendulum-v1"), [Still()], steps=50)
    >>> _ = env.reset(seed=0)
    >>> _, reward, _, truncated, info = env.step(0)
    >>> reward < 0, truncated, info["skill_steps"]
    (True, False, 50)
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        skills: Sequence[Policy],
        steps: int,
        skill_observation: Callable[[Any], np.ndarray] | None = None,
    ) -> None:
        if not skills or steps < 1:
            raise InvalidValueError(
                "SkillActionWrapper needs at least one skill and one step. Received "
                f"{len(skills)} skill(s) and steps={steps}."
            )
        # Not copied: policies are large.
        RecordConstructorArgs.__init__(
            self,
            skills=skills,
            steps=steps,
            skill_observation=skill_observation,
            _disable_deepcopy=True,
        )
        gym.Wrapper.__init__(self, env)
        for index, skill in enumerate(skills):
            if not hasattr(skill, "predict"):
                raise InvalidValueError(
                    f"Skill {index} should have a predict method, such as skill.policy has of a "
                    f"skill of a library. Received {skill!r}."
                )
            space = getattr(skill, "action_space", env.action_space)
            if space != env.action_space:
                raise InvalidValueError(
                    f"Skill {index} acts in {space}, and the environment in {env.action_space}."
                )
            seen = getattr(skill, "observation_space", env.observation_space)
            if skill_observation is None and seen.shape != env.observation_space.shape:
                raise InvalidValueError(
                    f"Skill {index} observes {seen}, and the environment has "
                    f"{env.observation_space}: skill_observation=... turns one into the other."
                )
        self.skills = list(skills)
        self.steps = steps
        self._skill_observation = skill_observation or (lambda observation: observation)
        self.action_space = spaces.Discrete(len(self.skills))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Let a skill act.

        Returns:
            As Gymnasium's: the last observation, the sum of the rewards, and the last step's info
            with ``"skill_steps"``.
        """
        if not hasattr(self, "_observation"):
            raise ResetNeeded("Call reset() before the first step().")
        if not 0 <= action < len(self.skills):
            raise InvalidValueError(
                f"There are {len(self.skills)} skills, numbered from 0. Received {action}."
            )
        policy, total, taken = self.skills[action], 0.0, 0
        noiseless = getattr(policy, "noiseless", True)
        terminated = truncated = False
        # A skill that remembers does so from where it was chosen.
        state: Any = None
        info: dict[str, Any] = {}
        while taken < self.steps and not (terminated or truncated):
            seen = self._skill_observation(self._observation)
            chosen, state = policy.predict(seen, state, deterministic=noiseless)
            self._observation, reward, terminated, truncated, info = self.env.step(chosen)
            total += float(reward)
            taken += 1
        return self._observation, total, terminated, truncated, {**info, "skill_steps": taken}
