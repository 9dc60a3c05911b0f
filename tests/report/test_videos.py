"""Films show what happened: every frame's content, size and time is known beforehand."""

import dataclasses
import errno
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from records import new_record
from skillrl.discovery.descriptors import Descriptors
from skillrl.discovery.library import Skill, load_skill
from skillrl.envs import reward_for
from skillrl.envs.maze import RIGHT
from skillrl.errors import InvalidValueError, SkillrlError
from skillrl.report import videos
from skillrl.report.videos import film, grid, record, write_gif, write_mp4

LABEL, CURVE = 20, 24  # Rows that a label and the curve of the reward take.


class Counter(gym.Env[np.ndarray, np.int64]):
    """Counts its steps, and paints its whole picture in ten times that grey."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gym.spaces.Box(0, 100, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(
        self,
        size: tuple[int, int] = (200, 100),
        length: int = 10,
        fps: float | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode, self.size, self.length = render_mode, size, length
        if fps is not None:
            self.metadata = {**self.metadata, "render_fps": fps}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += int(action)
        observation = np.full(1, self.count, np.float32)
        return observation, 0.0, self.count == self.length, False, {}

    def render(self) -> np.ndarray:
        width, height = self.size
        return np.full((height, width, 3), min(10 * self.count, 255), np.uint8)


class Invisible(Counter):
    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012


class Broken(Counter):
    def render(self) -> np.ndarray:
        raise RuntimeError("no paint")


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    environments: dict[str, Any]
    environments = {"Counter-v0": Counter, "Invisible-v0": Invisible, "Broken-v0": Broken}
    for name, creator in environments.items():
        gym.register(name, creator, disable_env_checker=True)
    gym.register(
        "Limited-v0", lambda **kw: Counter(**kw), disable_env_checker=True, max_episode_steps=40
    )
    yield
    for name in (*environments, "Limited-v0"):
        del gym.registry[name]


def acting(skill: Skill, action: Any) -> Skill:
    """The skill with a policy that always takes the same action."""
    predict = lambda observation, **_: (np.array(action), None)  # noqa: E731
    policy = SimpleNamespace(predict=predict, noiseless=True)
    skill.__dict__["policy"] = policy
    return skill


def make_skill(folder: Path, env: str = "Counter-v0", **env_kwargs: Any) -> Skill:
    """A skill whose policy counts."""
    folder.mkdir(parents=True)
    reward_for(gym.spaces.Box(0, 100, (1,), np.float32)).save(folder / "reward.safetensors")
    record = new_record(int(folder.name), env=env, env_kwargs=env_kwargs)
    return acting(Skill(folder, record), 1)


def grey(image: Image.Image) -> float:
    return float(array(image)[50, 50].mean())


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.int64)


def test_a_recording_shows_the_reset_and_every_step(tiny_run: Path) -> None:
    skill = acting(load_skill(tiny_run / "skills/000"), RIGHT)
    recording = record(skill, steps=12)
    assert recording.fps == 25
    # The agent walks to the right along the first row, one cell of eight pixels a step.
    for step in range(13):
        pixel = array(recording.picture(step))[12, 8 * (1 + step) + 4]
        np.testing.assert_allclose(pixel, [32, 98, 190], atol=12)
    assert len(recording) == 13
    reached = np.array([[1, 2 + step] for step in range(12)])
    assert recording.rewards[0] is None
    np.testing.assert_allclose(
        np.array(recording.rewards[1:], float), skill.reward.reward(reached), rtol=1e-4
    )


def test_a_recording_ends_with_its_episode(tiny_run: Path) -> None:
    assert len(record(acting(load_skill(tiny_run / "skills/000"), RIGHT))) == 51


def test_a_long_episode_is_cut_after_fifteen_seconds(tmp_path: Path) -> None:
    assert len(record(make_skill(tmp_path / "0", fps=2, length=100))) == 31


def test_an_episode_of_few_steps_is_shown_to_its_end(tmp_path: Path) -> None:
    # 20 seconds of it.
    skill = make_skill(tmp_path / "0", "Limited-v0", fps=2, length=100)
    assert len(record(skill)) == 41


def test_fast_environments_are_drawn_at_every_few_steps(tmp_path: Path) -> None:
    recording = record(make_skill(tmp_path / "0", fps=100, length=10))
    # 100 steps a second: every fourth makes 25 pictures; the end is shown in any case.
    assert recording.fps == 25
    greys = [grey(recording.picture(index)) for index in range(len(recording))]
    np.testing.assert_allclose(greys, [0, 40, 80, 100], atol=1)


@pytest.mark.parametrize("fps", [None, 0, "fast", float("nan")])
def test_without_a_usable_rate_thirty_is_taken(fps: Any, tmp_path: Path) -> None:
    assert record(make_skill(tmp_path / "0", fps=fps), steps=1).fps == 30


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((200, 100), (200, 100)),
        ((600, 400), (320, 213)),
        ((40, 30), (320, 240)),
        ((160, 210), (320, 420)),
    ],
)
def test_pictures_are_neither_large_nor_tiny(
    size: tuple[int, int], drawn: tuple[int, int], tmp_path: Path
) -> None:
    recording = record(make_skill(tmp_path / "0", size=size), steps=1)
    assert recording.picture(1).size == drawn
    assert grey(recording.picture(1)) == 10


def test_what_cannot_be_drawn_is_told_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidValueError, match=r"Invisible-v0 cannot be drawn as 'rgb_array'.*ans"
    ):
        record(make_skill(tmp_path / "0", "Invisible-v0"))
    with pytest.raises(InvalidValueError, match=r"cannot be drawn here .RuntimeError: no paint"):
        record(make_skill(tmp_path / "1", "Broken-v0"))


def test_no_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"at least 1\. Received 0"):
        record(make_skill(tmp_path / "0"), steps=0)


@pytest.mark.parametrize(("size", "even"), [((200, 100), (200, 144)), ((201, 121), (202, 166))])
def test_a_film_is_h264_that_browsers_play(
    size: tuple[int, int], even: tuple[int, int], tmp_path: Path, decode: Any
) -> None:
    recording = record(make_skill(tmp_path / "0", size=size, fps=10))
    path = tmp_path / "new" / "film.mp4"
    write_mp4(path, film(recording), recording.fps)
    video = decode(path)
    assert (video.codec, video.pixel_format, video.fps) == ("h264", "yuv420p", 10)
    assert video.frames.shape == (11, even[1], even[0], 3)
    middle = video.frames[:, LABEL + 50, 50].mean(axis=-1)
    np.testing.assert_allclose(middle, 10 * np.arange(11), atol=3)
    # The index stands before the pictures, so that playing begins before the download ends.
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    assert [file.name for file in path.parent.iterdir()] == ["film.mp4"]


def test_a_grid_holds_the_films_side_by_side(tmp_path: Path) -> None:
    recordings = [record(make_skill(tmp_path / f"{i}", length=2 + 2 * i)) for i in range(3)]
    frames = list(grid(recordings))
    films = [list(film(recording)) for recording in recordings]
    assert [len(each) for each in films] == [3, 5, 7]
    assert len(frames) == 7
    corners = [(0, 0), (204, 0), (0, 148)]
    for index, frame in enumerate(frames):
        assert frame.size == (404, 292)
        for (left, top), cell in zip(corners, films, strict=True):
            shown = frame.crop((left, top, left + 200, top + 144))
            last = array(cell[-1])
            if index < len(cell):
                np.testing.assert_array_equal(array(shown), array(cell[index]))
            else:  # The episode has ended: its last picture, darker, below the same label.
                picture = slice(LABEL, LABEL + 100)
                np.testing.assert_allclose(array(shown)[picture], last[picture] / 2, atol=1)
                for same in (slice(0, LABEL), slice(LABEL + 100, None)):
                    np.testing.assert_array_equal(array(shown)[same], last[same])


def test_a_wide_grid_has_smaller_cells(tmp_path: Path) -> None:
    recording = record(make_skill(tmp_path / "0", size=(320, 240)), steps=1)
    sizes = [next(grid([recording] * count)).size for count in (16, 25, 100)]
    # 4 × 317, 5 × 252, and 10 × 160 + 9 × 4: no narrower, for the sake of the labels.
    assert [width for width, _ in sizes] == [4 * 318 + 12, 5 * 252 + 16, 1636]
    small = next(grid([recording] * 4, width=400))
    assert small.size == (2 * 198 + 4, 2 * (148 + LABEL + CURVE) + 4)


def test_labels_tell_skills_apart(tmp_path: Path) -> None:
    def label(folder: str, **changes: Any) -> np.ndarray:
        skill = make_skill(tmp_path / folder)
        skill = acting(Skill(skill.path, dataclasses.replace(skill.record, **changes)), 1)
        return array(next(film(record(skill, steps=1))))

    plain = label("0")
    for number, (name, value) in enumerate({"index": 7, "live": False, "mean_reward": 3}.items()):
        changed = label(f"1{number}", **{name: value})
        assert (changed[:LABEL] != plain[:LABEL]).any()
        np.testing.assert_array_equal(changed[LABEL:], plain[LABEL:])


def test_the_label_says_what_the_body_does_as_far_as_there_is_room(tmp_path: Path) -> None:
    skill = make_skill(tmp_path / "0")
    stays = Descriptors(0.0, 0.0, 0.6, 0.0, 0.0, 0.0, 0.1, {"back": 0.9, "front": 0.9}, 0.1)
    flips = dataclasses.replace(stays, front_somersaults=8.0, forward_velocity=2.5)

    def frame(body: Descriptors, width: int) -> tuple[str, np.ndarray]:
        known = dataclasses.replace(skill.record, descriptors=body)
        recording = record(acting(Skill(skill.path, known), 1), steps=1)
        text = "".join(part for part, _ in recording.label)
        return text, array(next(film(recording, width=width)))[:LABEL]

    text, wide = frame(stays, 400)
    assert text == "skill 0 · stays in place"
    assert frame(flips, 400)[0] == "skill 0 · 8 front flips, forwards 2.5 m/s"
    # Cut at the same letter; nothing is written beyond the picture's margin.
    narrow = frame(flips, 100)[1]
    background = narrow[0, 0]
    assert (narrow[:, -3:] == background).all()
    assert (narrow != background).any() and (wide != background).any()


def test_the_label_shows_the_present_reward(tmp_path: Path) -> None:
    recording = record(make_skill(tmp_path / "0"), steps=2)

    def label(*rewards: float | None) -> list[np.ndarray]:
        shown = dataclasses.replace(recording, rewards=rewards)
        return [array(frame)[:LABEL] for frame in film(shown)]

    without, low, high = label(None, 1.0, 2.0)
    assert (low != high).any()
    assert (low[:, :120] == high[:, :120]).all()
    assert (without[:, 160:] == without[0, -1]).all()


def test_the_reward_so_far_is_drawn_below_the_picture(tmp_path: Path) -> None:
    recording = record(make_skill(tmp_path / "0", length=4), steps=4)
    shown = dataclasses.replace(recording, rewards=(None, 0.0, 1.0, 1.0, 0.5))
    below = [array(frame)[-CURVE:].max(axis=-1) for frame in film(shown)]
    # All of the curve is there from the beginning, and brighter where it has come to.
    bright = [strip.max() > 200 for strip in below]
    assert bright == [False, False, True, True, True]
    for strip, reached in zip(below[2:], (1 / 3, 2 / 3, 1.0), strict=True):
        columns = np.flatnonzero((strip > 200).any(axis=0))
        assert columns.max() == pytest.approx(199 * reached, abs=1)
    # It rises from the lowest row to the highest, stays there, and ends half way.
    rows = [np.flatnonzero(below[-1][:, column] > 200).mean() for column in (0, 70, 130, 199)]
    assert rows[0] > rows[3] > rows[1] == pytest.approx(rows[2], abs=0.6)
    assert rows[3] == pytest.approx((rows[0] + rows[1]) / 2, abs=1)


def test_a_gif_is_reduced(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    recording = record(make_skill(tmp_path / "0", fps=30, length=20))
    write_gif(path, film(recording), recording.fps)
    with Image.open(path) as image:
        assert (image.format, image.info["loop"]) == ("GIF", 0)
        assert image.n_frames == 11  # type: ignore[attr-defined]
        greys = []
        seconds = 0.0
        for index in range(11):
            image.seek(index)
            assert image.size == (200, 144)
            # 15 frames a second, in the hundredths of a second that the format has.
            assert image.info["duration"] in (60, 70)
            seconds += image.info["duration"] / 1000
            assert len(image.convert("RGB").getcolors() or [0] * 999) <= 64
            greys.append(grey(image))
    np.testing.assert_allclose(greys, np.arange(0, 201, 20), atol=6)
    assert seconds == pytest.approx(11 / 15, abs=0.01)


@pytest.mark.parametrize(
    ("complaint", "error"),
    [("x.mp4: No space left on device", OSError), ("Unknown encoder", SkillrlError)],
)
def test_a_failure_of_ffmpeg_leaves_nothing_behind(
    complaint: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\necho '{complaint}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(videos, "_ffmpeg", lambda: str(program))
    frames = [Image.new("RGB", (640, 480))] * 5
    folder = tmp_path / "videos"
    with pytest.raises(error) as failure:
        write_mp4(folder / "film.mp4", frames, 10)
    if error is OSError:
        assert isinstance(failure.value, OSError)
        assert failure.value.errno == errno.ENOSPC
    else:
        assert complaint in str(failure.value)
    assert list(folder.iterdir()) == []
