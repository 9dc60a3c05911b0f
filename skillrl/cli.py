"""The ``skillrl`` command: parses its arguments, calls one function of `skillrl.commands`, prints.

Every verb is a dataclass: its fields are the arguments, its docstring is the help. Commands are
imported when they are called, so that ``--help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import importlib
import inspect
import json
import os
import select
import sys
import traceback
from collections import abc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol, Self

import gymnasium as gym
import tyro

from skillrl import __version__
from skillrl.discovery.recipes import AgentName, Recipe, recipe_for
from skillrl.errors import InvalidValueError, RunStopped, SkillrlError
from skillrl.recurrent.recipes import SEQUENCE_RECIPES, SequenceRecipe, TaskName

USAGE = """\
usage: skillrl VERB [ARGUMENTS] [--debug]

Discover skills without a task reward, look at them, and use them.

verbs:
{verbs}

  skillrl VERB --help      what a verb does, its arguments and their defaults
  skillrl --version        the version of skillrl
  --debug                  with any verb: show the traceback of an error

examples:
  skillrl discover HalfCheetah-v5 --run runs/cheetah
  skillrl list runs/cheetah
  skillrl render runs/cheetah
  skillrl gallery runs/cheetah
"""


class Verb(Protocol):
    """A verb with its parsed arguments."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments that follow the verb on the command line."""
        ...

    def execute(self) -> None:
        """Call the verb's command and print what it returns."""
        ...


class _Parsed:
    """Arguments that are read by tyro from a dataclass's fields."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments; ``--help`` and mistakes in them end the program."""
        return cls._read(arguments)

    @classmethod
    def _read(cls, arguments: abc.Sequence[str], default: Self | None = None) -> Self:
        if not {"-h", "--help"}.isdisjoint(arguments):
            # Printed here, because tyro rearranges lines; --help goes on alone, because tyro
            # leaves out of it what the line has given already.
            print(inspect.getdoc(cls), end="\n\n")
            arguments = ["--help"]
        return tyro.cli(
            cls,
            prog=f"skillrl {cls.__name__.lower()}",
            description="",
            args=arguments,
            default=tyro.MISSING_NONPROP if default is None else default,
            # One flag a boolean, the one that changes its default.
            config=(tyro.conf.FlagCreatePairsOff,),
        )


# An option's value as a JSON object.
_Json = Annotated[
    dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda strings: _json_object(strings[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
]
_Imports = Annotated[
    tuple[str, ...],
    tyro.conf.arg(name="import", metavar="PACKAGE"),
    tyro.conf.UseAppendAction,
]


@dataclass(frozen=True)
class _RecipeArguments(Recipe):
    """A recipe whose environment is a positional argument."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ID")]
    """Id of the environment, as in `gymnasium.make`: HalfCheetah-v5, skillrl/Maze2D-v0, or any
    other with Box observations and Box or Discrete actions."""
    env_kwargs: _Json = field(default_factory=dict)
    """Keyword arguments of the environment, for example '{"forward_reward_weight": 0}'."""
    algorithm: Annotated[AgentName, tyro.conf.arg(name="agent")] = "ppo"
    """What learns a skill: SkillPPO, PPO with a memory, SAC, or SAC with a memory. SAC is for
    continuous actions; "diayn" and "metra" are on "ppo" alone."""

    @classmethod
    def defaults(cls, recipe: Recipe) -> Self:
        """The settings of ``recipe``; the environment's id has still to be given."""
        return cls(**{**_shallow_dict(recipe), "env": tyro.MISSING})

    def recipe(self) -> Recipe:
        return Recipe(**_shallow_dict(self))


@dataclass(frozen=True)
class Discover(_Parsed):
    """Discover skills in an environment, without using its reward.

    Skills are found one after another: each one learns to reach what the ones before it do not.
    They are saved in the run's folder as soon as they are finished. The defaults below are the
    recipe of the environment ID that comes first on the line (a generic recipe if none does).

    Examples:
      skillrl discover HalfCheetah-v5
      skillrl discover HalfCheetah-v5 --generations 20 --seed 3 --run runs/cheetah-3
      skillrl discover HalfCheetah-v5 --run runs/cheetah-3 --resume
      skillrl discover MyRobot-v0 --import my_package --agent.learning-rate 1e-4
      skillrl discover Ant-v5 --help      (the recipe of Ant-v5)
    """

    recipe: Annotated[_RecipeArguments, tyro.conf.arg(name="")]
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: a new one in runs/)"),
    ] = None
    """Folder of the run, which must not exist yet, unless with --resume."""
    seed: int = 0
    """Seed of everything random: the same seed finds the same skills."""
    resume: bool = False
    """Go on from the run's last checkpoint; start it where there is none."""
    imports: _Imports = ()
    """Package to import first, because it registers the environment."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments; what is not given is the recipe's, or that of the run to resume."""
        env = next((word for word in arguments if not word.startswith("-")), "")
        parsed = cls._read(arguments, cls(_RecipeArguments.defaults(recipe_for(env))))
        if parsed.recipe.env != env:  # The id came after an option, whose value was taken for it.
            env = parsed.recipe.env
            parsed = cls._read(arguments, cls(_RecipeArguments.defaults(recipe_for(env))))
        if parsed.resume:
            from skillrl.commands.discover import default_run
            from skillrl.discovery.library import SkillLibrary

            run = parsed.run or default_run(env, parsed.seed)
            if (run / "run.json").exists():
                stored = SkillLibrary(run)
                defaults = cls(_RecipeArguments.defaults(stored.recipe), seed=stored.seed)
                parsed = cls._read(arguments, defaults)
        return parsed

    def execute(self) -> None:
        """Discover skills; the command shows its progress itself."""
        _import(self.imports)
        from skillrl.commands.discover import discover, render_command

        recipe = self.recipe.recipe()
        run = discover(recipe, run=self.run, seed=self.seed, resume=self.resume)
        print(f"The skills are in {run}. Look at them: {render_command(recipe, run)}")


@dataclass(frozen=True)
class List(_Parsed):
    """List the skills of a run, or the runs in a folder.

    Of each skill:
      live         whether it earns a fifth of the target, and twice what the policy before it does
      reward       what it earns a step, without noise, in episodes from ordinary resets
      previous     what the policy before it earns on the same reward
      fresh        what the agent earned on it before training
      positives    share of the states to ask for that the fitted reward is positive at
      negatives    the same of states of earlier skills, which are not to be asked for again
      task return  what it earns of the environment's own reward, which it was not trained on
      from         the skill that it started from; - for the untrained policy
    A skill that is not live is often one whose reward the fresh agent never met.

    Examples:
      skillrl list
      skillrl list runs/cheetah
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")] = Path("runs")
    """Folder of a run, or of runs."""

    def execute(self) -> None:
        """Print a table of the skills."""
        from skillrl.commands.list_skills import list_skills

        print(list_skills(self.run))


@dataclass(frozen=True)
class Render(_Parsed):
    """Film the skills of a run: one video a skill, and a labelled grid of all of them.

    Needs no display and no settings. Where no OpenGL is found, the message says what to install.

    Examples:
      skillrl render runs/cheetah
      skillrl render runs/cheetah --skills 0 3 --gif --out animations
      skillrl render runs/cheetah --skills 3 --live
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("videos")
    """Folder that the videos are written to."""
    skills: Annotated[
        tuple[int, ...] | None,
        tyro.conf.arg(metavar="N [N ...]", help_behavior_hint="(default: all)"),
    ] = None
    """Numbers of the skills to film."""
    gif: bool = False
    """Write animated GIFs as well as H.264 videos (MP4)."""
    live: bool = False
    """Open a window and show the skills in it instead of writing files."""
    steps: Annotated[
        int | None,
        tyro.conf.arg(metavar="N", help_behavior_hint="(default: one episode, at most 15 s)"),
    ] = None
    """Environment steps to show of each skill."""
    seed: int = 0
    """Seed of the reset that every video starts from."""
    imports: _Imports = ()
    """Package to import first, because it registers the environment."""

    def execute(self) -> None:
        """Render the skills and print the files written."""
        _import(self.imports)
        from skillrl.commands.render import render

        videos = render(
            self.run,
            out=self.out,
            skills=self.skills,
            gif=self.gif,
            live=self.live,
            steps=self.steps,
            seed=self.seed,
        )
        for video in videos:
            print(video)


@dataclass(frozen=True)
class Gallery(_Parsed):
    """Write one page with every skill of a run: video, behaviour, rewards, where it came from.

    The page, gallery.html in the run's folder, works without a network and without a server.

    Examples:
      skillrl gallery runs/cheetah
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    seed: int = 0
    """Seed of the reset that every video starts from."""
    imports: _Imports = ()
    """Package to import first, because it registers the environment."""

    def execute(self) -> None:
        """Write the page and print where it is."""
        _import(self.imports)
        from skillrl.commands.gallery import gallery

        print(gallery(self.run, seed=self.seed))


@dataclass(frozen=True)
class _SequenceArguments(SequenceRecipe):
    """A recipe whose task is a positional argument."""

    task: Annotated[tyro.conf.Positional[TaskName], tyro.conf.arg(metavar="TASK")]


@dataclass(frozen=True)
class Sequence(_Parsed):
    """Train a recurrent network on a sequence task, chunk after chunk.

    Memory does not grow with the length of the sequences, except with the rule "bptt". The defaults
    below are the recipe of the TASK that comes first on the line: the sizes of Zucchet et al. 2023,
    which for listops, images and reviews take a GPU days.

    Tasks:
      copy      repeat a pattern of bits
      recall    say at the end what the first step showed
      listops   evaluate nested lists
      images    classify images pixel by pixel, from the folder --data
      reviews   tell positive from negative texts byte by byte, from the folder --data

    Examples:
      skillrl sequence copy --rule online --depth 4
      skillrl sequence recall --rule truncated
      skillrl sequence images --data cifar10 --sequences 100 --updates 500
    """

    recipe: Annotated[_SequenceArguments, tyro.conf.arg(name="")]
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: a new one in runs/)"),
    ] = None
    """Folder for result.json, curve.png and network.safetensors."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments; what is not given is the recipe's of the task."""
        task = next((word for word in arguments if word in SEQUENCE_RECIPES), "copy")
        parsed = cls._read(arguments, cls._defaults(task))
        if parsed.recipe.task != task:  # The word came after an option, whose value it was.
            parsed = cls._read(arguments, cls._defaults(parsed.recipe.task))
        return parsed

    @classmethod
    def _defaults(cls, task: str) -> Self:
        defaults = _SequenceArguments(**_shallow_dict(SEQUENCE_RECIPES[task]))
        # The task itself has to be given.
        object.__setattr__(defaults, "task", tyro.MISSING)
        return cls(defaults)

    def execute(self) -> None:
        """Train the network; the command shows its progress itself."""
        from skillrl.commands.sequence import sequence

        out, outcome = sequence(SequenceRecipe(**_shallow_dict(self.recipe)), out=self.out)
        print(
            f"Of the test set {outcome.test_accuracy:.1%} is right, with a loss of "
            f"{outcome.test_loss:.3f}. Result, plot and network are in {out}."
        )


@dataclass(frozen=True)
class Info(_Parsed):
    """Describe this installation: what a bug report needs.

    Versions, processor, threads, devices, and whether rendering and video encoding work.

    Examples:
      skillrl info
      skillrl info --json
    """

    json: bool = False
    """Print one JSON object instead of a table."""

    def execute(self) -> None:
        """Print the description."""
        from skillrl.commands.info import info

        print(info(as_json=self.json))


VERBS: dict[str, type[Verb]] = {
    verb.__name__.lower(): verb for verb in (Discover, List, Render, Gallery, Sequence, Info)
}


def main(arguments: abc.Sequence[str] | None = None) -> int:
    """Run the ``skillrl`` command and return its exit status.

    0: done; 1: an error, explained in one line; 2: a mistake in the arguments; 130: interrupted.
    """
    # Before torch is imported: threads that spin while they wait would slow the physics' threads,
    # and on a busy machine each other, manyfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "" not in sys.path:
        # As `python -m` would: a package in the current folder may register environments.
        sys.path.insert(0, "")
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_gone():
            return 1
        if debug:
            traceback.print_exc()
        print(_message(error, words), file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt | RunStopped) else 1


def _dispatch(words: abc.Sequence[str]) -> int:
    """Print the usage or the version, or execute the verb."""
    match words:
        case [] | ["-h" | "--help" | "help", *_]:
            print(USAGE.format(verbs="\n".join(map(_summary, VERBS))), end="")
        case ["--version", *_]:
            print(f"skillrl {__version__}")
        case [name, *rest] if name in VERBS:
            VERBS[name].parse(rest).execute()
        case [name, *_]:
            near = difflib.get_close_matches(name, VERBS, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            print(
                f"error: {name!r} is no verb of skillrl. {hint}There are: {', '.join(VERBS)}.",
                file=sys.stderr,
            )
            return 2
    return 0


def _summary(name: str) -> str:
    return f"  {name:<10} {(inspect.getdoc(VERBS[name]) or '').splitlines()[0]}"


def _message(error: BaseException, words: abc.Sequence[str]) -> str:
    """One line that says what went wrong and, where it is known, what to do."""
    # The line breaks of a message made elsewhere would hide its end from a log.
    text = " ".join(str(error).split())
    match error:
        case KeyboardInterrupt() | RunStopped():
            return text or "Interrupted."
        case SkillrlError() | gym.error.Error():
            return f"error: {text}"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            where = f" while writing {error.filename}" if error.filename else ""
            again = (
                "Free some space and run the command again with --resume: it goes on from the "
                "run's last checkpoint."
                if words[:1] == ["discover"]
                else "Free some space and run the command again."
            )
            return f"error: the disk is full{where}. {again}"
        case OSError(filename=None):
            return f"error: {text}"
        case OSError():
            return f"error: {error.filename}: {error.strerror}"
    text = f"{type(error).__name__}{': ' if text else ''}{text}"
    *_, innermost = traceback.extract_tb(error.__traceback__)
    if not Path(innermost.filename).is_relative_to(Path(__file__).parent):
        # Most often in the user's environment.
        where = f"{innermost.filename}, line {innermost.lineno}"
        return f"error: {text} ({where}). Run again with --debug for the traceback."
    return f"unexpected {text}; this is a bug, run again with --debug for the traceback"


def _stdout_is_gone() -> bool:
    """Whether the reader of our output has left, as in ``skillrl list runs/a | head -1``.

    If so, standard output leads nowhere from now on: Python's own flush at exit would complain.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _import(packages: abc.Sequence[str]) -> None:
    """Import the packages that register the user's environments."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise InvalidValueError(
                f"--import {package} failed: {error}. It must be installed in the environment of "
                f"{sys.executable}, or lie in the current folder."
            ) from error


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object such as '{{\"key\": 1}}' is needed, not {text}")
    return value


def _shallow_dict(recipe: Recipe | SequenceRecipe) -> dict[str, Any]:
    return {item.name: getattr(recipe, item.name) for item in dataclasses.fields(recipe)}


if __name__ == "__main__":
    sys.exit(main())
