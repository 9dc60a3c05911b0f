"""Observations that a reward is fitted to: what a skill does, and what lies just beyond it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from skillrl.agents import BaseSkillPolicy
from skillrl.discovery.exploration import explore
from skillrl.discovery.following import Envs, Memory, episode_limit, follow
from skillrl.discovery.settings import SampleRecipe
from skillrl.envs.wrapping import TransparentVectorWrapper

# Share of what exploration reached, or sets out from, that counts at least: a reward fitted to a
# handful of observations asks for these alone.
_ENOUGH = 0.01
# A reward cannot be fitted to fewer.
_FEWEST = 2
# Steps with which a later life begins.
_BEGIN = 20

# Rewards ``(batch,)`` of observations ``(batch, *shape)``, as shares of the target.
Score = Callable[[np.ndarray], np.ndarray]


class CountedSteps(TransparentVectorWrapper):
    """A vector environment that counts the steps of all its environments together."""

    steps = 0

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environments."""
        self.steps += self.num_envs
        return self.env.step(actions)


class Moment(NamedTuple):
    """Where environments are at some moment of following a policy."""

    step: int
    """Steps for which the policy was followed."""
    observations: np.ndarray
    """The last ones, ``(num_envs, *shape)``, from which the environments go on."""
    earned: np.ndarray
    """What the present episodes have earned so far, in targets, ``(num_envs,)``."""
    starts: np.ndarray
    """Where an episode begins with the last observation, ``(num_envs,)``."""
    memory: Memory
    """What the policy remembers before it sees the last observations."""
    state: dict[str, np.ndarray] | None
    """That of the environments; None where they cannot tell it."""


class Followed(NamedTuple):
    """What following a policy led through and to."""

    visited: np.ndarray
    """All observations, ``(n, *shape)``; none where they were not kept."""
    begins: np.ndarray
    """Rows, of all observations, with which each life but the first of a game began, ``(lives,
    20)``; none where infos do not tell ``"lives"``, of no use where none were kept."""
    lasts: int
    """Steps that the longest tenth of the episodes reach, those not over yet included."""
    moments: tuple[Moment, ...]
    """From where is explored. The environments are where the policy left them."""


def gather_negatives(
    env: Envs,
    policy: BaseSkillPolicy,
    recipe: SampleRecipe,
    seed: int,
    score: Score | None = None,
    *,
    keep: bool = True,
    until: int | None = None,
) -> Followed:
    """Follow ``policy`` for ``negative_steps`` from ordinary resets.

    Somewhat shorter, where the time limit would leave too little of the last episode to explore
    from its end.

    Where it is evaluated without its noise, it acts with it in half of the environments, as it was
    trained, and without in the other half: neither way of doing the skill is to be asked for again.

    Args:
        env: ``recipe.num_envs`` environments with SAME_STEP autoreset.
        policy: the finished skill's.
        recipe: of the samples.
        seed: of the environments.
        score: what observations earn; None for nothing.
        keep: whether to return the observations on the way.
        until: the step to end with, for the moment that it leads to alone; None for all steps.
    """
    observations, infos = env.reset(seed=seed)
    half = env.num_envs // 2 if policy.noiseless else env.num_envs
    noisy, noiseless = follow(policy), follow(policy, deterministic=True)

    def act(observations: np.ndarray, starts: np.ndarray) -> np.ndarray:
        first = noisy(observations[:half], starts[:half])
        if half == env.num_envs:
            return first
        return np.concatenate([first, noiseless(observations[half:], starts[half:])])

    moments_at, steps = _moments(recipe, episode_limit(env))
    if until is not None:
        moments_at, steps = [until], until
    # Of images these are the most memory of a generation: in one piece from the beginning.
    visited = np.empty((steps + 1 if keep else 0, *observations.shape), observations.dtype)
    visited[:1] = observations
    starts, earned = np.ones(env.num_envs, bool), np.zeros(env.num_envs)
    lengths, ended, moments = np.zeros(env.num_envs, np.int64), [], []
    lives, ages, last_rows = _lives(env, infos), np.full(env.num_envs, np.inf), []
    for step in range(steps):
        observations, _, terminations, truncations, infos = env.step(act(observations, starts))
        starts = terminations | truncations
        seen = _final_observations(observations, infos)
        visited[step + 1 : step + 2] = seen
        lengths += 1
        ended.append(lengths[starts])
        lengths[starts] = 0
        before, lives = lives, _lives(env, infos)
        ages = np.select([starts, lives < before], [np.inf, 0], ages + 1)
        begun = np.flatnonzero(ages == _BEGIN - 1)
        last_rows.append((step + 1) * env.num_envs + begun)
        if score is not None:
            earned = np.where(starts, 0.0, earned + score(seen))
        if step + 1 in moments_at:
            memory = _together(noisy.memory, noiseless.memory)
            state = env.get_state() if hasattr(env, "get_state") else None
            moments.append(Moment(step + 1, observations, earned, starts, memory, state))
    lasts = int(np.quantile(np.concatenate([*ended, lengths]), 0.9))
    visited = visited.reshape(-1, *observations.shape[1:])
    rows = np.arange(1 - _BEGIN, 1) * env.num_envs
    begins = np.concatenate(last_rows)[:, None] + rows
    return Followed(visited, begins, lasts, tuple(moments))


def gather_positives(
    env: Envs,
    policy: BaseSkillPolicy,
    recipe: SampleRecipe,
    followed: Followed,
    seed: int,
    score: Score | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Explore from where ``gather_negatives`` led the environments, until an episode ends.

    A policy with a memory explores with what it remembers of the way there.

    Where environments can restore states, exploration sets out from these, on the way from those
    alone whose episodes have earned ``recipe.earned``, whenever that was; otherwise after following
    the policy anew. What was reached counts once its episode has earned as much. Where less than a
    hundredth has, the best hundredth will do, of either. The last ``recipe.before_end``
    observations before an episode terminates, or a life is lost, do not count.

    Args:
        env: environments in which the policy was followed.
        policy: the finished skill's.
        recipe: of the samples.
        followed: what ``gather_negatives`` returned.
        seed: of the environments.
        score: what it was called with.

    Returns:
        The observations reached, ``(n, *shape)``, and the number of the exploration, of which there
        are ``num_envs * positive_repeats``, that reached each of them, ``(n,)``.
    """
    reached, explorations, earnings, left = [], [], [], []
    moments = followed.moments
    drawn = _drawn(moments, recipe)
    for repeat in range(recipe.positive_repeats):
        moment = moments[repeat % len(moments)] if drawn is None else _at(moments, drawn[repeat])
        there = repeat == 0 and recipe.explores_from == "end"
        if moment.state is not None and not there:
            env.set_state(moment.state)  # type: ignore[attr-defined]
        elif not there:
            another, until = seed + repeat * env.num_envs, moment.step
            anew = gather_negatives(env, policy, recipe, another, score, keep=False, until=until)
            (moment,) = anew.moments
        act = explore(policy, recipe, env.single_action_space, moment.memory)
        observations, earned = moment.observations, moment.earned
        alive, starts = np.ones(env.num_envs, bool), moment.starts
        lives, losses, steps = np.zeros(env.num_envs), [], []
        for _ in range(recipe.positive_steps):
            observations, _, terminations, truncations, infos = env.step(act(observations, starts))
            starts = terminations | truncations
            before, lives = lives, _lives(env, infos)
            losses.append(alive & (terminations | (~starts & (lives < before))))
            alive &= ~starts
            if score is not None:
                earned = earned + score(observations)
            reached.append(observations[alive])
            explorations.append(repeat * env.num_envs + np.flatnonzero(alive))
            earnings.append(earned[alive])
            steps.append(alive.copy())
        left += [until[each] for until, each in zip(_until(losses), steps, strict=True)]
    points, numbers, had, until_end = map(np.concatenate, (reached, explorations, earnings, left))
    del reached  # of images, as much memory as the samples themselves
    count = until_end > recipe.before_end
    if count.any():
        count &= had >= _bar(had[count], recipe.earned)
    return (points, numbers) if count.all() else (points[count], numbers[count])


def gather_states(
    env: Envs, policy: BaseSkillPolicy, recipe: SampleRecipe, seed: int
) -> dict[str, np.ndarray]:
    """Follow ``policy`` from ordinary resets, and save states on its way.

    Args:
        env: ``recipe.num_envs`` environments with SAME_STEP autoreset and ``get_state``.
        policy: acts with its noise.
        recipe: of the samples; the policy is followed for ``negative_steps``.
        seed: of the environments.

    Returns:
        Rows of the environments' states, from every tenth step.
    """
    observations, _ = env.reset(seed=seed)
    act = follow(policy)
    saved, starts = [], np.ones(env.num_envs, bool)
    for step in range(recipe.negative_steps):
        observations, _, terminations, truncations, _ = env.step(act(observations, starts))
        starts = terminations | truncations
        if step % 10 == 9:
            saved.append(env.get_state())  # type: ignore[attr-defined]
    saved = saved or [env.get_state()]  # type: ignore[attr-defined]
    return {name: np.concatenate([state[name] for state in saved]) for name in saved[0]}


def _lives(env: Envs, infos: dict[str, Any]) -> np.ndarray:
    """Lives left, where the environments tell them, ``(num_envs,)``."""
    return np.asarray(infos.get("lives", np.zeros(env.num_envs)))


def _until(losses: list[np.ndarray]) -> list[np.ndarray]:
    """For each step the number of steps until the next loss, infinite where none comes."""
    until, left = [], np.full(losses[0].shape, np.inf)
    for lost in reversed(losses):
        until.append(left)
        left = np.where(lost, 1, left + 1)
    return until[::-1]


def _moments(recipe: SampleRecipe, limit: int | None) -> tuple[list[int], int]:
    """Steps after which exploration sets out, and those for which a policy is followed in all."""
    if recipe.explores_from == "way":
        last = recipe.negative_steps - recipe.positive_steps
        repeats = recipe.positive_repeats
        # Of as many parts, rounded up.
        ends = {-(-last * part // repeats) for part in range(1, repeats + 1)}
        return sorted(ends), recipe.negative_steps
    steps = recipe.negative_steps
    # So that an episode has room to explore.
    if limit is not None and recipe.positive_steps < limit:
        while steps > 1 and not 0 < steps % limit <= limit - recipe.positive_steps:
            steps -= 1
    return [steps], steps


def _bar(earned: np.ndarray, wanted: float) -> float:
    """What is wanted, or what enough of all have earned, if that is less."""
    enough = max(_FEWEST, math.ceil(_ENOUGH * len(earned)))
    return min(wanted, np.sort(earned)[::-1][:enough][-1])


def _drawn(moments: tuple[Moment, ...], recipe: SampleRecipe) -> np.ndarray | None:
    """Draw environments, numbered through all moments, whose episodes have earned enough.

    Returns:
        Those of each repeat, ``(positive_repeats, num_envs)``; None where exploration sets out from
        moments in turn.
    """
    if recipe.explores_from == "end" or recipe.earned == 0 or moments[0].state is None:
        return None
    earned = np.concatenate([moment.earned for moment in moments])
    rows = np.flatnonzero(earned >= _bar(earned, recipe.earned))
    numbers = torch.randint(len(rows), (recipe.positive_repeats, len(moments[0].earned)))
    return rows[numbers.numpy()]


def _at(moments: tuple[Moment, ...], rows: np.ndarray) -> Moment:
    """Environments, numbered through all moments, as if all were at the last one."""
    places = [divmod(row, len(moments[0].earned)) for row in rows.tolist()]

    def pick(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([parts[moment][env] for moment, env in places])

    memories = [moment.memory for moment in moments if moment.memory is not None]
    states = [moment.state for moment in moments if moment.state is not None]
    return moments[-1]._replace(
        observations=pick([moment.observations for moment in moments]),
        earned=pick([moment.earned for moment in moments]),
        starts=pick([moment.starts for moment in moments]),
        memory=tuple(map(pick, zip(*memories, strict=True))) if memories else None,
        state={name: pick([state[name] for state in states]) for name in states[0]},
    )


def _together(first: Memory, second: Memory) -> Memory:
    """What is remembered in the first environments and in the others, if there are any."""
    if first is None or second is None:
        return first
    return tuple(np.concatenate(pair) for pair in zip(first, second, strict=True))


def _final_observations(observations: np.ndarray, infos: dict[str, Any]) -> np.ndarray:
    """Replace what a reset showed by what the episode ended with."""
    if "final_obs" not in infos:
        return observations
    ended = infos["_final_obs"]
    observations = observations.copy()
    observations[ended] = np.stack(list(infos["final_obs"][ended]))
    return observations
