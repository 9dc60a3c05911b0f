"""``skillrl train``: agents that learn an environment's own reward, one folder a seed.

::

    runs/<env>-<agent>/train.json   recipe, number of seeds, versions, machine
                       seed-000/agent.zip · best.zip · evaluations.json · normalizer.npz
                                video.mp4 · progress.csv  (TensorBoard events)
"""

from __future__ import annotations

import dataclasses
import gc
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from scipy.stats import trim_mean

from skillrl.agents.recipes import OFF_POLICY, TrainRecipe
from skillrl.agents.training import Evaluation, Status, Training
from skillrl.commands.running import (
    LINE_INTERVAL,
    Pace,
    bar,
    import_option,
    stop_on_interrupt,
)
from skillrl.discovery.library import provenance
from skillrl.discovery.logs import run_logger
from skillrl.discovery.schema import from_json
from skillrl.envs import MaskVelocity, PreviousActionReward
from skillrl.envs.make import make_single
from skillrl.errors import DamagedFileError, InvalidValueError, RunStopped
from skillrl.files import read_json, write_json
from skillrl.report.drawing import check_render_mode, prepared
from skillrl.report.videos import film, watch, write_mp4

FORMAT = 1

_COLUMNS = (
    *("time/total_timesteps", "time/fps", "rollout/ep_rew_mean", "rollout/ep_len_mean"),
    *("eval/mean_reward", "eval/mean_ep_length"),
)
_ON_POLICY_COLUMNS = (
    *("train/policy_gradient_loss", "train/value_loss", "train/approx_kl"),
    *("train/clip_fraction", "train/explained_variance"),
)
_OFF_POLICY_COLUMNS = ("train/actor_loss", "train/critic_loss", "train/ent_coef")


@dataclass(frozen=True)
class Outcome:
    """What one seed came to."""

    seed: int
    folder: Path
    last: Evaluation
    """At the end of training."""
    best: Evaluation
    """The highest mean return of all evaluations, by the agent in ``best.zip``."""


OnStatus = Callable[[int, Status], None]


def train(
    recipe: TrainRecipe,
    *,
    run: Path | None = None,
    seeds: int = 1,
    resume: bool = False,
    progress: bool = True,
) -> list[Outcome]:
    """Train an agent with some seeds, one after another, with progress on standard error.

    Ctrl-C stops the run where it can be resumed; a second one ends it at once. A resumed seed has
    its parameters, optimisers and normaliser back. Its environments begin new episodes with other
    random numbers, and a replay buffer is filled anew before learning goes on, so that it does not
    end as it would have without the stop.

    Args:
        recipe: every setting.
        run: the run's folder; None for ``runs/<environment>-<agent>``.
        seeds: how many; they are 0, 1, …
        resume: go on with the run in the folder, or start it where there is none. It may have fewer
            steps and seeds than now.
        progress: show progress.

    Returns:
        What each seed came to.

    Raises:
        InvalidValueError: if the folder, the recipe or the environment cannot be used.
        DivergedError: if returns are no longer finite.
        RunStopped: after Ctrl-C; the message holds the command that goes on.
    """
    if seeds < 1:
        raise InvalidValueError(f"seeds should be at least 1. Received {seeds}.")
    run = default_run(recipe) if run is None else run
    # First: a misspelt environment may have the folder of another one.
    again = f"Go on with: {resume_command(recipe, run)}"
    known = read_recipe(run) if resume and (run / "train.json").exists() else None
    if known is None:
        _check_new(run)
        # Before a folder is made that a corrected command would find in its way.
        with closing(Training(recipe, run, 0)) as first:
            if progress and (size := first.replay_bytes):
                mebibytes = f"{-(-size // 2**20):,} MiB"
                print(f"memory at most: replay buffer {mebibytes}", file=sys.stderr)
    else:
        _check_same(run, known[0], recipe)
        seeds = max(seeds, known[1])
    try:
        with (
            _locked(run),
            _show(recipe, seeds, progress) as on_status,
            stop_on_interrupt() as should_stop,
        ):
            write_recipe(run, recipe, seeds)
            outcomes = []
            for seed in range(seeds):
                outcomes.append(_train_seed(recipe, run, seed, on_status, should_stop))
                # Callbacks refer to an agent in a circle, which would keep its replay buffer.
                gc.collect()
            return outcomes
    except RunStopped:
        what = "parameters and optimisers" + (
            ", but not its replay buffer" if recipe.agent in OFF_POLICY else ""
        )
        raise RunStopped(f"Stopped; the checkpoint holds {what}. {again}") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Ended at once. {again}") from None


def _train_seed(
    recipe: TrainRecipe,
    run: Path,
    seed: int,
    on_status: OnStatus,
    should_stop: Callable[[], bool],
) -> Outcome:
    folder = run / f"seed-{seed:03d}"
    own = _OFF_POLICY_COLUMNS if recipe.agent in OFF_POLICY else _ON_POLICY_COLUMNS
    with closing(Training(recipe, folder, seed, resume=True)) as training:
        if not training.finished:
            folder.mkdir(parents=True, exist_ok=True)
            logger = run_logger(folder, training.steps, (*_COLUMNS, *own))
            try:
                training.learn(
                    logger,
                    on_status=lambda status: on_status(seed, status),
                    should_stop=should_stop,
                )
            finally:
                logger.close()
            (folder / "video.mp4").unlink(missing_ok=True)
        if not (folder / "video.mp4").exists():
            _film(training)
        last, best = training.evaluations[-1], training.best
        assert best is not None  # it is the last one, or a better one
        return Outcome(seed, folder, last, best)


def _film(training: Training) -> None:
    """Film the agent, or say why that cannot be done: the agent is there all the same."""
    recipe, normalizer = training.recipe, training.normalizer()

    def predict(observation: Any, **arguments: Any) -> Any:
        seen = observation if normalizer is None else normalizer(observation)
        return training.agent.predict(seen, **arguments)

    try:
        check_render_mode(recipe.env, "rgb_array")
        env = make_single(recipe.env, **{**recipe.env_kwargs, "render_mode": "rgb_array"})
        env = prepared(env, recipe.env_kwargs, "rgb_array")
        if recipe.mask_velocity:
            env = MaskVelocity(env)
        if recipe.previous_action_reward:
            env = PreviousActionReward(env)
        if env.observation_space.shape != training.env.observation_space.shape:
            env.close()
            raise InvalidValueError(
                f"{recipe.env} shows other observations alone than in a vector of environments."
            )
        episode = watch(env, predict, f"{recipe.agent} · {training.steps:,} steps")
        write_mp4(training.folder / "video.mp4", film(episode), episode.fps)
    except Exception as error:  # of the environment, of OpenGL, of what is not installed
        reason = " ".join(str(error).split())
        print(f"There is no video of seed {training.seed}: {reason}", file=sys.stderr)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return a table of the returns of each seed, and their inter-quartile mean."""
    lines = [f"{'seed':>4}  {'return':>10}  {'best':>10}  {'at step':>12}  agent"]
    for outcome in outcomes:
        lines.append(
            f"{outcome.seed:>4}  {outcome.last.mean:>10.4g}  {outcome.best.mean:>10.4g}  "
            f"{outcome.best.steps:>12,}  {outcome.folder / 'agent.zip'}"
        )
    mean = trim_mean([outcome.last.mean for outcome in outcomes], 0.25)
    what = "inter-quartile mean" if len(outcomes) >= 4 else "mean"
    lines.append(f"{what} of {len(outcomes)} seed(s), without noise: {mean:.4g}")
    return "\n".join(lines)


def default_run(recipe: TrainRecipe) -> Path:
    """Return the folder of a run that was given none.

    >>> default_run(TrainRecipe("skillrl/TMaze-v0", "ppo")).as_posix()
    'runs/tmaze-v0-ppo'
    """
    name = recipe.env.rpartition(":")[2].rpartition("/")[2]
    return Path("runs") / f"{name.lower()}-{recipe.agent}"


def resume_command(recipe: TrainRecipe, run: Path) -> str:
    """Return the command that goes on with a run.

    >>> resume_command(TrainRecipe("Ant-v5"), Path("runs/my ant"))
    "skillrl train Ant-v5 --run 'runs/my ant' --resume"
    """
    words = ["skillrl", "train", recipe.env, "--run", str(run), "--resume"]
    return shlex.join([*words, *import_option(recipe.env)])


def write_recipe(run: Path, recipe: TrainRecipe, seeds: int) -> None:
    """Write the recipe of a run and its number of seeds, with versions and machine."""
    content = {"recipe": dataclasses.asdict(recipe), "seeds": seeds, **provenance()}
    write_json(run / "train.json", {"format": FORMAT, **content})


def read_recipe(run: Path) -> tuple[TrainRecipe, int]:
    """Return the recipe of a run, and its number of seeds.

    Raises:
        DamagedFileError: if ``train.json`` is missing or damaged.
    """
    path = run / "train.json"
    found = read_json(path)
    if found.get("format") != FORMAT:
        raise DamagedFileError(
            f"{path} has format {found.get('format')!r}, and this skillrl reads format {FORMAT}: "
            "use the skillrl that wrote it."
        )
    try:
        recipe = from_json(TrainRecipe, found["recipe"], "recipe", defaults=True)
        return recipe, int(found["seeds"])
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}") from None


def _check_new(run: Path) -> None:
    if (run / "train.json").exists():
        raise InvalidValueError(
            f"{run} exists. Name another folder with --run, or go on with the run in it by "
            "--resume."
        )
    if run.exists() and not (run.is_dir() and all(p.name[0] == "." for p in run.iterdir())):
        raise InvalidValueError(
            f"{run} exists and holds no training. Name another folder with --run."
        )


def _check_same(run: Path, old: TrainRecipe, new: TrainRecipe) -> None:
    """Refuse to go on with other settings, up to the number of steps."""
    # As JSON has them: a recipe made in Python may hold tuples where its file's holds lists.
    before, now = (json.loads(json.dumps(dataclasses.asdict(recipe))) for recipe in (old, new))
    differing = [
        f"{name} {before[name]} there and {now[name]} here"
        for name in before
        if name != "timesteps" and before[name] != now[name]
    ]
    if differing:
        raise InvalidValueError(
            f"The run in {run} cannot be resumed with other settings: {'; '.join(differing)}. "
            "Name another folder for a new run."
        )


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Keep other processes from writing into the run."""
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InvalidValueError(
            f"Another process is training in {run}. Wait until it has finished, stop it, or name "
            "another folder."
        ) from None
    try:
        for left in run.rglob(".*.partial*"):  # by a process that was killed
            left.unlink()
        yield
    finally:
        lock.release()


class Lines:
    """What is said of a run while it goes on.

    Args:
        recipe: of the run.
        seeds: how many.
        now: the time in seconds, on any clock.
    """

    def __init__(self, recipe: TrainRecipe, seeds: int, now: float) -> None:
        self.recipe = recipe
        self.seeds = seeds
        self._pace = Pace(seeds * recipe.timesteps, now)
        self._told: tuple[int, Evaluation] | None = None

    def present(self, seed: int, status: Status, now: float) -> str:
        """Take note of where a seed stands, and return it in one line."""
        total = self.recipe.timesteps
        # The last rollout goes a little beyond the steps asked for.
        steps = min(status.steps, total)
        parts = [f"seed {seed} ({seed + 1} of {self.seeds}): {steps:,} of {total:,} steps"]
        if status.mean_return is not None:
            parts.append(f"return {status.mean_return:.4g}")
        return ", ".join([*parts, *self._pace.after(seed * total + steps, now)])

    def news(self, seed: int, status: Status) -> str | None:
        """Return a line on an evaluation that was not told of yet, or None."""
        evaluation = status.evaluation
        if evaluation is None or self._told == (seed, evaluation):
            return None
        self._told = (seed, evaluation)
        return (
            f"seed {seed}, {evaluation.steps:,} steps: return {evaluation.mean:.4g} without noise "
            f"in {len(evaluation.returns)} episode(s)"
        )


def _show(recipe: TrainRecipe, seeds: int, progress: bool) -> AbstractContextManager[OnStatus]:
    if not progress:
        return nullcontext(lambda seed, status: None)
    lines = Lines(recipe, seeds, time.monotonic())
    return _bar(lines) if sys.stderr.isatty() else nullcontext(_lines(lines))


def _lines(lines: Lines) -> OnStatus:
    """Print a line for each evaluation, and one every half minute."""
    printed = time.monotonic()

    def on_status(seed: int, status: Status) -> None:
        nonlocal printed
        now = time.monotonic()
        line, news = lines.present(seed, status, now), lines.news(seed, status)
        if news is None and now - printed < LINE_INTERVAL:
            return
        printed = now
        print(news or line, file=sys.stderr, flush=True)

    return on_status


@contextmanager
def _bar(lines: Lines) -> Iterator[OnStatus]:
    """Draw a bar of the present seed at the bottom of the terminal, evaluations above it."""
    console = Console(stderr=True, highlight=False)
    total = lines.recipe.timesteps
    with bar(console) as progress:
        task = progress.add_task("beginning", total=total)

        def on_status(seed: int, status: Status) -> None:
            news = lines.news(seed, status)
            if news is not None:
                console.print(news)
            line = lines.present(seed, status, time.monotonic())
            progress.update(task, completed=min(status.steps, total), description=line)

        yield on_status
