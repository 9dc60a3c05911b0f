"""The ``skillrl`` command: parses its arguments, calls one function of `skillrl.commands`, prints.

Every verb is a dataclass: its fields are the arguments, its docstring is the help. Commands are
imported when they are called, so that ``--help`` answers at once.
"""

from __future__ import annotations

import difflib
import errno
import inspect
import os
import select
import sys
import traceback
from collections import abc
from pathlib import Path

import gymnasium as gym

from skillrl import __version__
from skillrl.cli.agents import Align, Export, Train
from skillrl.cli.discovery import Discover, Gallery, List, Map, Render
from skillrl.cli.info import Info
from skillrl.cli.sequence import Sequence
from skillrl.cli.study import PermutationStudy
from skillrl.cli.verb import Verb, name_of
from skillrl.errors import RunStopped, SkillrlError

USAGE = """\
usage: skillrl VERB [ARGUMENTS] [--debug]

Discover skills without a task reward, look at them, and use them; train agents with memory; tell
whether seeds found the same solution.

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
  skillrl train HalfCheetah-v5 --agent recurrent-ppo --mask-velocity
"""

VERBS: dict[str, type[Verb]] = {
    name_of(verb): verb
    for verb in (
        *(
            Discover,
            List,
            Render,
            Gallery,
            Map,
            Train,
            Align,
            Export,
            Sequence,
            PermutationStudy,
            Info,
        ),
    )
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
    return f"  {name:<18} {(inspect.getdoc(VERBS[name]) or '').splitlines()[0]}"


_SHORTAGE = "There is not enough memory for sizes like these: choose smaller ones."


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
                if words[:1] in (["discover"], ["train"], ["sequence"])
                else "Free some space and run the command again."
            )
            return f"error: the disk is full{where}. {again}"
        case MemoryError():
            return f"error: {_SHORTAGE} {text}".rstrip()
        # Torch's own, of the CPU and of CUDA.
        case RuntimeError() if "can't allocate memory" in text or "out of memory" in text:
            return f"error: {_SHORTAGE} {text}"
        case OSError(filename=None):
            return f"error: {text}"
        case OSError():
            return f"error: {error.filename}: {error.strerror}"
    text = f"{type(error).__name__}{': ' if text else ''}{text}"
    *_, innermost = traceback.extract_tb(error.__traceback__)
    if not Path(innermost.filename).is_relative_to(Path(__file__).parents[1]):
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
