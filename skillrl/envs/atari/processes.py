"""Games in processes that each step their share: slower than threads, but with states.

ALE's interface for one game holds Python's lock while it runs, so threads would take turns.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillrl.envs.atari.emulator import SIZE, STACK, Emulator
from skillrl.envs.atari.games import rom_path
from skillrl.errors import SkillrlError

Array = NDArray[Any]
_SERVE = "import sys; sys.path[:] = {}; from skillrl.envs.atari.processes import serve; serve()"


class ProcessGames:
    """``num_envs`` games in processes of their own, whose states can be saved.

    Args:
        game: ALE's name.
        num_envs: number of games.
        num_processes: number of processes.
        repeat_action_probability: see :class:`~skillrl.envs.atari.AtariEnv`, as are the others.
        terminal_on_life_loss: whether a life lost ends the episode.
        skip_deaths: whether the step that loses a life leads at once to the next one.
        noop_max: an episode begins after fewer than so many frames without an action.
    """

    def __init__(
        self,
        game: str,
        num_envs: int,
        num_processes: int,
        *,
        repeat_action_probability: float,
        terminal_on_life_loss: bool,
        skip_deaths: bool = False,
        noop_max: int,
    ) -> None:
        rom_path(game)  # raises what a user understands
        settings = {
            "game": game,
            "repeat_action_probability": repeat_action_probability,
            "terminal_on_life_loss": terminal_on_life_loss,
            "skip_deaths": skip_deaths,
            "noop_max": noop_max,
        }
        self._shares = np.array_split(np.arange(num_envs), num_processes)
        # No multiprocessing, which would run the user's script once more, or fork beside torch's
        # threads.
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", _SERVE.format(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in self._shares
        ]
        self.close = weakref.finalize(self, _end, self._processes)
        self._observations = np.zeros((num_envs, STACK, SIZE, SIZE), np.uint8)
        self._infos: dict[str, Array] = {}
        self.num_actions: int = self._call(
            "__init__", [(len(share), settings) for share in self._shares]
        )[0]

    def reset(self, mask: Array, seeds: Sequence[int | None]) -> tuple[Array, dict[str, Array]]:
        """Begin new episodes where ``mask`` is true.

        Returns:
            Observations (num_envs, 4, 84, 84), and infos, of all games.
        """
        answers = self._call(
            "reset", [(mask[share], [seeds[i] for i in share]) for share in self._shares]
        )
        pictures, infos = map(_joined, zip(*answers, strict=True))
        self._observations = self._observations.copy()
        self._observations[mask] = 0
        self._observations[mask, -1] = pictures
        self._infos = infos
        return self._observations.copy(), infos

    def step(self, actions: Array, resets: Array) -> tuple[Array, Array, Array, dict[str, Array]]:
        """Step games, or begin new episodes where ``resets`` is true.

        Returns:
            Observations (num_envs, 4, 84, 84), rewards, terminations, and infos.
        """
        answers = self._call("step", [(actions[share], resets[share]) for share in self._shares])
        pictures, skipped, rewards, terminations, infos = map(_joined, zip(*answers, strict=True))
        observations = np.empty_like(self._observations)
        observations[:, :-1] = self._observations[:, 1:]
        observations[resets] = 0
        observations[:, -1] = pictures
        observations[skipped] = pictures[skipped, None]
        self._observations = observations
        return observations.copy(), rewards, terminations, infos

    def get_state(self) -> dict[str, Array]:
        """The games' states but for their observations, a row for each game."""
        return _joined(self._call("get_state", [()] * len(self._shares)))

    def set_state(self, chosen: Array, state: dict[str, Array], observations: Array) -> None:
        """Go on from saved states.

        Args:
            chosen: numbers of the games to set.
            state: a row for each of them.
            observations: those of all games from now on.
        """
        self._observations = observations.copy()
        calls = []
        for share in self._shares:
            here = np.flatnonzero(np.isin(chosen, share))
            local = chosen[here] - share[0]
            calls.append((local, {name: rows[here] for name, rows in state.items()}))
        self._call("set_state", calls)

    def _call(self, method: str, arguments: list[Any]) -> list[Any]:
        """Call a method in all processes at once, and wait for what they return."""
        try:
            for process, each in zip(self._processes, arguments, strict=True):
                assert process.stdin is not None
                pickle.dump((method, each), process.stdin, pickle.HIGHEST_PROTOCOL)
                process.stdin.flush()
            return [pickle.load(process.stdout) for process in self._processes]  # type: ignore[arg-type]
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.close()
            raise SkillrlError(
                "A process that plays games has ended. What it said stands above this; if it said "
                "nothing, it was killed, perhaps for lack of memory: use fewer environments."
            ) from error
        except BaseException:
            # Interrupted: an answer not yet read would be taken for that of the next call.
            self.close()
            raise


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes that serve: they do when their pipe closes."""
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # if the process has ended before
                pipe.close()
        process.wait()


def _joined(parts: Sequence[Any]) -> Any:
    """Arrays, or dictionaries of arrays, of all shares as one."""
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


class _Share:
    """The games of one process."""

    def __init__(self, num_envs: int, settings: dict[str, Any]) -> None:
        self._games = [Emulator(**settings) for _ in range(num_envs)]
        self.num_actions = len(self._games[0].actions)

    def reset(self, mask: Array, seeds: Sequence[int | None]) -> tuple[Array, dict[str, Array]]:
        pictures = []
        for index in np.flatnonzero(mask).tolist():
            self._games[index].reset(seeds[index])
            pictures.append(self._games[index].picture())
        return np.array(pictures, np.uint8).reshape(-1, SIZE, SIZE), self._info()

    def step(
        self, actions: Array, resets: Array
    ) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
        rewards, terminations = np.zeros(len(actions)), np.zeros(len(actions), np.bool_)
        for index, game in enumerate(self._games):
            if resets[index]:
                game.reset()
            else:
                rewards[index], terminations[index] = game.step(int(actions[index]))
        pictures = np.stack([game.picture() for game in self._games])
        skipped = np.array([game.death_skipped for game in self._games])
        return pictures, skipped, rewards, terminations, self._info()

    def get_state(self) -> dict[str, Array]:
        states = [game.get_state() for game in self._games]
        return {name: np.stack([state[name] for state in states]) for name in states[0]}

    def set_state(self, chosen: Array, state: dict[str, Array]) -> None:
        for row, index in enumerate(chosen):
            self._games[index].set_state({name: rows[row] for name, rows in state.items()})

    def _info(self) -> dict[str, Array]:
        infos = [game.info() for game in self._games]
        return {name: np.array([info[name] for info in infos]) for name in infos[0]}


def serve() -> None:
    """Play games for another process until it closes the pipe: what runs in each process."""
    # Ctrl-C reaches all processes of a terminal: it is for the one that called this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what else is printed must not come between
    _, arguments = pickle.load(sys.stdin.buffer)
    share = _Share(*arguments)
    answer: Any = share.num_actions
    while True:
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer = getattr(share, method)(*arguments)
