import dataclasses
import io
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

from skillrl import cli
from skillrl.commands import discover as command
from skillrl.commands.discover import Status, command_to_look, discover, resume_command
from skillrl.discovery import run as runs
from skillrl.discovery.events import (
    Preparing,
    RewardFitted,
    RunStarted,
    SkillFinished,
    Trained,
)
from skillrl.discovery.library import SkillLibrary, load_skill
from skillrl.discovery.memory import Memory
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.settings import Recipe
from skillrl.errors import InvalidValueError, RunStopped
from skillrl.rewards import Separation

SEPARATION = Separation(loss=0.0, positives=1.0, negatives=0.0, archive=0.0)


def weights(run: Path) -> dict[str, bytes]:
    """What the run has learnt."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.glob("skills/*/*.safe*")}


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_discovers_and_tells_of_every_skill(
    tiny_run: Path, tiny_recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert discover(tiny_recipe, run=run, seed=1) == run
    assert weights(run) == weights(tiny_run)
    out, err = capfd.readouterr()
    assert out == ""
    memory, *lines = err.splitlines()
    assert memory.startswith("memory at most: rollouts 1 MiB, archive 1 MiB when full, samples")
    assert [line.split(":")[0] for line in lines] == [
        *("skill 0", "skill 0 is not live", "skill 1", "skill 1 is not live")
    ]
    assert "its reward pays" in lines[0]
    assert "512 steps in 0:00:" in lines[1]


def test_of_skills_learnt_together_it_tells_what_they_do_alone(tiny_run: Path) -> None:
    skill = load_skill(tiny_run / "skills/000")
    record = dataclasses.replace(skill.record, live=None, steps=512, seconds=3.0)
    line = command.finished(SkillFinished(dataclasses.replace(skill, record=record)))
    assert line == "skill 0: 512 steps in 0:00:03"


def test_the_default_folder_names_environment_and_seed(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {}
    monkeypatch.setattr(runs, "discover", lambda recipe, run, **rest: given.update(run=run, **rest))
    assert discover(tiny_recipe, seed=5) == Path("runs/maze2d-v0-seed5") == given["run"]
    assert (given["seed"], given["resume"]) == (5, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_and_the_command_it_prints_goes_on(
    tiny_run: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    run = tmp_path / "my run"
    usual = signal.getsignal(number)
    after = Status.after

    def interrupted(status: Status, event: Any, now: float) -> str:
        # In the middle of the second skill.
        if isinstance(event, Trained) and (event.generation, event.steps) == (1, 256):
            interrupt(number)
        return after(status, event, now)

    monkeypatch.setattr(Status, "after", interrupted)
    with pytest.raises(RunStopped) as stopped:
        discover(tiny_recipe, run=run, seed=1)
    assert signal.getsignal(number) is usual
    assert "Ctrl-C again" in capfd.readouterr().err
    assert len(SkillLibrary(run)) == 1
    monkeypatch.setattr(Status, "after", after)

    found = re.fullmatch("Stopped; nothing is lost. Go on with: skillrl (.*)", str(stopped.value))
    assert found is not None
    # Recipe and seed come from the run, as from a new terminal.
    assert cli.main(shlex.split(found[1])) == 0
    assert weights(run) == weights(tiny_run)


def stop_when_asked(*, interrupts: int, trained: bool = True) -> Callable[..., None]:
    def discover(*_: Any, should_stop: Callable[[], bool], **__: Any) -> None:
        assert not should_stop()
        for _number in range(interrupts):
            interrupt()
        assert should_stop()
        raise RunStopped("Stopped.", trained=trained)

    return discover


def test_a_second_ctrl_c_ends_the_run_at_once(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "discover", stop_when_asked(interrupts=2))
    with pytest.raises(KeyboardInterrupt, match=r"Ended at once\. Go on with: skillrl discover"):
        discover(tiny_recipe, run=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_lost_is_told(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This one writes no checkpoint.
    monkeypatch.setattr(runs, "discover", stop_when_asked(interrupts=1))
    with pytest.raises(RunStopped, match=r"environment cannot save.* Go on with: skillrl discover"):
        discover(tiny_recipe, run=tmp_path / "run")
    sac = dataclasses.replace(Recipe("Pendulum-v1"), algorithm="sac")
    with pytest.raises(RunStopped, match="will be trained again, because the replay buffer is"):
        discover(sac, run=tmp_path / "run")
    monkeypatch.setattr(runs, "discover", stop_when_asked(interrupts=1, trained=False))
    with pytest.raises(RunStopped, match=r"Stopped; nothing is lost\. Go on with"):
        discover(sac, run=tmp_path / "run")


def test_generic_settings_are_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(runs, "discover", lambda *_, **__: None)
    discover(Recipe("CartPole-v1"), run=tmp_path / "run")
    assert "CartPole-v1 has no recipe of its own" in capfd.readouterr().err
    discover(Recipe("ALE/Pong-v5"), run=tmp_path / "run")
    assert "skillrl/Pong-v5 has one" in capfd.readouterr().err
    with pytest.raises(InvalidValueError, match=r"Did you mean .*skillrl/Earthworld"):
        discover(Recipe("Earthworld"), run=tmp_path / "run")
    assert "no recipe" not in capfd.readouterr().err
    discover(recipe_for("Ant-v5"), run=tmp_path / "run")
    assert "no recipe" not in capfd.readouterr().err


def test_a_program_that_ignores_ctrl_c_goes_on_doing_so(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ignoring(*_: Any, should_stop: Callable[[], bool], **__: Any) -> None:
        interrupt()
        assert not should_stop()

    monkeypatch.setattr(runs, "discover", ignoring)
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        discover(tiny_recipe, run=tmp_path / "run")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, usual)


def test_a_run_that_exists_is_not_overwritten(tiny_run: Path, tiny_recipe: Recipe) -> None:
    before = weights(tiny_run)
    with pytest.raises(InvalidValueError, match=r"exists.*--resume"):
        discover(tiny_recipe, run=tiny_run)
    assert weights(tiny_run) == before


def test_an_unknown_environment_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="Did you mean 'HalfCheetah-v5'"):
        discover(recipe_for("HalfCheeta-v5"), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_resume_command_imports_the_users_package(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvSpec("Robot-v0", entry_point="my_robots.envs:Robot")
    monkeypatch.setitem(gym.registry, "Robot-v0", spec)
    expected = "skillrl discover Robot-v0 --run r --resume --generations 3 --import my_robots"
    assert resume_command(Recipe("Robot-v0", generations=3), Path("r")) == expected


def test_the_device_is_checked_and_goes_on_in_the_command_that_resumes(tmp_path: Path) -> None:
    recipe = Recipe("Ant-v5", generations=3)
    again = "skillrl discover Ant-v5 --run r --resume --generations 3 --device cuda"
    assert resume_command(recipe, Path("r"), "cuda") == again
    with pytest.raises(InvalidValueError, match="There is no device 'abacus'"):
        discover(recipe, run=tmp_path / "run", device="abacus")
    others = (
        dataclasses.replace(recipe, algorithm="sac"),
        dataclasses.replace(recipe, method="metra"),
    )
    for other in others:
        with pytest.raises(InvalidValueError, match=r"on the CPU alone; .* the device 'meta'"):
            discover(other, run=tmp_path / "run", device="meta")
    assert not (tmp_path / "run").exists()


def test_status_tells_speed_and_time_left() -> None:
    recipe = dataclasses.replace(Recipe("X-v0", generations=2), steps_per_skill=1000)
    status = Status(recipe, now=100.0)
    line = status.after(RewardFitted(0, SEPARATION, 0.1), 110.0)
    assert line == "skill 0 (1 of 2): 0 of 1,000 steps, reward 0.1 of 5"
    # 100 steps in two seconds; 1900 to go, of which one takes 12 s / 100.
    line = status.after(Trained(0, 100, 1.25), 112.0)
    assert line == (
        "skill 0 (1 of 2): 100 of 1,000 steps, reward 1.25 of 5, 50 steps/s, 0:03:48 left"
    )
    # Fitting the next reward takes time, but is not counted in the speed.
    assert "steps/s" not in status.after(RewardFitted(1, SEPARATION, 0.2), 200.0)
    line = status.after(Trained(1, 400, 2.0), 204.0)
    # 104 s for 1400 steps, and 600 to go.
    assert line == (
        "skill 1 (2 of 2): 400 of 1,000 steps, reward 2 of 5, 100 steps/s, 0:00:45 left"
    )
    # Rollouts may go beyond the end.
    assert "1,000 of 1,000 steps" in status.after(Trained(1, 1024, 2.0), 210.0)


def test_status_of_a_resumed_run_counts_from_where_it_began() -> None:
    recipe = dataclasses.replace(Recipe("X-v0", generations=2), steps_per_skill=1000)
    status = Status(recipe, now=0.0)
    assert "left" not in status.after(Trained(1, 500, 1.0), 5.0)
    # 100 steps in ten seconds, and 400 to go.
    assert status.after(Trained(1, 600, 1.0), 10.0).endswith("20 steps/s, 0:00:40 left")


def test_without_a_terminal_a_line_is_printed_every_half_minute(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    on_event = command._lines(tiny_recipe)
    for second in range(0, 100, 5):
        now = float(second)
        on_event(Trained(0, second, 1.0))
    steps = re.findall(r"(\d+) of 512 steps", capsys.readouterr().err)
    assert steps == ["30", "60", "90"]
    # What is prepared is told as rarely.
    now = 100.0
    on_event(Preparing(1, "gathering samples"))
    now = 150.0
    on_event(Preparing(1, "fitting its reward"))
    assert capsys.readouterr().err == "skill 1: fitting its reward\n"


def test_every_reward_is_reported_before_training(
    tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    on_event = command._lines(tiny_recipe)
    on_event(RewardFitted(3, Separation(4.0, positives=0.97, negatives=0.02, archive=0.05), 0.01))
    # Wanted states that are not paid make a fit as unclear as old ones that are.
    on_event(RewardFitted(3, Separation(20.0, 0.5, negatives=0.02, archive=None), 0.0, attempt=1))
    on_event(RewardFitted(4, Separation(20.0, 0.9, negatives=0.02, archive=0.4), 0.0))
    on_event(RewardFitted(5, None, 0.02))
    assert capsys.readouterr().err.splitlines() == [
        "skill 3: its reward pays 97% of the states that it asks for and 5% of earlier ones; "
        "the fresh agent meets 0.01 of 0.05",
        "skill 3, attempt 2: its reward pays 50% of the states that it asks for and 2% of earlier "
        "ones, and could not be fitted more clearly; the fresh agent meets 0 of 0.05",
        "skill 4: its reward pays 90% of the states that it asks for and 40% of earlier ones, and "
        "could not be fitted more clearly; the fresh agent meets 0 of 0.05",
        "skill 5: its reward was drawn at random; the fresh agent meets 0.02 of 0.05",
    ]


def test_skills_that_are_learnt_together_have_their_steps_in_common(tiny_recipe: Recipe) -> None:
    recipe = dataclasses.replace(tiny_recipe, generations=4, steps_per_skill=1_000)
    status = command.Status(recipe, now=0.0)
    status.after(Trained(None, 500, 0.1), now=5.0)
    line = status.after(Trained(None, 1_500, 0.25), now=10.0)
    assert line.startswith("4 skills together: 1,500 of 4,000 steps, reward 0.25 of")
    assert line.endswith("200 steps/s, 0:00:25 left")


def test_a_terminal_gets_a_bar_and_the_finished_skills_above_it(
    tiny_run: Path, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with command._show(tiny_recipe, progress=True) as on_event:
        on_event(RunStarted(Memory(rollouts=2**20, archive=0, samples=2**22, starts=0)))
        on_event(Preparing(0, "fitting its reward"))
        on_event(RewardFitted(0, SEPARATION, 0.0))
        on_event(Trained(0, 256, 0.02))
        on_event(SkillFinished(load_skill(tiny_run / "skills/000")))
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "memory at most: rollouts 1 MiB, samples 4 MiB" in shown
    assert "beginning" in shown
    assert "━" in shown
    assert "skill 0 is not live: reward" in shown


def test_progress_can_be_switched_off(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with command._show(tiny_recipe, progress=False) as on_event:
        on_event(Trained(0, 1, 1.0))
    assert capfd.readouterr() == ("", "")


def test_the_command_to_look_imports_the_users_package(monkeypatch: pytest.MonkeyPatch) -> None:
    robots = ModuleType("my_robots")
    robots.Robot = type("Robot", (), {"metadata": {"render_modes": ["rgb_array"]}})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_robots", robots)
    spec = EnvSpec("Robot-v0", entry_point="my_robots:Robot")
    monkeypatch.setitem(gym.registry, "Robot-v0", spec)
    expected = "skillrl render 'my run' --import my_robots"
    assert command_to_look(Recipe("Robot-v0"), Path("my run")) == expected


def test_what_cannot_be_drawn_is_listed() -> None:
    # It has no render modes.
    assert command_to_look(Recipe("skillrl/RepeatPrevious-v0"), Path("run")) == "skillrl list run"
