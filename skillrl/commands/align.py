"""``skillrl align``: whether policies of different seeds found the same solution.

::

    runs/alignment/modes.json    barriers, modes, distances, settings
                   barriers.png  before and after alignment, with a dendrogram
                   curves.png    what is earned on the paths between the policies
                   plane.png     and on the plane through the first three
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.optimize import linear_sum_assignment
from torch import nn

from skillrl.agents.normalizer import Normalizer
from skillrl.agents.policy_network import (
    Coordinates,
    PolicyNetwork,
    in_shared_coordinates,
    policy_network,
)
from skillrl.agents.returns import Episodes, Rewards, Seen, Task, comparison_batch
from skillrl.agents.zip_files import read_normalizer, read_zip_policy
from skillrl.commands.train import read_recipe
from skillrl.discovery.library import Skill, SkillLibrary, load_skill, provenance
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import write_json
from skillrl.permutation import Modes, align_many, modes
from skillrl.permutation.plane import Plane, plane
from skillrl.permutation.recipes import Method
from skillrl.permutation.trace import state_of
from skillrl.report.barriers import plot_barriers, plot_paths, plot_plane

FORMAT = 1

# Observations that units are compared on, of all policies together.
_OBSERVATIONS = 2_048
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
    episodes: int = 50
    """Episodes of every return, from the same resets for all."""
    points: int = 5
    """Points on every path, its ends included."""
    threshold: float = 0.1
    """Barriers up to this connect two policies."""
    seed: int = 0
    """Of the episodes' resets."""

    def __post_init__(self) -> None:
        if self.points < 3:
            raise InvalidValueError(f"A path has at least 3 points. Received {self.points}.")
        if self.episodes < 1:
            raise InvalidValueError(f"episodes should be at least 1. Received {self.episodes}.")
        if not self.threshold >= 0:
            raise InvalidValueError(f"threshold should be at least 0. Received {self.threshold}.")


@dataclass(frozen=True)
class Comparison:
    """What came out for some policies.

    Attributes:
        names: of the policies.
        task: what they were scored on.
        coordinates: see ``skillrl.agents.policy_network.Coordinates``.
        random: return of a random policy.
        modes: barriers and clusters.
        folder: with the files.
    """

    names: list[str]
    task: Task
    coordinates: Coordinates
    random: float
    modes: Modes
    folder: Path


@dataclass(frozen=True)
class _Policy:
    path: Path
    network: PolicyNetwork
    task: Task | None
    reward: Rewards | None = None


@dataclass(frozen=True)
class _Group:
    """Policies that are compared with one another."""

    folder: Path
    names: list[str]
    policies: list[_Policy]
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
        DamagedFileError: if a file is missing or damaged.
    """
    settings = Settings() if settings is None else settings
    if (out / "modes.json").exists() or any(out.glob("pair-*/modes.json")):
        raise InvalidValueError(f"{out} holds a result already: name another folder with --out.")
    libraries = [path for path in paths if (path / "run.json").is_file()]
    if libraries and len(libraries) < len(paths):
        other = next(path for path in paths if path not in libraries)
        raise InvalidValueError(
            f"Runs of `skillrl discover` are compared with one another, and {other} is none. Name "
            f"single skills, such as {libraries[0] / 'skills/000'}, to compare them with others."
        )
    if libraries:
        groups = _paired(libraries, pair, out, settings)
    elif pair:
        raise InvalidValueError("--pair chooses from runs of `skillrl discover`, and none is here.")
    else:
        policies = [found for path in _expanded(paths) for found in [_read(path)]]
        policies = _with_normalizers(policies, normalizers)
        groups = [_Group(out, _labels([each.path for each in policies]), policies)]
    found, left_out = [], []
    for group in groups:
        try:
            found.append(_compare(group, env, settings, progress))
        except InvalidValueError as error:
            if len(groups) == 1:
                raise
            # The other pairs of skills are compared all the same.
            left_out.append(f"{group.folder.name}: {error}")
    if not found:
        raise InvalidValueError(f"There is nothing to compare. {' '.join(left_out)}")
    return found, left_out


def _compare(group: _Group, env: str | None, settings: Settings, progress: bool) -> Comparison:
    names, networks = group.names, [each.network for each in group.policies]
    if len(networks) < 2:
        raise InvalidValueError(
            "At least two policies are compared. Received "
            f"{', '.join(str(each.path) for each in group.policies) or 'none'}: give another one, "
            "or a run with more seeds."
        )
    _check_alike(names, networks)
    task = _task(group.policies, env)
    rewards = [each.reward for each in group.policies if each.reward is not None]
    reward = _mean(rewards) if len(rewards) == len(networks) else None
    with closing(Episodes(task, settings.episodes, settings.seed, reward)) as episodes:
        for name, network in zip(names, networks, strict=True):
            episodes.check(network, name)
        seen = [episodes.watch(network) for network in networks]
        random = episodes.random_return()
        for name, each in zip(names, seen, strict=True):
            if not each.returns.mean() > random:
                raise InvalidValueError(
                    f"{name} earns {each.returns.mean():.4g} in {task}, no more than a random "
                    f"policy ({random:.4g}): barriers are a share of what policies are better by. "
                    "Train it longer, or leave it out."
                )
        inputs = comparison_batch(networks, seen, _OBSERVATIONS, settings.seed)
        networks, coordinates = in_shared_coordinates(networks, inputs)
        alignments = align_many(
            networks,
            inputs,
            method=settings.method,
            signs=settings.signs,
            phases=settings.signs,
        )
        pairs = len(networks) * (len(networks) - 1) // 2
        total = len(networks) + 2 * pairs * (settings.points - 2)
        total += _PLANE_POINTS**2 if len(networks) >= 3 else 0
        with _counted(episodes.mean_return, total, group.folder.name, progress) as score:
            result = modes(
                alignments,
                score,
                inputs,
                threshold=settings.threshold,
                alphas=np.linspace(0, 1, settings.points).tolist(),
                random=random,
                forward=_actions,
            )
            drawn = None
            if len(networks) >= 3:
                try:
                    three = [alignments.apply(number) for number in range(3)]
                    drawn = plane(three, score, _PLANE_POINTS)
                except InvalidValueError:  # two of them are the same
                    drawn = None
    comparison = Comparison(names, task, coordinates, random, result, group.folder)
    _write(comparison, group, settings, drawn)
    return comparison


def _actions(network: nn.Module, observations: Any) -> torch.Tensor:
    assert isinstance(network, PolicyNetwork)
    return network.actions(observations)


def _write(comparison: Comparison, group: _Group, settings: Settings, drawn: Plane | None) -> None:
    folder, names = comparison.folder, comparison.names
    plot_barriers(folder / "barriers.png", comparison.modes, names)
    plot_paths(folder / "curves.png", comparison.modes, names, comparison.random)
    if drawn is not None:
        plot_plane(folder / "plane.png", drawn, names[:3])
    content = {
        "format": FORMAT,
        "policies": [
            {"name": name, "path": str(each.path)}
            for name, each in zip(names, group.policies, strict=True)
        ],
        "task": asdict(comparison.task),
        "settings": asdict(settings),
        "coordinates": comparison.coordinates,
        "random_return": comparison.random,
        **comparison.modes.to_json(),
        "plane": None if drawn is None else asdict(drawn),
        **group.notes,
        **provenance(),
    }
    # Last: where it is, the others are.
    write_json(folder / "modes.json", content)


def report(comparisons: Sequence[Comparison], left_out: Sequence[str] = ()) -> str:
    """Return tables of the policies and their modes, and what they mean, in words."""
    lines: list[str] = []
    for comparison in comparisons:
        found = comparison.modes
        width = max(6, *map(len, comparison.names))
        lines.append(f"{'policy':<{width}}  {'return':>10}  {'mode':>4}")
        rows = zip(comparison.names, found.scores, found.clusters, strict=True)
        lines += [f"{name:<{width}}  {score:>10.4g}  {mode:>4}" for name, score, mode in rows]
        lines += [
            f"{'random':<{width}}  {comparison.random:>10.4g}",
            "barriers, as shares of what the policies earn more than a random one:",
            f"  before alignment  {_spread(found.before)}",
            f"  after alignment   {_spread(found.after)}",
            verdict(comparison),
            f"Figures and modes.json are in {comparison.folder}.",
            "",
        ]
    lines += [f"Left out: {each}" for each in left_out]
    return "\n".join(lines).rstrip()


def verdict(comparison: Comparison) -> str:
    """Return in words how many modes there are."""
    clusters = comparison.modes.clusters
    count, threshold = max(clusters) + 1, comparison.modes.threshold
    if count == 1:
        already = bool((np.array(comparison.modes.before) <= threshold).all())
        when = "even before they are aligned" if already else "once they are aligned"
        return f"One mode: barriers of at most {threshold:g} connect all policies {when}."
    members = [
        ", ".join(n for n, own in zip(comparison.names, clusters, strict=True) if own == mode)
        for mode in range(count)
    ]
    return (
        f"{count} modes: no path with barriers of at most {threshold:g} leads from one to another, "
        f"as far as alignment found one. They are {'; '.join(f'({each})' for each in members)}."
    )


def _spread(matrix: Sequence[Sequence[float]]) -> str:
    values = np.array(matrix)[np.triu_indices(len(matrix), 1)]
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"median {np.median(values):.3f}, from {values.min():.3f} to {values.max():.3f}"


def _expanded(paths: Sequence[Path]) -> list[Path]:
    """Agents, seeds and skills, in the place of the runs that they belong to."""
    found: list[Path] = []
    for path in paths:
        if not (path / "train.json").is_file():
            found.append(path)
            continue
        seeds = sorted(each.parent for each in path.glob("seed-*/agent.zip"))
        if not seeds:
            raise InvalidValueError(f"No seed of {path} is finished: none has an agent.zip.")
        found += seeds
    return found


def _read(path: Path) -> _Policy:
    """A seed's folder, an agent's file or a skill's folder."""
    if (path / "skill.json").is_file():
        return _skill(load_skill(path))
    if path.is_dir():
        if not (path / "agent.zip").is_file():
            raise InvalidValueError(
                f"{path} holds no policy. Give a run of `skillrl train` or of `skillrl discover`, "
                "a seed's or a skill's folder, or an agent that Stable-Baselines3 saved (.zip)."
            )
        path = path / "agent.zip"
    policy = read_zip_policy(path)
    run = path.resolve().parent.parent
    task = None
    if (run / "train.json").is_file():
        recipe, _ = read_recipe(run)
        task = Task(recipe.env, dict(recipe.env_kwargs), recipe.mask_velocity)
    return _Policy(path, policy_network(policy, read_normalizer(path)), task)


def _skill(skill: Skill) -> _Policy:
    record, reward = skill.record, skill.reward
    task = Task(record.env, dict(record.env_kwargs))
    return _Policy(
        skill.path,
        policy_network(skill.policy),
        task,
        # Targets may differ from run to run.
        lambda observations: reward.reward(observations) / reward.target,
    )


def _mean(rewards: Sequence[Rewards]) -> Rewards:
    """What skills are scored on: the mean of their rewards, each in [0, 1] a step."""
    return lambda observations: np.mean([each(observations) for each in rewards], axis=0)


def _with_normalizers(policies: list[_Policy], files: Sequence[Path]) -> list[_Policy]:
    if not files:
        return policies
    plain = [
        each for each in policies if each.network.normalizer is None and each.path.suffix == ".zip"
    ]
    if len(files) not in (1, len(plain)) or not plain:
        raise InvalidValueError(
            f"--normalizer takes one file for all agents that bring none, or one for each of "
            f"these {len(plain)}. Received {len(files)}."
        )
    found = dict(
        zip(map(id, plain), [*files] * (len(plain) if len(files) == 1 else 1), strict=True)
    )
    return [
        _Policy(
            each.path,
            policy_network(each.network.policy, _read_normalizer(found[id(each)])),
            each.task,
        )
        if id(each) in found
        else each
        for each in policies
    ]


def _read_normalizer(path: Path) -> Normalizer:
    if not path.is_file():
        raise DamagedFileError(f"{path} does not exist.")
    with path.open("rb") as file:
        return Normalizer.read(file, str(path))


def _labels(paths: Sequence[Path]) -> list[str]:
    """Paths without what all of them share.

    >>> _labels([Path("runs/a/seed-000/agent.zip"), Path("runs/a/seed-001/agent.zip")])
    ['seed-000', 'seed-001']
    >>> _labels([Path("one.zip"), Path("more/two.zip")])
    ['one.zip', 'more/two.zip']
    """
    named = [path.parent if path.name == "agent.zip" else path for path in paths]
    full = [each.resolve() for each in named]
    if len(set(full)) < 2:
        return [each.name for each in full]
    common = os.path.commonpath(full)
    return [each.relative_to(common).as_posix() for each in full]


def _task(policies: Sequence[_Policy], env: str | None) -> Task:
    known = [each for each in policies if each.task is not None]
    for each in known[1:]:
        if each.task != known[0].task:
            raise InvalidValueError(
                f"The policies are of different environments: {known[0].path} of {known[0].task}, "
                f"{each.path} of {each.task}."
            )
    if env is not None:
        return Task(env)
    if not known:
        raise InvalidValueError(
            f"{policies[0].path} does not say which environment it is for: name it with --env."
        )
    assert known[0].task is not None
    return known[0].task


def _check_alike(names: Sequence[str], networks: Sequence[PolicyNetwork]) -> None:
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in state_of(each).items()} for each in networks
    ]
    kinds = [type(each.policy).__name__ for each in networks]
    for name, kind, shape in zip(names[1:], kinds[1:], shapes[1:], strict=True):
        if kind != kinds[0]:
            reason = f"they are a {kinds[0]} and a {kind}"
        elif shape != shapes[0]:
            part = next(p for p in {**shapes[0], **shape} if shapes[0].get(p) != shape.get(p))
            reason = (
                f"{part} is {shapes[0].get(part, 'absent')} in one and "
                f"{shape.get(part, 'absent')} in the other"
            )
        else:
            continue
        raise InvalidValueError(f"{names[0]} and {name} are of different architectures: {reason}.")
    for name, network in zip(names, networks, strict=True):
        for part, tensor in state_of(network).items():
            if not bool(torch.isfinite(tensor).all()):
                raise InvalidValueError(
                    f"{part} of {name} holds values that are not finite: its training diverged, or "
                    "its file is damaged."
                )


def _paired(
    paths: Sequence[Path], pair: Sequence[str], out: Path, settings: Settings
) -> list[_Group]:
    """Skills of several runs that are compared with one another."""
    if pair:
        chosen = [_chosen(word, paths) for word in pair]
        return [_Group(out, _labels([each.path for each in chosen]), [_skill(s) for s in chosen])]
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
    policies = [[_skill(skill) for skill in each] for each in skills]
    task = _task([policy for each in policies for policy in each], None)
    count = min(settings.episodes, _PAIRING_EPISODES)
    with closing(Episodes(task, count, settings.seed)) as episodes:
        seen = [[episodes.watch(policy.network) for policy in each] for each in policies]
    pairs = pair_skills(seen)
    groups = []
    for number, members in enumerate(pairs):
        if len(members) < 2:
            continue
        own = [policies[run][skill] for run, (skill, _) in members.items()]
        notes = {"behaviour_distance": [distance for _, distance in members.values()]}
        folder = out / f"pair-{number:03d}"
        groups.append(_Group(folder, _labels([each.path for each in own]), own, notes))
    return groups


def pair_skills(seen: Sequence[Sequence[Seen]]) -> list[dict[int, tuple[int, float]]]:
    """Pair the skills of several runs with those of the first by the distance of their behaviour.

    The behaviour of a skill is the mean and the standard deviation of every component of the
    observations in its episodes, in units of the standard deviation over all skills; the distance
    of two is the root of the mean square of the differences. Pairs are those with the smallest sum
    of distances.

    Args:
        seen: by the skills of every run, in their episodes.

    Returns:
        For each skill of the first run, from a run's number to the skill paired with it and its
        distance; the first run's own has the distance 0. A run with fewer skills is not in all.
    """
    rows = [[_rows(each) for each in run] for run in seen]
    scale = np.maximum(np.concatenate([each for run in rows for each in run]).std(0), 1e-8)
    behaviours = [
        np.stack([np.concatenate([each.mean(0) / scale, each.std(0) / scale]) for each in run])
        for run in rows
    ]
    first = behaviours[0]
    found: list[dict[int, tuple[int, float]]] = [{0: (skill, 0.0)} for skill in range(len(first))]
    for run, other in enumerate(behaviours[1:], start=1):
        distances = np.sqrt(np.square(first[:, None] - other).mean(-1))
        for mine, theirs in zip(*linear_sum_assignment(distances), strict=True):
            found[mine][run] = int(theirs), float(distances[mine, theirs])
    return found


def _rows(seen: Seen) -> np.ndarray:
    observations = seen.observations
    assert isinstance(observations, np.ndarray)  # skills see no dictionaries
    running = np.arange(len(observations))[:, None] < seen.lengths
    return observations[running].reshape(int(running.sum()), -1).astype(np.float64)


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
    score: Callable[[Any], float], total: int, what: str, progress: bool
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
            nonlocal done
            value = score(network)
            done += 1
            shown.update(task, completed=done)
            if lines and done % max(total // 10, 1) == 0:
                text = f"{what}: {done:,} of {total:,} networks scored"
                print(text, file=sys.stderr, flush=True)
            return value

        yield scored
