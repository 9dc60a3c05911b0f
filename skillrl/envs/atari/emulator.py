"""One of Atari's games in ALE, with the preprocessing of ALE's vector environment.

As Machado et al. 2018 (arXiv 1709.06009) describe it, with the numbers of Mnih et al. 2015: an
action lasts four frames, the last two of which are merged by their larger values, in grey, and
shrunk to 84 × 84 pixels. An episode begins after a random number of frames without an action.
"""

from __future__ import annotations

import functools
from typing import Any

import ale_py
import numpy as np
from numpy.typing import NDArray

from skillrl.envs.atari.games import KNOWN, known, rom_path
from skillrl.errors import InvalidValueError

FRAME_SKIP = 4
"""Frames that an action lasts."""

SIZE = 84
"""Rows and columns of a picture that agents see."""

STACK = 4
"""Pictures in an observation, the latest last."""

NOOP_MAX = 30
"""An episode begins after up to 29 frames without an action."""

STATE_SIZE = 16_384
"""Bytes kept for a saved console; the largest of ALE 0.12's games takes 14,977."""

RANDOM_WORDS = 625
"""Words of a saved random generator."""

State = dict[str, NDArray[Any]]


class Emulator:
    """One game, to the last bit as :class:`ale_py.AtariVectorEnv` plays it but for skipped deaths.

    Args:
        game: ALE's name, such as ``"montezuma_revenge"``.
        repeat_action_probability: how likely a frame repeats the action of the frame before
            ("sticky actions").
        terminal_on_life_loss: whether a life lost ends the episode.
        skip_deaths: whether the step that loses a life leads at once to where the next life begins.
        noop_max: an episode begins after fewer than so many frames without an action.

    Raises:
        InvalidValueError: if deaths cannot be skipped (:func:`check_deaths`).

    Attributes:
        actions: ALE's actions that do something in this game.
        death_skipped: whether the last step did: then nothing that was seen before belongs to what
            is seen now.
    """

    def __init__(
        self,
        game: str,
        *,
        repeat_action_probability: float = 0.0,
        terminal_on_life_loss: bool = True,
        skip_deaths: bool = False,
        noop_max: int = NOOP_MAX,
    ) -> None:
        self._rom = rom_path(game)
        check_deaths(game, terminal_on_life_loss, skip_deaths)
        self._terminal_on_life_loss = terminal_on_life_loss
        self._skipped_frames = known(game).respawn_frames if skip_deaths else 0
        self.death_skipped = False
        self._noop_max = noop_max
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", repeat_action_probability)
        self._ale.loadROM(self._rom)
        self.actions = self._ale.getMinimalActionSet()
        # RandomState, because its numbers are those of C++'s std::mt19937, which ALE draws from.
        self._random = np.random.RandomState()
        self._screen = np.zeros(self._ale.getScreenDims(), np.uint8)
        self._before = np.zeros_like(self._screen)

    def reset(self, seed: int | None = None, noops: int | None = None) -> None:
        """Begin a new game.

        Args:
            seed: from 0 to 2³¹ − 1; None to go on with the present random numbers.
            noops: frames without an action at the begin; None to draw their number.
        """
        if seed is not None:
            self._random = np.random.RandomState(seed)
            self._ale.setInt("random_seed", int(seed))
            self._ale.loadROM(self._rom)
        self._ale.reset_game()
        drawn = self._draw()
        for _ in range(drawn if noops is None else noops):
            self._ale.act(ale_py.Action.NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        self._ale.getScreenGrayscale(self._screen)
        self._before[:] = 0
        self.death_skipped = False

    def _draw(self) -> int:
        """A number below ``noop_max``, as GCC's ``std::uniform_int_distribution`` draws it.

        Source: Lemire 2019, "Fast random integer generation in an interval".
        """
        bound = max(self._noop_max, 1)
        if bound == 1:
            return 0  # and no number is drawn
        while True:
            product = int.from_bytes(self._random.bytes(4), "little") * bound
            if product % 2**32 >= 2**32 % bound:
                return product >> 32

    def step(self, action: int) -> tuple[float, bool]:
        """Let an action last four frames, or until the episode ends.

        Args:
            action: a number of one of ``actions``.

        Returns:
            What the score grew by, and whether the episode has ended.
        """
        reward, lives, self.death_skipped = 0, self._ale.lives(), False
        for left in reversed(range(FRAME_SKIP)):
            reward += self._ale.act(self.actions[action])
            life_lost = 0 < self._ale.lives() < lives
            if self._ale.game_over() or (self._terminal_on_life_loss and life_lost):
                ended = True
                break
            if life_lost and self._skipped_frames:
                skipped = range(self._skipped_frames)
                reward += sum(self._ale.act(ale_py.Action.NOOP) for _ in skipped)
                ended, self.death_skipped = self._ale.game_over(), True
                self._ale.getScreenGrayscale(self._screen)
                self._before[:] = 0
                break
            if left == 1:
                self._ale.getScreenGrayscale(self._before)
            elif left == 0:
                self._ale.getScreenGrayscale(self._screen)
        else:
            ended = False
        np.maximum(self._screen, self._before, out=self._screen)
        return float(reward), ended

    def picture(self) -> NDArray[np.uint8]:
        """What an agent sees of the latest frames, of shape (84, 84)."""
        return shrink(self._screen)

    def info(self) -> dict[str, int]:
        """Lives, and frames since the game began."""
        return {
            "lives": self._ale.lives(),
            "episode_frame_number": self._ale.getEpisodeFrameNumber(),
        }

    def screen(self) -> NDArray[np.uint8]:
        """The console's picture in colour, of shape (height, width, 3), 210 × 160 in most games.

        It is that of the latest frame: after ``set_state`` there is none before the next step.
        """
        return self._ale.getScreenRGB()

    def memory(self) -> NDArray[np.uint8]:
        """The console's memory, 128 bytes."""
        return self._ale.getRAM()

    def get_state(self) -> State:
        """Everything needed to go on exactly, in arrays of the same shape for every state."""
        console = self._ale.cloneSystemState().serialize()
        saved = np.zeros(STATE_SIZE, np.uint8)
        saved[: len(console)] = np.frombuffer(console, np.uint8)
        _, key, position, *_ = self._random.get_state(legacy=True)
        return {
            "console": saved,
            "screen": self._screen.copy(),
            "random": np.append(key, np.uint32(position)).astype(np.uint32),
        }

    def set_state(self, state: State) -> None:
        """Go on from a saved state."""
        self._ale.restoreSystemState(ale_py.ALEState(state["console"].tobytes()))
        self._screen[:] = state["screen"]
        self._before[:] = 0  # of what the screen already holds
        *key, position = state["random"]
        self._random.set_state(("MT19937", np.array(key, np.uint32), int(position), 0, 0.0))


def check_deaths(game: str, terminal_on_life_loss: bool, skip_deaths: bool) -> None:
    """Refuse to skip deaths that end episodes, or of which it is not known how long they take.

    Raises:
        InvalidValueError: if they are to be skipped.
    """
    if not skip_deaths:
        return
    if terminal_on_life_loss:
        raise InvalidValueError(
            "skip_deaths=True: where a life lost ends the episode, nothing follows it that could "
            "be skipped. Give terminal_on_life_loss=False, too, or skip_deaths=False."
        )
    if not known(game).respawn_frames:
        names = ", ".join(name for name, each in KNOWN.items() if each.respawn_frames)
        raise InvalidValueError(
            f"skip_deaths=True: how long a death takes is not known of {game!r}, only of {names}. "
            "Give skip_deaths=False."
        )


def shrink(screen: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey picture in 84 × 84 pixels, each the mean of the area that it covers.

    Equal to OpenCV's ``resize`` with ``INTER_AREA``, which ALE and Gymnasium use, to the last bit.

    >>> shrink(np.full((210, 160), 7, np.uint8)).shape
    (84, 84)
    """
    (rows, row_weights), (columns, column_weights) = map(_areas, screen.shape)
    # Term by term in single precision, because OpenCV adds so: sums that end in one half are
    # rounded up or down by their error.
    wide = screen.astype(np.float32)
    narrow = wide[:, columns[0]] * column_weights[0]
    for column, weight in zip(columns[1:], column_weights[1:], strict=True):
        narrow += wide[:, column] * weight
    small = narrow[rows[0]] * row_weights[0, :, None]
    for row, weight in zip(rows[1:], row_weights[1:], strict=True):
        small += narrow[row] * weight[:, None]
    return np.rint(small).astype(np.uint8)


@functools.lru_cache
def _areas(length: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Which of ``length`` pixels each of the 84 covers and how much, each of shape (k, 84)."""
    scale = length / SIZE
    covered = []
    for pixel in range(SIZE):
        begin, end = pixel * scale, (pixel + 1) * scale
        parts = [
            (index, min(index + 1, end) - max(index, begin))
            for index in range(int(begin), min(int(np.ceil(end)), length))
        ]
        covered.append([(index, part / scale) for index, part in parts if part > 1e-3])
    most = max(map(len, covered))
    indices = np.zeros((most, SIZE), np.intp)
    weights = np.zeros((most, SIZE), np.float32)
    for pixel, parts in enumerate(covered):
        for k, (index, weight) in enumerate(parts):
            indices[k, pixel], weights[k, pixel] = index, weight
    return indices, weights
