"""``skillrl discover``: a discovery run with progress, Ctrl-C and resume."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import gymnasium as gym
from rich.console import Console

from skillrl.agents.recipes import OFF_POLICY
from skillrl.commands.running import (
    LINE_INTERVAL,
    Pace,
    bar,
    duration,
    import_option,
    stop_on_interrupt,
)
from skillrl.discovery import run as runs
from skillrl.discovery.events import (
    Event,
    OnEvent,
    Preparing,
    RewardFitted,
    RunStarted,
    SkillFinished,
    Trained,
)
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.settings import Recipe
from skillrl.envs.make import find_spec
from skillrl.errors import InvalidValueError, RunStopped
from skillrl.report.drawing import check_render_mode


def discover(
    recipe: Recipe,
    *,
    run: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    progress: bool = True,
) -> Path:
    """Discover skills, with progress on standard error.

    Ctrl-C stops the run where it can be resumed without a loss; a second one ends it at once.

    Args:
        recipe: every setting.
        run: the run's folder; None for ``runs/<environment>-seed<seed>``.
        seed: of everything random.
        resume: go on with the run in the folder, or start it where there is none.
        device: where networks are and learn, such as ``"cuda"``.
        progress: show progress.

    Returns:
        The run's folder.

    Raises:
        InvalidValueError: if the folder, the recipe, the environment or the device cannot be used.
        RunStopped: after Ctrl-C; the message holds the command that goes on.
    """
    run = default_run(recipe.env, seed) if run is None else run
    if progress and recipe_for(recipe.env) == Recipe(recipe.env):
        # First: a misspelt id has none either.
        id = find_spec(recipe.env).id
        text = (
            f"{recipe.env} has no recipe of its own: what is not given is generic, as --help shows"
        )
        if (own := id.replace("ALE/", "skillrl/")) != id and own in gym.registry:
            text += f" ({own} has one for games from pixels)"
        print(text, file=sys.stderr)
    again = f"Go on with: {resume_command(recipe, run, device)}"
    try:
        with _show(recipe, progress) as on_event, stop_on_interrupt() as should_stop:
            runs.discover(
                *(recipe, run),
                seed=seed,
                resume=resume,
                device=device,
                on_event=on_event,
                should_stop=should_stop,
            )
    except RunStopped as stopped:
        if not stopped.trained or (run / "checkpoint" / "latest.safetensors").exists():
            raise RunStopped(f"Stopped; nothing is lost. {again}") from None
        why = (
            "the replay buffer is saved between skills alone"
            if recipe.algorithm in OFF_POLICY
            else "its environment cannot save its state"
        )
        raise RunStopped(
            "Stopped. What was trained since the last finished skill will be trained again, "
            f"because {why}. {again}"
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


def resume_command(recipe: Recipe, run: Path, device: str = "cpu") -> str:
    """Return the command that goes on with a run.

    >>> resume_command(Recipe("Ant-v5", generations=3), Path("runs/my ant"))
    "skillrl discover Ant-v5 --run 'runs/my ant' --resume --generations 3"
    """
    words = ["skillrl", "discover", recipe.env, "--run", str(run), "--resume"]
    words += ["--generations", str(recipe.generations)]
    words += [] if device == "cpu" else ["--device", device]
    return shlex.join([*words, *import_option(recipe.env)])


def command_to_look(recipe: Recipe, run: Path) -> str:
    """Return the command that films a run's skills, or lists them where nothing can be drawn.

    >>> command_to_look(Recipe("Ant-v5"), Path("runs/ant"))
    'skillrl render runs/ant'
    """
    try:
        check_render_mode(recipe.env, "rgb_array")
    except InvalidValueError:
        return shlex.join(["skillrl", "list", str(run)])
    return shlex.join(["skillrl", "render", str(run), *import_option(recipe.env)])


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
        self._pace = Pace(self._total, now)

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
            self._pace.pause()  # Nothing was trained while the reward was fitted.
        parts = [
            f"{head}: {steps:,} of {total:,} steps",
            f"reward {reward:.3g} of {recipe.target:.3g}",
        ]
        parts += self._pace.after(first_skill * recipe.steps_per_skill + steps, now)
        return ", ".join(parts)


def preparing(event: Preparing) -> str:
    """Return a line on what comes before a skill's training."""
    return f"skill {event.generation}: {event.what}"


def fitted(event: RewardFitted, recipe: Recipe) -> str:
    """Return a line on a reward that was fitted, or drawn at random."""
    head = f"skill {event.generation}" + (f", attempt {event.attempt + 1}" if event.attempt else "")
    how, separation = "its reward was drawn at random", event.separation
    if separation is not None:
        how = (
            f"its reward pays {separation.positives:.0%} of the states that it asks for and "
            f"{separation.old:.0%} of earlier ones"
        )
        if not separation.clear:
            how += ", and could not be fitted more clearly"
    return f"{head}: {how}; the fresh agent meets {event.fresh_reward:.3g} of {recipe.target:.3g}"


def finished(event: SkillFinished) -> str:
    """Return a line on a skill that was evaluated and saved."""
    known = event.skill.record
    what = "" if known.descriptors is None else f" ({known.descriptors.name})"
    effort = f"{known.steps:,} steps in {duration(known.seconds)}"
    if known.live is None:
        return f"skill {event.skill.index}{what}: {effort}"
    other = "another skill's" if event.skill.index else "the untrained policy's"
    return (
        f"skill {event.skill.index} is {'live' if known.live else 'not live'}{what}: "
        f"reward {known.mean_reward:.3g} of {known.target:.3g}, {other} "
        f"{known.previous_mean_reward:.3g}; {effort}"
    )


def _show(recipe: Recipe, progress: bool) -> AbstractContextManager[OnEvent]:
    if not progress:
        return nullcontext(lambda event: None)
    return _bar(recipe) if sys.stderr.isatty() else nullcontext(_lines(recipe))


def _lines(recipe: Recipe) -> OnEvent:
    """Print a line for each fitted reward and each finished skill, and one every half minute."""
    status = Status(recipe, time.monotonic())
    printed = time.monotonic()

    def on_event(event: Event) -> None:
        nonlocal printed
        now = time.monotonic()
        if isinstance(event, RunStarted):
            line = str(event.memory)
        elif isinstance(event, SkillFinished):
            line = finished(event)
        elif isinstance(event, RewardFitted):
            status.after(event, now)
            line = fitted(event, recipe)
        else:
            line = preparing(event) if isinstance(event, Preparing) else status.after(event, now)
            if now - printed < LINE_INTERVAL:
                return
        printed = now
        print(line, file=sys.stderr, flush=True)

    return on_event


@contextmanager
def _bar(recipe: Recipe) -> Iterator[OnEvent]:
    """Draw a bar of the present skill at the bottom of the terminal, what is known above it."""
    status = Status(recipe, time.monotonic())
    console = Console(stderr=True, highlight=False)
    with bar(console) as progress:
        task = progress.add_task("beginning", total=recipe.steps_per_skill)

        def on_event(event: Event) -> None:
            if isinstance(event, RunStarted):
                console.print(str(event.memory))
                return
            if isinstance(event, SkillFinished):
                console.print(finished(event))
                last = event.skill.index == recipe.generations - 1
                what = "finished" if last else "on to the next skill"
                progress.update(task, completed=0, description=what)
                return
            if isinstance(event, Preparing):
                progress.update(task, completed=0, description=preparing(event))
                return
            line = status.after(event, time.monotonic())
            if isinstance(event, RewardFitted):
                console.print(fitted(event, recipe))
            steps = event.steps if isinstance(event, Trained) else 0
            total = status.steps_together(event)
            progress.update(task, completed=steps, total=total, description=line)

        yield on_event
