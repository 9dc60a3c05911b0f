import csv
import dataclasses
import io
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from filelock import FileLock
from gymnasium.envs.registration import EnvSpec

from echo import Echo
from skillrl import cli
from skillrl.agents.recipes import TrainRecipe
from skillrl.agents.training import Evaluation, Status, read_evaluations
from skillrl.cli.agents import Train
from skillrl.commands import train as command
from skillrl.commands.train import (
    Lines,
    Outcome,
    default_run,
    read_recipe,
    resume_command,
    summary,
    train,
)
from skillrl.envs import PreviousActionReward
from skillrl.errors import DamagedFileError, InvalidValueError, RunStopped

RECIPE = TrainRecipe(
    *("Echo-v0", "recurrent-ppo"),
    timesteps=64,
    n_envs=2,
    eval_every=1_000,
    eval_episodes=2,
    agent_kwargs={"n_steps": 8, "batch_size": 16, "chunk": 8, "n_epochs": 1},
    policy_kwargs={"state_size": 4, "encoder": [8], "net_arch": [8]},
)


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    gym.register("Echo-v0", "echo:Echo", disable_env_checker=True)
    yield
    del gym.registry["Echo-v0"]


def test_every_seed_has_a_folder(
    tmp_path: Path, decode: Callable[[Path], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    outcomes = train(RECIPE, run=run, seeds=2)
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["seed 0, 64 steps", "seed 1, 64 steps"]
    assert all(line.endswith("without noise in 2 episode(s)") for line in lines)

    assert {path.name for path in run.iterdir()} - {".lock"} == {
        *("train.json", "seed-000", "seed-001")
    }
    assert read_recipe(run) == (RECIPE, 2)
    content = json.loads((run / "train.json").read_text())
    assert {"versions", "machine"} <= content.keys()
    for seed, outcome in enumerate(outcomes):
        folder = run / f"seed-{seed:03d}"
        assert (outcome.seed, outcome.folder) == (seed, folder)
        assert [outcome.last] == read_evaluations(folder) == [outcome.best]
        names = {path.name for path in folder.iterdir() if not path.name.startswith("events.")}
        assert names == {
            *("agent.zip", "best.zip", "evaluations.json", "progress.csv", "video.mp4")
        }
        assert len([*folder.glob("events.*")]) == 1
        with (folder / "progress.csv").open(newline="") as file:
            rows = [*csv.DictReader(file)]
        # Four rollouts of 16 steps, and the evaluation at the end.
        assert [row["time/total_timesteps"] for row in rows] == ["16", "32", "48", "64", "64"]
        assert float(rows[-1]["eval/mean_reward"]) == pytest.approx(outcome.last.mean)
        assert all(row["rollout/ep_len_mean"] == "5.0" for row in rows[:-1])
        # The picture of the reset, and of the five steps.
        assert len(decode(folder / "video.mp4").frames) == 6
    # Seeds differ.
    assert outcomes[0].last.returns != outcomes[1].last.returns


def test_one_seed_gives_one_agent(tmp_path: Path) -> None:
    once, again = (
        train(RECIPE, run=tmp_path / name, progress=False)[0].last for name in ("a", "b")
    )
    assert once == again


def test_an_environment_that_cannot_be_drawn_is_trained_in_all_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(RECIPE, env_kwargs={"paint": False})
    (outcome,) = train(recipe, run=tmp_path / "run", progress=False)
    assert (outcome.folder / "agent.zip").exists()
    assert not (outcome.folder / "video.mp4").exists()
    err = capfd.readouterr().err
    assert re.fullmatch(r"There is no video of seed 0: .*no paint.*\n", err)


def test_memory_is_told_before_the_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = {"buffer_size": 200_000, "learning_starts": 1_000}
    recipe = TrainRecipe("Pendulum-v1", "sac", 8, n_envs=1, agent_kwargs=arguments)
    train(recipe, run=tmp_path / "run")
    # 40 bytes a transition are 7.6 MiB.
    assert capfd.readouterr().err.splitlines()[0] == "memory at most: replay buffer 8 MiB"


def test_a_missing_video_is_made_up_for(tmp_path: Path) -> None:
    (outcome,) = train(RECIPE, run=tmp_path / "run", progress=False)
    video = outcome.folder / "video.mp4"
    video.unlink()
    train(RECIPE, run=tmp_path / "run", resume=True, progress=False)
    made = video.stat().st_mtime_ns
    train(RECIPE, run=tmp_path / "run", resume=True, progress=False)
    assert video.stat().st_mtime_ns == made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_and_the_command_it_prints_goes_on(
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "my run"
    news = Lines.news

    def interrupted(lines: Lines, seed: int, status: Status) -> str | None:
        # In the middle of the second seed.
        if (seed, status.steps) == (1, 32):
            os.kill(os.getpid(), number)
        return news(lines, seed, status)

    monkeypatch.setattr(Lines, "news", interrupted)
    with pytest.raises(RunStopped) as stopped:
        train(RECIPE, run=run, seeds=2)
    assert "Ctrl-C again" in capfd.readouterr().err
    assert (run / "seed-001/checkpoint.zip").exists()
    first = (run / "seed-000/agent.zip").read_bytes()
    monkeypatch.setattr(Lines, "news", news)

    found = re.fullmatch(
        "Stopped; the checkpoint holds parameters and optimisers. Go on with: skillrl (.*)",
        str(stopped.value),
    )
    assert found is not None
    # Recipe and number of seeds come from the run, as from a new terminal.
    assert cli.main(shlex.split(found[1])) == 0
    out = capfd.readouterr().out
    assert len(re.findall(r"agent\.zip$", out, re.MULTILINE)) == 2
    assert not (run / "seed-001/checkpoint.zip").exists()
    assert [each.steps for each in read_evaluations(run / "seed-001")] == [64]
    # What was finished stays as it was.
    assert (run / "seed-000/agent.zip").read_bytes() == first
    with (run / "seed-001/progress.csv").open(newline="") as file:
        steps = [int(row["time/total_timesteps"]) for row in csv.DictReader(file)]
    assert steps == sorted(steps)
    assert steps[-1] == 64


def test_a_second_ctrl_c_ends_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(lines: Lines, seed: int, status: Status) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Lines, "news", twice)
    with pytest.raises(KeyboardInterrupt, match=r"Ended at once\. Go on with: skillrl train"):
        train(RECIPE, run=tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_sac_does_not_keep_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dataclasses.replace(
        RECIPE, agent="sac", agent_kwargs={"buffer_size": 100}, policy_kwargs={}
    )

    def stop(*_: Any, **__: Any) -> None:
        raise RunStopped("Stopped.")

    monkeypatch.setattr(command, "_train_seed", stop)
    with pytest.raises(RunStopped, match="but not its replay buffer"):
        train(recipe, run=tmp_path / "run")


def test_a_finished_run_takes_more_steps_and_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(RECIPE, run=run, progress=False)
    more = ["train", "Echo-v0", "--run", str(run), "--resume", "--timesteps", "96", "--seeds", "2"]
    assert cli.main(more) == 0
    assert read_recipe(run) == (dataclasses.replace(RECIPE, timesteps=96), 2)
    assert [each.steps for each in read_evaluations(run / "seed-000")] == [64, 96]
    assert [each.steps for each in read_evaluations(run / "seed-001")] == [96]
    # Nothing is left to do, and fewer seeds take none away.
    capsys.readouterr()
    assert cli.main([*more[:5]]) == 0
    assert "of 2 seed(s)" in capsys.readouterr().out


def test_resume_refuses_other_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train(RECIPE, run=run, progress=False)
    line = ["train", "Echo-v0", "--run", str(run), "--resume"]
    assert cli.main([*line, "--agent", "ppo", "--normalize"]) == 1
    message = capsys.readouterr().err
    assert "agent recurrent-ppo there and ppo here" in message
    assert "normalize False there and True here" in message


def test_the_same_line_goes_on_with_flags_in_it(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    recipe = dataclasses.replace(RECIPE, env_kwargs={"paint": False}, normalize=True)
    train(recipe, run=tmp_path / "run", progress=False)
    line = ["train", "Echo-v0", "--normalize", "--no-mask-velocity", "--run", run, "--resume"]
    assert cli.main(line) == 0


def test_a_run_without_settings_that_came_later_has_their_defaults(tmp_path: Path) -> None:
    recipe = dataclasses.asdict(RECIPE)
    del recipe["previous_action_reward"]
    (tmp_path / "train.json").write_text(json.dumps({"format": 1, "recipe": recipe, "seeds": 1}))
    assert read_recipe(tmp_path) == (RECIPE, 1)


def test_arguments_that_are_not_for_the_environment_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="env_kwargs cannot hold num_envs"):
        dataclasses.replace(RECIPE, env_kwargs={"num_envs": 3})


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    train(RECIPE, run=tmp_path / "run", progress=False)
    with pytest.raises(InvalidValueError, match=r"run exists\..*--resume"):
        train(RECIPE, run=tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("all")
    for resume in (False, True):
        with pytest.raises(InvalidValueError, match="other exists and holds no training"):
            train(RECIPE, run=tmp_path / "other", resume=resume)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def test_a_mistake_leaves_no_folder(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [{"env": "Eco-v0"}, {"agent_kwargs": {"chunk": 3}}]
    for changes in wrong:
        with pytest.raises(InvalidValueError):
            train(dataclasses.replace(RECIPE, **changes), run=tmp_path / "run")
    with pytest.raises(InvalidValueError, match="seeds should be at least 1"):
        train(RECIPE, run=tmp_path / "run", seeds=0)
    assert [*tmp_path.iterdir()] == []


def test_a_misspelt_environment_is_named_though_its_folder_exists(tmp_path: Path) -> None:
    train(RECIPE, run=tmp_path / "run", progress=False)
    for resume in (False, True):
        with pytest.raises(InvalidValueError, match="Did you mean 'Echo-v0'"):
            train(dataclasses.replace(RECIPE, env="echo-v0"), run=tmp_path / "run", resume=resume)


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(RECIPE, run=run, progress=False)
    with FileLock(run / ".lock"), pytest.raises(InvalidValueError, match="Another process"):
        train(dataclasses.replace(RECIPE, timesteps=96), run=run, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2"),
        ({"recipe": {}}, r"train\.json is damaged.*env"),
        ({"recipe": {**dataclasses.asdict(RECIPE), "n_envs": 0}}, r"train\.json is damaged"),
        ({"seeds": None}, r"train\.json is damaged"),
    ],
)
def test_a_damaged_recipe_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = {"format": 1, "recipe": dataclasses.asdict(RECIPE), "seeds": 1, **changes}
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFileError, match=message):
        read_recipe(tmp_path)


def test_arguments_become_the_recipe() -> None:
    line = [
        *("Echo-v0", "--agent", "recurrent-ppo", "--timesteps", "64", "--n-envs", "2"),
        *("--eval-every", "1_000", "--eval-episodes", "2", "--seeds", "4", "--run", "runs/x"),
        *("--agent-kwargs", json.dumps(RECIPE.agent_kwargs), "--import", "echo"),
        *("--policy-kwargs", json.dumps(RECIPE.policy_kwargs)),
    ]
    parsed = Train.parse(line)
    assert parsed.recipe.recipe() == RECIPE
    told = Train.parse([*line, "--previous-action-reward"]).recipe.recipe()
    assert told == dataclasses.replace(RECIPE, previous_action_reward=True)
    assert type(parsed.recipe.recipe()) is TrainRecipe
    assert (parsed.seeds, parsed.run, parsed.resume) == (4, Path("runs/x"), False)
    assert parsed.imports == ("echo",)
    plain = Train.parse(["Echo-v0"])
    assert plain.recipe.recipe() == TrainRecipe("Echo-v0")
    assert default_run(plain.recipe) == Path("runs/echo-v0-recurrent-ppo")


def test_the_resume_command_imports_the_users_package(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvSpec("Robot-v0", entry_point="my_robots.envs:Robot")
    monkeypatch.setitem(gym.registry, "Robot-v0", spec)
    expected = "skillrl train Robot-v0 --run r --resume --import my_robots"
    assert resume_command(TrainRecipe("Robot-v0"), Path("r")) == expected


def outcome(seed: int, last: float, best: float) -> Outcome:
    return Outcome(
        *(seed, Path(f"runs/x/seed-{seed:03d}")),
        Evaluation(20_000, [last - 1, last + 1], [5, 5]),
        Evaluation(15_000, [best], [5]),
    )


def test_the_table_has_returns_and_their_mean() -> None:
    # Without the least and the most: 2 and 4.
    text = summary([outcome(seed, last, 100.0) for seed, last in enumerate([4.0, -50, 2, 1000])])
    lines = text.splitlines()
    assert lines[0].split() == ["seed", "return", "best", "at", "step", "agent"]
    assert lines[4].split() == ["3", "1000", "100", "15,000", "runs/x/seed-003/agent.zip"]
    assert lines[5] == "inter-quartile mean of 4 seed(s), without noise: 3"
    few = summary([outcome(0, 1.0, 1.0), outcome(1, 4.0, 4.0)])
    assert few.endswith("\nmean of 2 seed(s), without noise: 2.5")


def test_lines_tell_speed_and_time_left() -> None:
    recipe = dataclasses.replace(RECIPE, timesteps=1_000)
    lines = Lines(recipe, seeds=2, now=100.0)
    assert lines.present(0, Status(0, None, None), 100.0) == "seed 0 (1 of 2): 0 of 1,000 steps"
    # 100 steps in two seconds; 1,900 to go.
    assert lines.present(0, Status(100, 12.345, None), 102.0) == (
        "seed 0 (1 of 2): 100 of 1,000 steps, return 12.35, 50 steps/s, 0:00:38 left"
    )
    # The last rollout goes beyond the end, where the next seed begins.
    assert "1,000 of 1,000 steps" in lines.present(0, Status(1_024, 1.0, None), 110.0)
    assert lines.present(1, Status(500, 1.0, None), 115.0).endswith(", 0:00:05 left")


def test_evaluations_are_told_of_once() -> None:
    lines, evaluation = Lines(RECIPE, 1, 0.0), Evaluation(32, [1.0, 2.0], [5, 5])
    assert lines.news(0, Status(0, None, None)) is None
    expected = "seed 0, 32 steps: return 1.5 without noise in 2 episode(s)"
    assert lines.news(0, Status(32, None, evaluation)) == expected
    assert lines.news(0, Status(48, None, evaluation)) is None


def test_without_a_terminal_a_line_is_printed_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    on_status = command._lines(Lines(RECIPE, 1, 0.0))
    for second in range(0, 64, 4):
        now = float(second)
        on_status(0, Status(second, None, None))
    steps = re.findall(r"(\d+) of 64 steps", capsys.readouterr().err)
    assert steps == ["32"]


def test_a_terminal_gets_a_bar_and_the_evaluations_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with command._show(RECIPE, 1, progress=True) as on_status:
        on_status(0, Status(16, 1.0, None))
        on_status(0, Status(32, 1.0, Evaluation(32, [1.0], [5])))
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "━" in shown
    assert "seed 0, 32 steps: return 1 without noise" in shown


def test_a_filmed_agent_sees_what_it_was_trained_on(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Agent:
        def predict(self, observation: Any, **_: Any) -> Any:
            seen.append(observation)
            return Echo.action_space.sample(), None

    class Fake:
        recipe = RECIPE
        seed, steps, folder = 0, 64, tmp_path
        agent = Agent()
        env: Any = Echo()

        def normalizer(self) -> Any:
            return lambda observation: observation - 100

    fake: Any = Fake()
    command._film(fake)
    assert (tmp_path / "video.mp4").exists()
    # Echo counts from 100.
    assert [observation[0] for observation in seen] == [0, 1, 2, 3, 4]

    class Told(Fake):
        recipe = dataclasses.replace(RECIPE, previous_action_reward=True)
        env = PreviousActionReward(Echo())

        def normalizer(self) -> Any:
            return None

    seen.clear()
    told: Any = Told()
    command._film(told)
    # The action that Echo pays, and what it paid.
    assert [observation[2:].any() for observation in seen] == [False] + [True] * 4
    assert all(observation[2] == observation[3] for observation in seen)
