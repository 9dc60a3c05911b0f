"""The command line: quick help, one clear line an error, honest exit codes."""

import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from skillrl import __version__, cli
from skillrl.cli.discovery import Discover
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.settings import Recipe
from skillrl.errors import DamagedFileError, RunStopped, SkillrlError


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skillrl.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Failing:
    """A verb that raises what it is given."""

    error: BaseException

    def parse(self, arguments: object) -> "Failing":
        return self

    def execute(self) -> None:
        raise self.error


def fail(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str, verb: str = "list"
) -> int:
    monkeypatch.setitem(cli.VERBS, verb, Failing(error))
    return cli.main([verb, *arguments])


def processor_seconds(*command: str) -> float:
    """Processor time of a command: other tests keep the cores busy meanwhile."""
    before = os.times()
    subprocess.run([sys.executable, *command], capture_output=True, check=True)
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


@pytest.mark.parametrize("arguments", [["--help"], ["discover", "HalfCheetah-v5", "--help"]])
def test_help_answers_within_a_second(arguments: list[str]) -> None:
    for _ in range(5):
        seconds = processor_seconds("-m", "skillrl.cli", *arguments)
        # On a slow machine a second is not enough for what is not ours.
        if seconds < max(1, 3 * processor_seconds("-c", "import gymnasium")):
            return
    pytest.fail(f"{seconds:.2f} s")


def test_help_loads_nothing_heavy() -> None:
    loaded = [
        line.split("|")[-1].strip()
        for verb in cli.VERBS
        for line in subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "skillrl.cli", verb, "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stderr.splitlines()
    ]
    assert "gymnasium" in loaded
    assert {"torch", "mujoco", "stable_baselines3", "imageio", "scipy"}.isdisjoint(loaded)


def test_usage_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    usage = capsys.readouterr().out
    assert all(f"\n  {verb} " in usage for verb in cli.VERBS)
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == usage


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"skillrl {__version__}\n"


def test_help_shows_the_recipe_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for env in ("HalfCheetah-v5", "skillrl/Maze2D-v0"):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["discover", env, "--help"])
        shown[env] = " ".join(capsys.readouterr().out.replace("│", "").split())
        assert f"Skills to discover. (default: {recipe_for(env).generations})" in shown[env]
    assert shown["HalfCheetah-v5"] != shown["skillrl/Maze2D-v0"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["skillrl/Maze2D-v0", "--seed", "3", "--agent.learning-rate", "1e-4"],
        ["--seed", "3", "skillrl/Maze2D-v0", "--agent.learning-rate", "1e-4"],
    ],
)
def test_discover_changes_only_what_is_given(arguments: list[str]) -> None:
    parsed = Discover.parse(arguments)
    recipe = parsed.recipe.recipe()
    maze = recipe_for("skillrl/Maze2D-v0")
    assert type(recipe) is Recipe
    assert recipe.agent.learning_rate == 1e-4 != maze.agent.learning_rate
    assert (recipe.reward, recipe.samples, recipe.guide) == (maze.reward, maze.samples, maze.guide)
    assert (recipe.env, recipe.generations) == (maze.env, maze.generations)
    assert (parsed.seed, parsed.run, parsed.resume, parsed.imports) == (3, None, False, ())


@pytest.mark.parametrize("name", ["montezuma", "MontezumaRevenge-v5"])
def test_discover_takes_an_environment_by_its_short_name(name: str) -> None:
    parsed = Discover.parse([name, "--generations", "3"])
    montezuma = recipe_for("skillrl/MontezumaRevenge-v5")
    assert parsed.recipe.recipe() == dataclasses.replace(montezuma, generations=3)


def test_resume_keeps_the_runs_settings_but_for_what_is_given(
    tiny_run: Path, tiny_recipe: Recipe
) -> None:
    again = [tiny_recipe.env, "--run", str(tiny_run), "--resume"]
    parsed = Discover.parse(again)
    assert parsed.recipe.recipe() == tiny_recipe
    assert parsed.seed == 1
    changed = Discover.parse([*again, "--generations", "7", "--seed", "2"])
    assert changed.recipe.recipe() == dataclasses.replace(tiny_recipe, generations=7)
    assert changed.seed == 2
    # Elsewhere there is nothing to resume.
    parsed = Discover.parse([tiny_recipe.env, "--run", "elsewhere", "--resume"])
    assert parsed.recipe.recipe() == recipe_for(tiny_recipe.env)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--agent.gamma", "0.5"], r"agent\.gamma 0\.99 there and 0\.5 here"),
        (["--seed", "2"], "seed 1 there and 2 here"),
    ],
)
def test_resume_refuses_other_settings(
    changes: list[str], message: str, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["discover", "skillrl/Maze2D-v0", "--run", str(tiny_run), "--resume", *changes]
    assert cli.main(line) == 1
    assert re.search(message, capsys.readouterr().err)


def test_discover_reads_json_folders_and_packages() -> None:
    arguments = ["--env-kwargs", '{"a": [1]}', "--run", "runs/x", "--resume", "--import", "one"]
    more = ["--import", "two", "--steps-per-skill", "300_000"]
    parsed = Discover.parse(["Foo-v0", *arguments, *more])
    assert parsed.recipe.env_kwargs == {"a": [1]}
    assert parsed.recipe.steps_per_skill == 300_000
    assert (parsed.run, parsed.resume, parsed.imports) == (Path("runs/x"), True, ("one", "two"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["discover"],
        ["discover", "Foo-v0", "--env-kwargs", "[1]"],
        ["discover", "Foo-v0", "--generations", "many"],
        ["render"],
        ["info", "extra"],
        ["train", "Foo-v0", "--agent", "dqn"],
        ["train", "Foo-v0", "--agent-kwargs", "[1]"],
        ["export"],
    ],
)
def test_mistaken_arguments_exit_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert f"skillrl {arguments[0]} --help" in capsys.readouterr().err


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rendr"]) == 2
    assert "'rendr' is no verb of skillrl. Did you mean render?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SkillrlError("no skill 7:\nthere are 0 to 4."), "error: no skill 7: there are 0 to 4."),
        (DamagedFileError("a.json is damaged."), "error: a.json is damaged."),
        (gym.error.NameNotFound("no Foo"), "error: no Foo"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "error: /x: Permission denied"),
        (OSError("no such device"), "error: no such device"),
    ],
)
def test_an_error_is_one_line_and_exits_with_1(
    error: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fail(monkeypatch, error) == 1
    assert capsys.readouterr().err == f"{message}\n"


def test_an_error_elsewhere_tells_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As of a user's environment.
    assert fail(monkeypatch, RuntimeError("robot arm disconnected")) == 1
    assert re.fullmatch(
        r"error: RuntimeError: robot arm disconnected \(.*test_cli\.py, line \d+\)\. Run again "
        r"with --debug for the traceback\.\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize(
    "shortage",
    [
        lambda: bytearray(2**60),
        lambda: np.empty(2**60, dtype=np.uint8),
        lambda: torch.empty(2**60, dtype=torch.uint8),
    ],
)
def test_too_little_memory(
    shortage: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Large(Failing):
        def execute(self) -> None:
            shortage()

    monkeypatch.setitem(cli.VERBS, "list", Large(ValueError()))
    assert cli.main(["list"]) == 1
    assert capsys.readouterr().err.startswith("error: There is not enough memory for sizes like")


@pytest.mark.parametrize(
    ("error", "text"), [("ValueError('odd')", "ValueError: odd"), ("KeyError", "KeyError")]
)
def test_an_error_of_our_own_is_a_bug(
    error: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Bug(Failing):
        def execute(self) -> None:
            exec(compile(f"raise {error}", cli.__file__, "exec"))

    monkeypatch.setitem(cli.VERBS, "list", Bug(ValueError()))
    assert cli.main(["list"]) == 1
    assert capsys.readouterr().err == (
        f"unexpected {text}; this is a bug, run again with --debug for the traceback\n"
    )


@pytest.mark.parametrize("arguments", [["--debug", "list"], ["list", "--debug"]])
def test_debug_shows_the_traceback(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.VERBS, "list", Failing(ValueError("odd")))
    assert cli.main(arguments) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "resumes"), [("discover", True), ("train", True), ("render", False)]
)
def test_a_full_disk_says_where_and_how_to_go_on(
    verb: str,
    resumes: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x/run.json")
    assert fail(monkeypatch, error, verb=verb) == 1
    message = capsys.readouterr().err
    assert "the disk is full while writing runs/x/run.json" in message
    assert ("--resume" in message) == resumes


def test_an_interrupt_exits_with_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "Interrupted.\n"
    assert fail(monkeypatch, RunStopped("Go on with: skillrl discover …")) == 130
    assert capsys.readouterr().err == "Go on with: skillrl discover …\n"


def test_a_package_that_cannot_be_imported(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["discover", "Foo-v0", "--import", "no_such_package"]) == 1
    assert "--import no_such_package failed" in capsys.readouterr().err


def test_a_module_in_the_current_folder_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "my_envs.py").write_text("raise SystemExit('my_envs was imported')")
    # Run as the installed command is, which does not search the current folder by itself.
    code = "import sys; sys.path.remove(''); from skillrl.cli import main; sys.exit(main())"
    package = str(Path(cli.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", code, "discover", "Foo-v0", "--import", "my_envs"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "my_envs was imported" in result.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "skillrl.cli", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (1, b"")


def test_info_runs_as_a_command() -> None:
    result = run("info", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["versions"]["skillrl"] == __version__


def test_python_runs_the_package_as_the_command() -> None:
    command = [sys.executable, "-m", "skillrl", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"skillrl {__version__}\n"


def test_a_package_in_the_current_folder_may_stand_before_the_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_odd_robots.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('OddRobot-v0', 'gymnasium.envs.toy_text:FrozenLakeEnv')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert cli.main(["discover", "my_odd_robots:OddRobot-v0"]) == 1
    # It was found, and then refused for its observations.
    assert "Observations should be a Box" in capsys.readouterr().err
    del gym.registry["OddRobot-v0"]
