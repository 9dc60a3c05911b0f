"""Films of skills and agents: one of each, and one that shows all of them side by side.

`record` lets a skill, `watch` any agent act from an ordinary reset and keeps the pictures; `film`
and `grid` label them; `write_mp4` and `write_gif` make files of what these two return.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from skillrl.discovery.library import Skill
from skillrl.errors import InvalidValueError, SkillrlError
from skillrl.files import write_atomically
from skillrl.randomness import drawn_aside
from skillrl.report.drawing import cannot_draw, make_env, steps_per_second

SECONDS, STEPS = 15.0, 500
"""Unless a number of steps is asked for, films show an episode of at most as many steps as a whole,
and of a longer one the first seconds."""

GIF_WIDTH = 480
"""The most pixels in a row of an animated GIF, if labels remain readable."""

# Environments that make more steps in a second of their time are drawn at every second one, every
# third one, …
_MAX_FPS = 30.0
_GIF_FPS = 15.0
# In pixels: the largest side of one picture, and of a film of many.
_MAX_SIDE = 320
_MAX_GRID_WIDTH = 1280
# Narrower cells of a grid have no room for a label.
_MIN_WIDTH = 160

_LABEL_HEIGHT, _CURVE_HEIGHT = 20, 24
_FONT_SIZE = 12
_GAP = 4
_BACKGROUND = (28, 30, 36)
_TEXT = (228, 230, 235)
_FAINT_TEXT = (150, 154, 165)
_CURVE_AHEAD = (70, 74, 84)
_LIVE, _NOT_LIVE = (120, 214, 140), (222, 150, 130)
_GIF_COLOURS = 64


Label = Sequence[tuple[str, tuple[int, int, int]]]
"""Texts with their colours."""


class Predict(Protocol):
    """Acts as agents of Stable-Baselines3 do."""

    def __call__(
        self, observation: Any, *, state: Any, episode_start: Any, deterministic: bool
    ) -> tuple[np.ndarray, Any]:
        """Return an action, and the state to give back with the next observation."""
        ...


@dataclass(frozen=True)
class Episode:
    """What an agent did in one episode.

    Pictures are kept as JPEG files of high quality, in a tenth of the memory.
    """

    label: Label
    """What is written above the pictures."""
    fps: float
    """Pictures per second of the environment's time."""
    pictures: Sequence[bytes]
    """The first shows what the reset led to, the last how the episode ended."""
    rewards: Sequence[float | None]
    """Reward of the step that led to each picture; None for the reset."""

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, index: int) -> Image.Image:
        """Return one picture; beyond the episode's end the last one, darker."""
        if index < len(self):
            return Image.open(BytesIO(self.pictures[index]))
        return ImageEnhance.Brightness(self.picture(len(self) - 1)).enhance(0.5)


@dataclass(frozen=True)
class Recording(Episode):
    """What a skill did in one episode."""

    skill: Skill


def record(skill: Skill, *, steps: int | None = None, seed: int = 0) -> Recording:
    """Let a skill act from an ordinary reset, and keep the pictures.

    Args:
        skill: the skill; its environment needs the render mode ``"rgb_array"``.
        steps: as of ``watch``.
        seed: of the reset, and of what the skill draws.

    Raises:
        InvalidValueError: if the environment cannot be drawn, or ``steps`` is less than 1.
    """
    _check_steps(steps)
    policy = skill.policy
    env = make_env(skill, "rgb_array")
    known = skill.record
    what = f"reward {known.mean_reward:.3g} of {known.target:.3g}"
    if known.descriptors is not None:
        what = known.descriptors.name
    number = f"skill {skill.index}"
    head = (f"{number}, not live", _NOT_LIVE) if known.live is False else (number, _LIVE)
    label = [head, (f" · {what}", _TEXT)]
    with drawn_aside(seed):
        episode = watch(
            *(env, policy.predict, label),
            steps=steps,
            seed=seed,
            deterministic=policy.noiseless,
        )
    return Recording(episode.label, episode.fps, episode.pictures, episode.rewards, skill)


def watch(
    env: gym.Env[Any, Any],
    predict: Predict,
    label: str | Label,
    *,
    steps: int | None = None,
    seed: int = 0,
    deterministic: bool = True,
) -> Episode:
    """Let an agent act from an ordinary reset, keep the pictures, close ``env``.

    Args:
        env: with the render mode ``"rgb_array"``.
        predict: the agent's; a recurrent agent is given its state back.
        label: to be written above the pictures.
        steps: the most steps to take, at least 1; None for an episode of at most ``STEPS``, and of
            longer ones ``SECONDS`` of the environment's time. The episode may end earlier.
        seed: of the reset.
        deterministic: whether the agent acts without noise.

    Raises:
        InvalidValueError: if the environment cannot be drawn, or ``steps`` is less than 1.
    """
    _check_steps(steps)
    try:
        rate = steps_per_second(env)
        stride = math.ceil(rate / _MAX_FPS)
        observation, _ = env.reset(seed=seed)
        pictures = [_first_picture(env)]
        rewards: list[float | None] = [None]
        state = None
        for step in range(1, (_steps(env, rate) if steps is None else steps) + 1):
            action, state = predict(
                observation,
                state=state,
                episode_start=np.array([step == 1]),
                deterministic=deterministic,
            )
            # The index makes a NumPy integer of a discrete action, and leaves others as they are.
            observation, reward, terminated, truncated, _ = env.step(action[()])
            ended = terminated or truncated
            if step % stride == 0 or ended:
                pictures.append(_picture(env))
                rewards.append(float(reward))
            if ended:
                break
    finally:
        env.close()
    label = [(label, _TEXT)] if isinstance(label, str) else label
    return Episode(label, rate / stride, pictures, rewards)


def _steps(env: gym.Env[Any, Any], rate: float) -> int:
    """Steps of a film where none are asked for; ``rate`` is steps per second."""
    limit = env.spec.max_episode_steps if env.spec is not None else None
    return limit if limit is not None and limit <= STEPS else round(SECONDS * rate)


def _check_steps(steps: int | None) -> None:
    if steps is not None and steps < 1:
        raise InvalidValueError(f"steps should be at least 1. Received {steps}.")


def film(recording: Episode, *, width: int = _MAX_SIDE) -> Iterator[Image.Image]:
    """Yield the frames of one film, labelled, all of one even size.

    Args:
        recording: what to show.
        width: the most pixels in a row.
    """
    yield from map(_drawer(recording, width), range(len(recording)))


def grid(recordings: Sequence[Episode], *, width: int = _MAX_GRID_WIDTH) -> Iterator[Image.Image]:
    """Yield the frames of a film of all recordings side by side, all of one even size.

    The film is as long as the longest recording; the others stay at their last picture, darker.

    Args:
        recordings: at least one, in the order of the rows.
        width: the most pixels in a row, if labels remain readable.
    """
    columns = math.ceil(math.sqrt(len(recordings)))
    cell_width = max(_MIN_WIDTH, min(_MAX_SIDE, (width + _GAP) // columns - _GAP))
    drawers = [_drawer(recording, cell_width) for recording in recordings]
    for index in range(max(map(len, recordings))):
        cells = [draw(index) for draw in drawers]
        cell = max(cell.width for cell in cells), max(cell.height for cell in cells)
        rows = math.ceil(len(cells) / columns)
        frame = Image.new(
            "RGB",
            (columns * (cell[0] + _GAP) - _GAP, rows * (cell[1] + _GAP) - _GAP),
            _BACKGROUND,
        )
        for number, image in enumerate(cells):
            row, column = divmod(number, columns)
            frame.paste(image, (column * (cell[0] + _GAP), row * (cell[1] + _GAP)))
        yield frame


def write_mp4(path: Path, frames: Iterable[Image.Image], fps: float) -> None:
    """Write an H.264 video that browsers play while they load it, atomically.

    Args:
        path: the file to write.
        frames: at least one; all of the same even width and height.
        fps: frames per second.

    Raises:
        OSError: if the disk is full.
        SkillrlError: if ffmpeg fails otherwise.
    """
    write_atomically(path, lambda temporary: _encode(temporary, frames, fps))


def write_gif(path: Path, frames: Iterable[Image.Image], fps: float) -> None:
    """Write an animated GIF that repeats for ever, atomically.

    To keep the file small, it has one palette, and frames are left out until no more than 15
    remain of a second.

    Args:
        path: the file to write.
        frames: at least one; all of the same size.
        fps: frames per second of ``frames``.
    """
    stride = math.ceil(fps / _GIF_FPS)
    kept = list(itertools.islice(frames, 0, None, stride))
    palette = _palette(kept)
    first, *others = (
        # Dithering would make every frame's noise differ from the last one's.
        frame.quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in kept
    )
    # The format knows hundredths of a second only: rounded so that the whole keeps its length.
    ends = [round(100 * stride * count / fps) for count in range(len(kept) + 1)]
    durations = [10 * (end - start) for start, end in itertools.pairwise(ends)]
    write_atomically(
        path,
        lambda temporary: first.save(
            temporary,
            save_all=True,
            append_images=others,
            duration=durations,
            loop=0,
            # A palette that each frame reduced to its own colours would be no shared one.
            optimize=False,
        ),
    )


def _first_picture(env: gym.Env[Any, Any]) -> bytes:
    try:
        return _picture(env)
    except Exception as error:  # of OpenGL, pygame, the environment, by what is missing
        raise cannot_draw(env, error) from error


def _picture(env: gym.Env[Any, Any]) -> bytes:
    """Return the environment's picture as a JPEG file, no wider than ``_MAX_SIDE``."""
    array = env.render()
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise InvalidValueError(
            "render() should return an array of type uint8 and shape (height, width, 3), not "
            f"{type(array).__name__}"
        )
    image = Image.fromarray(array).convert("RGB")
    image.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.BOX)
    # By a whole number, so that pixels stay square and sharp.
    if (factor := _MAX_SIDE // image.width) > 1:
        size = image.width * factor, image.height * factor
        image = image.resize(size, Image.Resampling.NEAREST)
    file = BytesIO()
    image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _drawer(recording: Episode, width: int) -> Callable[[int], Image.Image]:
    """Return a function that draws a frame: label, picture, and the reward up to this moment.

    Both sides of the frame are even, as H.264 wants them.
    """
    size = recording.picture(0).size
    if size[0] > width:
        size = width, round(size[1] * width / size[0])
    height = _LABEL_HEIGHT + size[1] + _CURVE_HEIGHT
    blank = Image.new("RGB", (_even(size[0]), _even(height)), _BACKGROUND)
    label_end = _write_label(blank, recording.label)
    curve = _curve(recording, size[0], _LABEL_HEIGHT + size[1])
    if len(curve) > 1:
        ImageDraw.Draw(blank).line(curve, _CURVE_AHEAD)
    font, middle = _font(), _LABEL_HEIGHT // 2

    def draw(index: int) -> Image.Image:
        picture = recording.picture(index)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BOX)
        frame = blank.copy()
        frame.paste(picture, (0, _LABEL_HEIGHT))
        if len(so_far := curve[:index]) > 1:
            ImageDraw.Draw(frame).line(so_far, _TEXT)
        reward = recording.rewards[min(index, len(recording) - 1)]
        text = "" if reward is None else f"{reward:.3g}"
        if label_end + 3 * _GAP + font.getlength(text) <= frame.width:
            position = frame.width - _GAP, middle
            ImageDraw.Draw(frame).text(position, text, _FAINT_TEXT, font, anchor="rm")
        return frame

    return draw


def _curve(recording: Episode, width: int, top: int) -> list[tuple[float, float]]:
    """Points of the reward over the episode, the first of the step after the reset."""
    rewards = [reward for reward in recording.rewards if reward is not None]
    low, high = min([0.0, *rewards]), max([0.0, *rewards])
    across = (width - 1) / max(1, len(rewards) - 1)
    up = (_CURVE_HEIGHT - 2 * _GAP) / ((high - low) or 1.0)
    bottom = top + _CURVE_HEIGHT - _GAP
    return [(i * across, bottom - (reward - low) * up) for i, reward in enumerate(rewards)]


def _write_label(frame: Image.Image, label: Label) -> float:
    """Write a label at the top left, as much of it as there is room for; return where it ends."""
    draw, font, end = ImageDraw.Draw(frame), _font(), float(_GAP)
    for part, colour in label:
        room = frame.width - _GAP - end
        if font.getlength(part) > room:
            while part and font.getlength(part + "…") > room:
                part = part[:-1]
            part += "…"
        draw.text((end, _LABEL_HEIGHT // 2), part, colour, font, anchor="lm")
        end += font.getlength(part)
    return end


@cache
def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(_FONT_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)  # what Pillow's wheels bring
    return font


def _even(size: int) -> int:
    return size + size % 2


def _encode(path: Path, frames: Iterable[Image.Image], fps: float) -> None:
    """Let ffmpeg write frames to ``path``.

    Not by imageio's own writer: it takes no notice when ffmpeg fails, for want of space say.
    """
    frames = iter(frames)
    first = next(frames)
    command = [
        *(_ffmpeg(), "-y", "-loglevel", "error"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{first.width}x{first.height}"),
        *("-framerate", f"{fps:.6g}", "-i", "-"),
        *("-c:v", "libx264", "-crf", "26", "-preset", "veryfast", "-pix_fmt", "yuv420p"),
        *("-movflags", "+faststart"),
        str(path),
    ]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdin is not None
        try:
            for frame in itertools.chain([first], frames):
                process.stdin.write(frame.tobytes())
        except BrokenPipeError:
            pass  # ffmpeg has given up; its log says why
        process.communicate()
        log.seek(0)
        complaint = " ".join(log.read().decode(errors="replace").split())
    if os.strerror(errno.ENOSPC) in complaint:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    if process.returncode != 0:
        raise SkillrlError(f"ffmpeg cannot write {path}: {complaint}")


def _ffmpeg() -> str:
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise SkillrlError(f"There is no ffmpeg to write videos with. {error}") from None


def _palette(frames: Sequence[Image.Image]) -> Image.Image:
    """The colours of some frames, spread over the film."""
    sample = frames[:: math.ceil(len(frames) / 16)]
    strip = Image.new("RGB", (sample[0].width, sample[0].height * len(sample)))
    for number, frame in enumerate(sample):
        strip.paste(frame, (0, number * frame.height))
    # Median cut would spend all colours on the background, and none on a small robot.
    return strip.quantize(_GIF_COLOURS, Image.Quantize.FASTOCTREE)
