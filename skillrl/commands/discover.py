"""``skillrl discover``: a discovery run with progress, Ctrl-C and resume."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from skillrl.discovery import run as runs
from skillrl.discovery.events import Event, OnEvent, RewardFitted, SkillFinished, Trained
from skillrl.discovery.recipes import Recipe
from skillrl.envs.make import find_spec
from skillrl.errors import RunStopped

# Seconds between two lines of progress where there is no terminal to draw a bar in.
_LINE_INTERVAL = 30.0
# Seconds over which the speed is averaged.
_SPEED_WINDOW = 20.0


def discover(
    recipe: Recipe,
    *,
    run: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Discover skills, with progress on standard error.

    Ctrl-C stops the run where it can be resumed without a loss; a second one ends it at once.

    Args:
        recipe: every setting.
        run: the run's folder; None for ``runs/<environment>-seed<seed>``.
        seed: of everything random.
        resume: go on with the run in the folder, or start it where there is none.
        progress: show progress.

    Returns:
        The run's folder.

    Raises:
        InvalidValueError: if the folder, the recipe or the environment cannot be used.
        RunStopped: after Ctrl-C; the message holds the command that goes on.
    """
    run = default_run(recipe.env, seed) if run is None else run
    again = f"Go on with: {resume_command(recipe, run)}"
    try:
        with _show(recipe, progress) as on_event, _stop_on_interrupt() as should_stop:
            runs.discover(
                recipe, run, seed=seed, resume=resume, on_event=on_event, should_stop=should_stop
            )
    except RunStopped:
        if (run / "checkpoint" / "latest.safetensors").exists():
            raise RunStopped(f"Stopped; nothing is lost. {again}") from None
        raise RunStopped(
            "Stopped. What was trained since the last finished skill will be trained again, "
            f"because its environment cannot save its state. {again}"
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Ended at once. {again}") from None
    return run


def default_run(env: str, seed: int) -> Path:
    """Return the folder of a run that was given none.

    >>> default_run("skillrl/Maze2D-v0", seed=3).as_posix()
    'runs/maze2d-v0-seed3'
    """
    name = env.rpartition(":")[2].rpartition("/")[2]
    return Path("runs") / f"{name.lower()}-seed{seed}"


def resume_command(recipe: Recipe, run: Path) -> str:
    """Return the command that goes on with a run.

    >>> resume_command(Recipe("Ant-v5", generations=3), Path("runs/my ant"))
    "skillrl discover Ant-v5 --run 'runs/my ant' --resume --generations 3"
    """
    words = ["skillrl", "discover", recipe.env, "--run", str(run), "--resume"]
    words += ["--generations", str(recipe.generations)]
    return shlex.join([*words, *_imports(recipe.env)])


def render_command(recipe: Recipe, run: Path) -> str:
    """Return the command that films a run's skills.

    >>> render_command(Recipe("Ant-v5"), Path("runs/ant"))
    'skillrl render runs/ant'
    """
    return shlex.join(["skillrl", "render", str(run), *_imports(recipe.env)])


def _imports(env: str) -> list[str]:
    """The option that names the package that registers an environment, where it is needed."""
    spec = find_spec(env)
    entry_point: Any = spec.entry_point or spec.vector_entry_point
    module = entry_point if isinstance(entry_point, str) else entry_point.__module__
    package = module.partition(":")[0].partition(".")[0]
    if ":" in env or package in ("gymnasium", "skillrl", "ale_py", "__main__"):
        return []
    return ["--import", package]


@contextmanager
def _stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C, or a job scheduler's SIGTERM, set a flag.

    Those that follow have their usual effect.
    """
    interrupted = threading.Event()
    # Only the main thread receives signals. A handler that is not Python's own was set on purpose,
    # SIG_IGN by nohup for one.
    usual = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
    }

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def interrupt(number: int, frame: FrameType | None) -> None:
        restore()
        interrupted.set()
        print(
            "\nStopping before the next rollout. Ctrl-C again ends the run at once.",
            file=sys.stderr,
        )

    for number in usual:
        signal.signal(number, interrupt)
    try:
        yield interrupted.is_set
    finally:
        restore()


class Status:
    """Where a run stands, in one line.

    Args:
        recipe: of the run.
        now: the time in seconds, on any clock.
    """

    def __init__(self, recipe: Recipe, now: float) -> None:
        self.recipe = recipe
        self._total = recipe.generations * recipe.steps_per_skill
        self._attempt = 0
        self._start = now
        self._start_steps: int | None = None
        # Times and steps of the run, over which the speed is averaged.
        self._recent: deque[tuple[float, int]] = deque()

    def steps_together(self, event: RewardFitted | Trained) -> int:
        """The steps of training that an event's are a part of: of its skill, or of all."""
        return self._total if event.generation is None else self.recipe.steps_per_skill

    def after(self, event: RewardFitted | Trained, now: float) -> str:
        """Take note of an event and return the line."""
        recipe, steps, first_skill = self.recipe, 0, event.generation or 0
        total = self.steps_together(event)
        head = f"skill {event.generation} ({first_skill + 1} of {recipe.generations})"
        if event.generation is None:
            head = f"{recipe.generations} skills together"
        if isinstance(event, RewardFitted):
            self._attempt = event.attempt
        if self._attempt:
            head += f", attempt {self._attempt + 1}"
        if isinstance(event, Trained):
            # The last rollout goes a little beyond the steps asked for.
            steps, reward = min(event.steps, total), event.mean_reward
        else:
            reward = event.fresh_reward
            self._recent.clear()  # Nothing was trained while the reward was fitted.
        done = first_skill * recipe.steps_per_skill + steps
        self._recent.append((now, done))
        while now - self._recent[0][0] > _SPEED_WINDOW:
            self._recent.popleft()
        if self._start_steps is None:
            self._start_steps = done
        parts = [
            f"{head}: {steps:,} of {total:,} steps",
            f"reward {reward:.3g} of {recipe.target:.3g}",
        ]
        first, first_done = self._recent[0]
        if done > first_done and now > first:
            parts.append(f"{(done - first_done) / (now - first):,.0f} steps/s")
        if done > self._start_steps:
            seconds_a_step = (now - self._start) / (done - self._start_steps)
            left = self._total - done
            parts.append(f"{_duration(max(left, 0) * seconds_a_step)} left")
        return ", ".join(parts)


def finished(event: SkillFinished) -> str:
    """Return a line on a skill that was evaluated and saved."""
    known = event.skill.record
    what = "" if known.descriptors is None else f" ({known.descriptors.name})"
    unclear = (
        ""
        if known.separation is None or known.separation.clear
        else "; its reward mistakes old states for new ones"
    )
    return (
        f"skill {event.skill.index} is {'live' if known.live else 'not live'}{what}: "
        f"reward {known.mean_reward:.3g} of {known.target:.3g}, another skill's "
        f"{known.previous_mean_reward:.3g}; {known.steps:,} steps in {_duration(known.seconds)}"
        f"{unclear}"
    )


def _show(recipe: Recipe, progress: bool) -> AbstractContextManager[OnEvent]:
    if not progress:
        return nullcontext(lambda event: None)
    return _bar(recipe) if sys.stderr.isatty() else nullcontext(_lines(recipe))


def _lines(recipe: Recipe) -> OnEvent:
    """Print a line for each finished skill, and one every half minute."""
    status = Status(recipe, time.monotonic())
    printed = time.monotonic()

    def on_event(event: Event) -> None:
        nonlocal printed
        now = time.monotonic()
        if isinstance(event, SkillFinished):
            line = finished(event)
        else:
            line = status.after(event, now)
            if now - printed < _LINE_INTERVAL:
                return
        printed = now
        print(line, file=sys.stderr, flush=True)

    return on_event


@contextmanager
def _bar(recipe: Recipe) -> Iterator[OnEvent]:
    """Draw a bar of the present skill at the bottom of the terminal, finished skills above it."""
    status = Status(recipe, time.monotonic())
    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("beginning", total=recipe.steps_per_skill)

        def on_event(event: Event) -> None:
            if isinstance(event, SkillFinished):
                console.print(finished(event))
                progress.update(task, completed=0, description="on to the next skill")
                return
            line = status.after(event, time.monotonic())
            steps = event.steps if isinstance(event, Trained) else 0
            total = status.steps_together(event)
            progress.update(task, completed=steps, total=total, description=line)

        yield on_event


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
