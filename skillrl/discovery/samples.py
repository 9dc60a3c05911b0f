"""Observations that a reward is fitted to: what a skill does, and what lies just beyond it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from scipy.cluster.vq import kmeans2
from stable_baselines3.common.policies import BasePolicy

from skillrl.agents import BaseSkillPolicy
from skillrl.discovery.recipes import SampleRecipe
from skillrl.errors import InvalidValueError

# Components that persist less oscillate, and cannot be asked to go far for long; those that persist
# less than the second are asked for by single observations.
OSCILLATION, POSTURE = 0.03, 0.1
# Standardised components that vary less than this have nowhere to go.
STILL = 0.05

Envs = VectorEnv[Any, Any, Any]


class Act(Protocol):
    """Acts in a batch of environments, step by step."""

    def __call__(self, observations: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        """Return what the environments are given, for observations and where episodes begin."""


# What a policy remembers, arrays ``(batch, …)``; None where it does not, or not yet.
Memory = tuple[np.ndarray, ...] | None


class Follower:
    """Acts as a policy does, which remembers from step to step if it can."""

    def __init__(self, policy: BasePolicy, deterministic: bool, memory: Memory) -> None:
        self.memory = memory
        self._policy = policy
        self._deterministic = deterministic

    def __call__(self, observations: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        """Return actions; see ``Act``."""
        _check_finite(observations)
        actions, self.memory = self._policy.predict(
            observations, self.memory, starts, self._deterministic
        )
        return actions


def follow(policy: BasePolicy, *, deterministic: bool = False, memory: Memory = None) -> Follower:
    """Act as the policy does, with what it remembers so far."""
    return Follower(policy, deterministic, memory)


def explore(
    policy: BaseSkillPolicy,
    recipe: SampleRecipe,
    space: spaces.Space[Any],
    memory: Memory = None,
) -> Act:
    """Act with much more noise than the policy: in its actions or its weights, or at random."""
    if recipe.exploration == "uniform" or isinstance(space, spaces.Discrete):
        # Seeded from torch's generator, the one source of randomness of a run.
        space.seed(int(torch.randint(2**31, ())))
        return lambda observations, starts=None: np.stack([space.sample() for _ in observations])

    if recipe.exploration == "parameter-noise":
        return disturbed(policy, recipe.exploration_std, memory)

    follows = follow(policy, memory=memory)

    def act(observations: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        with policy.widened(recipe.exploration_std):
            return follows(observations, starts)

    return act


def disturbed(policy: BaseSkillPolicy, std: float, memory: Memory = None) -> Act:
    """Act in each environment as another copy of the policy, with noise in its last layer.

    A copy acts without other noise, so that what it does is something that a policy can do. Source
    of noise in parameters for exploration: Plappert et al. 2018 (arXiv 1706.01905).

    Args:
        policy: for continuous actions.
        std: of the change of a mean action before the tanh, at the first observations.
        memory: what it remembers so far.
    """
    noise: torch.Tensor | None = None
    size = int(np.prod(policy.action_space.shape or ()))
    follows = follow(policy, deterministic=True, memory=memory)

    def disturb(layer: Any, inputs: tuple[torch.Tensor], outputs: torch.Tensor) -> torch.Tensor:
        nonlocal noise
        (hidden,) = inputs
        if noise is None:
            noise = torch.randn(len(hidden), size, hidden.shape[-1]).to(hidden.device)
            noise *= std / hidden.square().sum(-1).mean().sqrt()
        # Means come first.
        changed = outputs.clone()
        changed[:, :size] += torch.einsum("nah,nh->na", noise, hidden)
        return changed

    def act(observations: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        hook = policy.mean_layer.register_forward_hook(disturb)
        try:
            return follows(observations, starts)
        finally:
            hook.remove()

    return act


# Rewards ``(batch,)`` of observations ``(batch, *shape)``, as shares of the target.
Score = Callable[[np.ndarray], np.ndarray]


class Followed(NamedTuple):
    """What following a policy led through and to."""

    visited: np.ndarray
    """All observations, ``(n, *shape)``; none where they were not kept."""
    last: np.ndarray
    """The last ones, ``(num_envs, *shape)``, from which the environments go on."""
    earned: np.ndarray
    """What the present episodes have earned so far, in targets, ``(num_envs,)``."""
    starts: np.ndarray
    """Where an episode begins with the last observation, ``(num_envs,)``."""
    memory: Memory
    """What the policy remembers before it sees the last observations."""


def gather_negatives(
    env: Envs,
    policy: BaseSkillPolicy,
    recipe: SampleRecipe,
    seed: int,
    score: Score | None = None,
    *,
    keep: bool = True,
) -> Followed:
    """Follow ``policy`` for ``negative_steps`` from ordinary resets.

    Somewhat shorter, where the time limit would leave too little of the last episode to explore.

    It acts with its noise in half of the environments, as it was trained, and without in the other
    half, as it is evaluated: neither way of doing the skill should be asked for again.

    Args:
        env: ``recipe.num_envs`` environments with SAME_STEP autoreset.
        policy: the finished skill's.
        recipe: of the samples.
        seed: of the environments.
        score: what observations earn; None for nothing.
        keep: whether to return the observations on the way, or the end alone.
    """
    observations, _ = env.reset(seed=seed)
    half = env.num_envs // 2
    noisy, noiseless = follow(policy), follow(policy, deterministic=True)

    def act(observations: np.ndarray, starts: np.ndarray) -> np.ndarray:
        first = noisy(observations[:half], starts[:half])
        return np.concatenate([first, noiseless(observations[half:], starts[half:])])

    steps = _following_steps(recipe, episode_limit(env))
    # Of images these are the most memory of a generation: in one piece from the beginning.
    visited = np.empty((steps + 1 if keep else 0, *observations.shape), observations.dtype)
    visited[:1] = observations
    starts, earned = np.ones(env.num_envs, bool), np.zeros(env.num_envs)
    for step in range(steps):
        observations, _, terminations, truncations, infos = env.step(act(observations, starts))
        starts = terminations | truncations
        seen = _final_observations(observations, infos)
        visited[step + 1 : step + 2] = seen
        if score is not None:
            earned = np.where(starts, 0.0, earned + score(seen))
    memory = None
    if noisy.memory is not None and noiseless.memory is not None:
        pairs = zip(noisy.memory, noiseless.memory, strict=True)
        memory = tuple(np.concatenate(pair) for pair in pairs)
    shape = observations.shape[1:]
    return Followed(visited.reshape(-1, *shape), observations, earned, starts, memory)


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


def _following_steps(recipe: SampleRecipe, limit: int | None) -> int:
    """The most steps, up to ``negative_steps``, that leave an episode room to explore."""
    steps = recipe.negative_steps
    if limit is None or recipe.positive_steps >= limit:
        return steps
    while steps > 1 and not 0 < steps % limit <= limit - recipe.positive_steps:
        steps -= 1
    return steps


def episode_limit(env: Envs) -> int | None:
    """Steps after which episodes are truncated; None where that is unknown or never."""
    limit = getattr(env, "max_episode_steps", None)
    if limit is None and env.spec is not None:
        limit = env.spec.max_episode_steps
    return int(limit) if limit is not None and 0 < limit < np.inf else None


def gather_positives(
    env: Envs,
    policy: BaseSkillPolicy,
    recipe: SampleRecipe,
    followed: Followed,
    seed: int,
    score: Score | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Explore from where ``gather_negatives`` left the environments, until an episode ends.

    A policy with a memory explores with what it remembers of the way there.

    Exploration is repeated from the same states where the environments can restore them, and
    otherwise after following the policy anew. Where some episodes had earned ``recipe.earned``,
    what was reached from the others does not count.

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
    state = env.get_state() if hasattr(env, "get_state") else None
    reached, explorations, counts = [], [], []
    for repeat in range(recipe.positive_repeats):
        if repeat > 0 and state is not None:
            env.set_state(state)  # type: ignore[attr-defined]
        elif repeat > 0:
            another = seed + repeat * env.num_envs
            followed = gather_negatives(env, policy, recipe, another, score, keep=False)
        act = explore(policy, recipe, env.single_action_space, followed.memory)
        observations, enough = followed.last, followed.earned >= recipe.earned
        alive, starts = np.ones(env.num_envs, bool), followed.starts
        for _ in range(recipe.positive_steps):
            observations, _, terminations, truncations, _ = env.step(act(observations, starts))
            starts = terminations | truncations
            alive &= ~starts
            reached.append(observations[alive])
            explorations.append(repeat * env.num_envs + np.flatnonzero(alive))
            counts.append(enough[alive])
    points, numbers, count = map(np.concatenate, (reached, explorations, counts))
    del reached  # of images, as much memory as the samples themselves
    if count.all() or not count.any():
        return points, numbers
    return points[count], numbers[count]


def asked_for(
    kind: str,
    points: np.ndarray,
    explorations: np.ndarray,
    recipe: SampleRecipe,
    rng: np.random.Generator,
    earlier: Sequence[str] = (),
) -> tuple[np.ndarray, str]:
    """Choose what a reward is to ask for of what exploration reached.

    Args:
        kind: one of ``SampleRecipe.asks_for``.
        points: observations, ``(n, ...)``, those of an exploration in their order; vectors should
            be standardised.
        explorations: the exploration that each belongs to, ``(n,)``.
        recipe: of the samples.
        rng: source of randomness.
        earlier: what was asked for before.

    Returns:
        Which observations are asked for, ``(n,)``, and a name for it: the kind, or a direction such
        as ``"+8"``, for more of component 8.
    """
    if len(points) < 2:
        return np.ones(len(points), bool), "all"
    if kind == "directions" and points.ndim == 2:
        directions = least_asked(points, explorations, recipe.extreme, earlier)
        if directions:
            return far(points, explorations, directions[0], recipe.extreme), directions[0]
    if kind == "all":
        return np.ones(len(points), bool), kind
    among = np.ones(len(points), bool)
    if kind == "lively ways":
        among = liveliest(points, explorations, recipe.lively)
    wanted = np.zeros(len(points), bool)
    wanted[among] = one_way(points[among], explorations[among], recipe.clusters, rng)
    return wanted, "ways" if kind == "directions" else kind


def persistence(points: np.ndarray, explorations: np.ndarray) -> np.ndarray:
    """Return how much of each component's variance lies between explorations.

    Near 1 it is a posture, which an exploration hardly leaves; near 0 an oscillation, of which
    nothing is left on average; between the two there are velocities. 0 of what hardly moves.

    Args:
        points: observations ``(n, components)``.
        explorations: the exploration that each belongs to, ``(n,)``.

    Returns:
        Shares in [0, 1], ``(components,)``.
    """
    means, numbers = _means(points, explorations)
    moves = points.std(0) > STILL
    return np.where(moves, means[numbers].var(0) / np.where(moves, points.var(0), 1.0), 0.0)


def least_asked(
    points: np.ndarray, explorations: np.ndarray, share: float, earlier: Sequence[str]
) -> list[str]:
    """Return the directions that were asked for least often, the liveliest components first.

    Of each component, the direction in which exploration goes farther comes before the other.

    Args:
        points: observations ``(n, components)``.
        explorations: the exploration that each belongs to, ``(n,)``.
        share: of the observations, by which the two directions are compared.
        earlier: what was asked for before.
    """
    persistent = persistence(points, explorations)
    directions: list[str] = []
    for component in np.argsort(persistent):
        if persistent[component] < OSCILLATION:
            continue
        values = points[:, component]
        up = values[values >= np.quantile(values, 1 - share)].mean() - values.mean()
        down = values.mean() - values[values <= np.quantile(values, share)].mean()
        directions += [f"{sign}{component}" for sign in ("+-" if up >= down else "-+")]
    counts = [earlier.count(direction) for direction in directions]
    return [d for d, n in zip(directions, counts, strict=True) if n == min(counts)]


def far(points: np.ndarray, explorations: np.ndarray, direction: str, share: float) -> np.ndarray:
    """Find what goes farthest in one direction.

    Single observations where the component does not persist: moments that cannot be held but only
    be passed again and again, as in somersaults. Whole explorations where it does, by the average
    of their second half, because many that are fast at first are falling; and of those that go
    farthest the larger of two clusters, because one may run where the other slides.

    Args:
        points: observations ``(n, components)``, those of an exploration in their order.
        explorations: the exploration that each belongs to, ``(n,)``.
        direction: such as ``"+8"``.
        share: of the explorations or observations.

    Returns:
        Which observations do, ``(n,)``.
    """
    component, sign = int(direction[1:]), 1.0 if direction[0] == "+" else -1.0
    values = sign * points[:, component].astype(np.float64)
    if persistence(points, explorations)[component] < POSTURE:
        return values >= np.quantile(values, 1 - share)
    late = _second_half(explorations)
    # An exploration of any length has a second half.
    means, late_numbers = _means(points[late], explorations[late])
    goes = np.zeros(len(means))
    np.add.at(goes, late_numbers, values[late])
    goes /= np.bincount(late_numbers)
    farthest = np.flatnonzero(goes >= np.quantile(goes, 1 - share))
    chosen = farthest[_labels(means[farthest], 2, np.random.default_rng(0)) == 0]
    return np.isin(np.unique(explorations, return_inverse=True)[1], chosen)


def component_of(asked: str) -> int | None:
    """Return the component that a direction goes along; None of what is no direction.

    >>> component_of("-12"), component_of("lively ways")
    (12, None)
    """
    return int(asked[1:]) if asked[:1] in ("+", "-") else None


def told_apart_by(
    component: int, positives: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Add to each group the other one's observations with this component of its own.

    A reward fitted to both asks for the component itself, and not for what happens to go with it:
    where the fastest explorations crouch, for speed, which other postures may serve better.

    Args:
        component: of the observations.
        positives: observations ``(n, components)``.
        others: observations ``(m, components)``; m may be 0.
        rng: source of randomness.

    Returns:
        Both groups, ``(n + m, components)`` each, where there are others.
    """
    if len(others) == 0:
        return positives, others
    like_positives, like_others = others.copy(), positives.copy()
    like_positives[:, component] = rng.choice(positives[:, component], len(others))
    like_others[:, component] = rng.choice(others[:, component], len(positives))
    return np.concatenate([positives, like_positives]), np.concatenate([others, like_others])


def _second_half(explorations: np.ndarray) -> np.ndarray:
    """Whether each observation belongs to the second half of its exploration."""
    order = np.argsort(explorations, kind="stable")
    _, numbers, counts = np.unique(explorations, return_inverse=True, return_counts=True)
    steps = np.empty(len(explorations), np.int64)
    steps[order] = np.arange(len(explorations)) - np.repeat(np.cumsum(counts) - counts, counts)
    return steps >= counts[numbers] // 2


def one_way(
    points: np.ndarray, explorations: np.ndarray, clusters: int, rng: np.random.Generator
) -> np.ndarray:
    """Sort explorations into clusters by what they saw on average, and choose one at random.

    Averages tell lying from running, where single observations would tell a gait's phases apart.

    Args:
        points: observations, ``(n, ...)``; vectors should be standardised.
        explorations: the exploration that each belongs to, ``(n,)``.
        clusters: see ``one_cluster``.
        rng: source of randomness.

    Returns:
        Which observations belong to the chosen cluster of explorations, ``(n,)``.
    """
    means, numbers = _means(points.reshape(len(points), -1), explorations)
    return one_cluster(means, clusters, rng)[numbers]


def _means(points: np.ndarray, explorations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The average of each exploration, and the number of each observation's among them."""
    _, numbers, counts = np.unique(explorations, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), points.shape[1]))
    np.add.at(means, numbers, points)
    return means / counts[:, None], numbers


def liveliest(points: np.ndarray, explorations: np.ndarray, share: float) -> np.ndarray:
    """Find the explorations whose observations change most from step to step.

    Args:
        points: observations, ``(n, ...)``, those of an exploration in their order; vectors should
            be standardised.
        explorations: the exploration that each belongs to, ``(n,)``.
        share: of the explorations, in (0, 1].

    Returns:
        Which observations belong to these explorations, ``(n,)``.
    """
    order = np.argsort(explorations, kind="stable")
    _, numbers = np.unique(explorations, return_inverse=True)
    flat, sorted_numbers = points.reshape(len(points), -1)[order], numbers[order]
    within = sorted_numbers[1:] == sorted_numbers[:-1]
    changes = np.linalg.norm(np.diff(flat, axis=0), axis=1)[within]
    owners, count = sorted_numbers[1:][within], int(numbers.max()) + 1
    pace = np.bincount(owners, changes, count) / np.maximum(np.bincount(owners, None, count), 1)
    return (pace >= np.quantile(pace, 1 - share))[numbers]


def one_cluster(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Sort points into clusters (k-means), and choose one at random.

    Args:
        points: ``(n, ...)``.
        clusters: their number; those with less than a quarter of their share are not chosen.
        rng: source of the first centres and of the choice.

    Returns:
        Which points belong to the chosen cluster, ``(n,)``.
    """
    labels = _labels(points.reshape(len(points), -1).astype(np.float64), clusters, rng)
    large = np.flatnonzero(np.bincount(labels) >= len(points) / (4 * clusters))
    return labels == rng.choice(large)


def _labels(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Sort points ``(n, components)`` into clusters by k-means; 0 is the largest."""
    clusters = min(clusters, len(np.unique(points, axis=0)))
    with warnings.catch_warnings():
        # An empty cluster has no labels, and is the smallest.
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        _, labels = kmeans2(points, clusters, minit="++", rng=rng)
    by_size = np.argsort(-np.bincount(labels, minlength=clusters), kind="stable")
    return np.argsort(by_size)[labels]


def episodes(
    env: Envs, policy: BasePolicy, seed: int, *, max_steps: int, deterministic: bool
) -> tuple[float, float]:
    """Run one episode in each environment from ordinary resets.

    Args:
        env: environments with SAME_STEP autoreset and a learned reward.
        policy: acts in them.
        seed: of the environments.
        max_steps: of an episode; what follows does not count.
        deterministic: whether the policy acts without noise.

    Returns:
        The mean learned reward per step, and the mean return of the environment's own task.
    """
    observations, _ = env.reset(seed=seed)
    act = follow(policy, deterministic=deterministic)
    running, starts = np.ones(env.num_envs, bool), np.ones(env.num_envs, bool)
    rewards, task_returns, steps = np.zeros(env.num_envs), np.zeros(env.num_envs), 0
    for _ in range(max_steps):
        observations, reward, terminations, truncations, infos = env.step(act(observations, starts))
        rewards += np.where(running, reward, 0.0)
        task_returns += np.where(running, infos["task_reward"], 0.0)
        steps += int(running.sum())
        starts = terminations | truncations
        running &= ~starts
        if not running.any():
            break
    return float(rewards.sum() / steps), float(task_returns.mean())


def _final_observations(observations: np.ndarray, infos: dict[str, Any]) -> np.ndarray:
    """Replace what a reset showed by what the episode ended with."""
    if "final_obs" not in infos:
        return observations
    ended = infos["_final_obs"]
    observations = observations.copy()
    observations[ended] = np.stack(list(infos["final_obs"][ended]))
    return observations


def _check_finite(observations: np.ndarray) -> None:
    if observations.dtype.kind == "f" and not np.isfinite(observations).all():
        index = int(np.argwhere(~np.isfinite(observations))[0, 0])
        raise InvalidValueError(
            f"The environment gave an observation that is not finite: {observations[index]}. Let "
            "its episodes terminate before it returns such an observation."
        )
