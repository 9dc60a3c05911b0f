"""``skillrl align``: whether policies of different seeds found the same solution.

Policies are read by ``policies``, skills of several runs paired by ``discovery.pairing``; here they
are put into the same episodes, aligned and scored; ``alignment_results`` writes what came out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from skillrl.agents.comparable import comparable
from skillrl.agents.policy_network import PolicyNetwork, action_kl
from skillrl.agents.returns import Episodes
from skillrl.commands.alignment_results import Comparison, check_new, write
from skillrl.commands.policies import (
    SavedPolicy,
    common_task,
    labels,
    mean_reward,
    read_policies,
    skill_policy,
)
from skillrl.discovery.library import Skill, SkillLibrary
from skillrl.discovery.pairing import Behaviour, pair_skills
from skillrl.errors import InvalidValueError, NotEquivalentError
from skillrl.permutation import AlignedPairs, align_many, align_pairs, interpolate, modes
from skillrl.permutation.connectivity import Matrix
from skillrl.permutation.plane import Plane, plane
from skillrl.permutation.recipes import Method

# Points of the plane's grid, along each side.
_PLANE_POINTS = 7
# Episodes by which skills are paired, at most.
_PAIRING_EPISODES = 10


@dataclass(frozen=True)
class Settings:
    """How policies are compared."""

    method: Method = "activations"
    """What tells which units are alike."""
    signs: bool = True
    """Whether units are flipped and complex states turned as well as permuted."""
    scales: bool = False
    """Whether units behind relu and complex states are scaled, too."""
    episodes: int = 50
    """Episodes of every return, from the same resets for all."""
    points: int = 5
    """Points on every path, its ends included."""
    threshold: float = 0.1
    """Barriers up to this connect two policies."""
    plane: bool = True
    """Whether the plane through the first three is scored, too."""
    seed: int = 0
    """Of the episodes' resets."""

    def __post_init__(self) -> None:
        if self.points < 3:
            raise InvalidValueError(f"A path has at least 3 points. Received {self.points}.")
        if self.episodes < 1:
            raise InvalidValueError(f"episodes should be at least 1. Received {self.episodes}.")
        for name in ("threshold", "seed"):
            if not getattr(self, name) >= 0:
                raise InvalidValueError(
                    f"{name} should be at least 0. Received {getattr(self, name)}."
                )


@dataclass(frozen=True)
class _Group:
    """Policies that are compared with one another."""

    folder: Path
    policies: list[SavedPolicy]
    notes: dict[str, Any] = field(default_factory=dict)


def align(
    paths: Sequence[Path],
    *,
    out: Path,
    env: str | None = None,
    normalizers: Sequence[Path] = (),
    pair: Sequence[str] = (),
    settings: Settings | None = None,
    progress: bool = True,
) -> tuple[list[Comparison], list[str]]:
    """Bring policies into the same coordinates, and tell which lie in one mode.

    Args:
        paths: runs of `skillrl train` or seeds of them, agents that Stable-Baselines3 saved, skills
            or whole runs of `skillrl discover`, whose skills are paired by what they do.
        out: folder for the results; with several pairs of skills, one folder in it for each.
        env: id of the environment, where a file does not say.
        normalizers: files of the statistics of agents that Stable-Baselines3 saved, one for all or
            one for each.
        pair: skills to compare, ``"PATH:NUMBER"`` each, in the place of pairs that are found.
        settings: how they are compared.
        progress: show progress on standard error.

    Returns:
        What came out, and what was left out and why.

    Raises:
        InvalidValueError: if the paths are no such things, or fewer than two, or the policies are
            of different architectures or environments or no better than a random one.
        NotEquivalentError: if an aligned policy computes something else.
        DamagedFileError: if a file is missing or damaged.
    """
    settings = Settings() if settings is None else settings
    check_new(out)
    libraries = [path for path in paths if (path / "run.json").is_file()]
    if libraries and len(libraries) < len(paths):
        other = next(path for path in paths if path not in libraries)
        raise InvalidValueError(
            f"Runs of `skillrl discover` are compared with one another, and {other} is none. Name "
            f"single skills, such as {libraries[0] / 'skills/000'}, to compare them with others."
        )
    left_out: list[str] = []
    if libraries and normalizers:
        raise InvalidValueError("--normalizer is for agents; skills bring their own.")
    if libraries:
        groups = _paired(libraries, pair, out, settings)
    elif pair:
        raise InvalidValueError("--pair chooses from runs of `skillrl discover`, and none is here.")
    else:
        expanded, left_out = _expanded(paths)
        groups = [_Group(out, read_policies(expanded, normalizers))]
    found: list[Comparison] = []
    for group in groups:
        try:
            found.append(_compare(group, env, settings, progress))
        except (InvalidValueError, NotEquivalentError) as error:
            if len(groups) == 1:
                raise
            # The other pairs of skills are compared all the same.
            left_out.append(f"{group.folder.name}: {error}")
    if not found:
        raise InvalidValueError(f"There is nothing to compare. {' '.join(left_out)}")
    return found, left_out


def _compare(group: _Group, env: str | None, settings: Settings, progress: bool) -> Comparison:
    paths = [each.path for each in group.policies]
    if len(paths) < 2:
        raise InvalidValueError(
            f"At least two policies are compared. Received {', '.join(map(str, paths)) or 'none'}: "
            "give another one, or a run with more seeds."
        )
    names, task = labels(paths), common_task(group.policies, env)
    reward = mean_reward(group.policies)
    with closing(Episodes(task, settings.episodes, settings.seed, reward)) as episodes:
        found = comparable(names, [each.network for each in group.policies], episodes)
        for name, earned in zip(names, found.returns, strict=True):
            if not earned > found.random:
                what = task if reward is None else f"{task} by the rewards of these skills"
                how = "train it longer" if reward is None else "choose other skills with --pair"
                raise InvalidValueError(
                    f"{name} earns {earned:.4g} in {what}, no more than a random policy "
                    f"({found.random:.4g}): barriers are a share of what policies are better by. "
                    f"Leave it out, or {how}."
                )
        symmetries: dict[str, Any] = {
            "method": settings.method,
            "signs": settings.signs,
            "scales": settings.scales,
            "phases": settings.signs,
        }
        # Two are closer when they are aligned for themselves than where all share coordinates.
        pairs = align_pairs(found.networks, found.inputs, **symmetries)
        shared = align_many(found.networks, found.inputs, **symmetries)
        total = len(paths) + 2 * len(pairs.transformations) * (settings.points - 2)
        with_plane = settings.plane and len(paths) >= 3
        total += _PLANE_POINTS**2 if with_plane else 0
        with _counted(
            lambda each: episodes.mean_return(_policy(each)), total, group.folder.name, progress
        ) as score:
            result = modes(
                pairs,
                score,
                found.inputs,
                threshold=settings.threshold,
                alphas=np.linspace(0, 1, settings.points).tolist(),
                random=found.random,
                forward=_actions,
            )
            drawn = _plane([*map(shared.apply, range(3))], score) if with_plane else None
    groups = shared.transformations[0].groups
    idle = [
        {part.name: [*units] for part, units in zip(groups, each, strict=True) if units}
        for each in shared.idle
    ]
    sizes = {part.name: part.size for part in groups}
    comparison = Comparison(
        *(names, paths, task, found.coordinates, found.errors, found.random, result),
        _action_kl(pairs, found.inputs),
        *(sizes, idle, drawn, group.folder),
    )
    shared.save(group.folder / "alignments.safetensors")
    write(comparison, asdict(settings), group.notes)
    return comparison


def _plane(networks: Sequence[nn.Module], score: Callable[[nn.Module], float]) -> Plane | None:
    """The plane through three networks; None if two of them are the same."""
    try:
        return plane(networks, score, _PLANE_POINTS)
    except InvalidValueError:
        return None


def _action_kl(pairs: AlignedPairs, inputs: PyTorchObs) -> dict[str, Matrix | None]:
    """How far what is half-way between two policies does from what they do; None with use_sde."""
    count = len(pairs.networks)
    found = {when: np.zeros((count, count)) for when in ("before", "after")}
    for (i, j), transformation in pairs.transformations.items():
        first, second = pairs.networks[i], pairs.networks[j]
        for when, end in (("before", second), ("after", transformation.apply(second))):
            a, b, middle = map(_policy, (first, end, interpolate(first, end, 0.5)))
            try:
                found[when][i, j] = found[when][j, i] = action_kl(middle, [a, b], inputs)
            except InvalidValueError:
                return dict.fromkeys(found)
    return {when: each.tolist() for when, each in found.items()}


def _policy(network: nn.Module) -> PolicyNetwork:
    """What is made of policies by transforming and interpolating is one, for the type checker."""
    return cast(PolicyNetwork, network)


def _actions(network: nn.Module, observations: Any) -> torch.Tensor:
    return _policy(network).actions(observations)


def _expanded(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Agents, seeds and skills, in the place of the runs that they belong to; what is left out."""
    found: list[Path] = []
    left_out: list[str] = []
    for path in paths:
        folders = sorted(path.glob("seed-*"))
        seeds = [each for each in folders if (each / "agent.zip").is_file()]
        if (path / "train.json").is_file() and not seeds:
            raise InvalidValueError(f"No seed of {path} is finished: none has an agent.zip.")
        found += seeds or [path]
        if seeds:
            left = [each for each in folders if each not in seeds]
            left_out += [f"{each} is not finished: it has no agent.zip." for each in left]
    return found, left_out


def _paired(
    paths: Sequence[Path], pair: Sequence[str], out: Path, settings: Settings
) -> list[_Group]:
    """Skills of several runs that are compared with one another."""
    if pair:
        chosen = [_chosen(word, paths) for word in pair]
        return [_Group(out, [*map(skill_policy, chosen)])]
    if len(paths) < 2:
        raise InvalidValueError(
            f"The skills of at least two runs are paired. Received {paths[0]}: give another run, "
            "or single skills, such as "
            f"{paths[0] / 'skills/000'} and {paths[0] / 'skills/001'}."
        )
    skills = [[*SkillLibrary(path)] for path in paths]
    for path, each in zip(paths, skills, strict=True):
        if not each:
            raise InvalidValueError(f"{path} has no skills yet.")
    policies = [[*map(skill_policy, each)] for each in skills]
    groups = []
    for number, members in enumerate(paired(policies, settings.episodes, settings.seed)):
        if len(members) < 2:
            continue
        own = [policies[run][skill] for run, (skill, _) in members.items()]
        notes = {"behaviour_distance": [distance for _, distance in members.values()]}
        groups.append(_Group(out / f"pair-{number:03d}", own, notes))
    return groups


def paired(
    runs: Sequence[Sequence[SavedPolicy]], episodes: int, seed: int
) -> list[dict[int, tuple[int, float]]]:
    """Pair the skills of several runs with those of the first; see ``pair_skills``.

    Args:
        runs: the skills of each.
        episodes: that they are watched in; no more than ten are.
        seed: of the episodes.
    """
    task = common_task([policy for run in runs for policy in run])
    with closing(Episodes(task, min(episodes, _PAIRING_EPISODES), seed)) as shown:
        return pair_skills(
            [[Behaviour.of(shown.watch(policy.network)) for policy in run] for run in runs]
        )


def _chosen(word: str, paths: Sequence[Path]) -> Skill:
    name, _, number = word.rpartition(":")
    known = {path.resolve(): path for path in paths}
    if not number.isdecimal() or Path(name).resolve() not in known:
        raise InvalidValueError(
            f"--pair takes runs and numbers of skills, such as {paths[0]}:0, and the runs are "
            f"those compared: {', '.join(map(str, paths))}. Received {word!r}."
        )
    return SkillLibrary(name)[int(number)]


@contextmanager
def _counted(
    score: Callable[[nn.Module], float], total: int, what: str, progress: bool
) -> Iterator[Callable[[nn.Module], float]]:
    """Show how many networks are scored."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}: network {task.completed:,} of {task.total:,}"),
        BarColumn(),
        TimeRemainingColumn(),
    )
    lines = progress and not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=not progress or lines) as shown:
        task, done = shown.add_task(what, total=total), 0

        def scored(network: nn.Module) -> float:
            """Score a network, and show that one more is."""
            nonlocal done
            value = score(network)
            done += 1
            shown.update(task, completed=done)
            if lines and done % max(total // 10, 1) == 0:
                text = f"{what}: {done:,} of {total:,} networks scored"
                print(text, file=sys.stderr, flush=True)
            return value

        yield scored
