"""Discovery in a game of Atari, with a guide and with restarts from saved states."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runs import Killed, assert_same_skills, kill_at, small
from skillrl.agents import SkillPPO
from skillrl.discovery import training
from skillrl.discovery.events import Event, RunStarted, Trained
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.run import discover
from skillrl.discovery.settings import RestartRecipe
from skillrl.envs import RestartVectorWrapper
from skillrl.envs.atari.processes import ProcessGames
from skillrl.envs.atari.threads import ThreadGames

GUIDED = small("montezuma", env_kwargs={"max_episode_steps": 30})
GUIDED = dataclasses.replace(
    GUIDED,
    steps_per_skill=3 * 4 * 16,
    extensions=0,
    evaluation_episodes=1,
    evaluation_steps=10,
    agent=dataclasses.replace(GUIDED.agent, num_envs=4, batch_size=32, n_epochs=1),
    samples=dataclasses.replace(GUIDED.samples, num_envs=2, archived=20),
)
RESTARTED = dataclasses.replace(
    GUIDED,
    env_kwargs={**GUIDED.env_kwargs, "terminal_on_life_loss": False, "skip_deaths": True},
    guide=dataclasses.replace(GUIDED.guide, max_steps=0),
    restarts=RestartRecipe(share=0.5, until=1.0),
)


def test_a_game_is_played_in_threads_unless_episodes_restart_or_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    games: list[Any] = []
    begun: list[int] = []
    train, step = SkillPPO.train, RestartVectorWrapper.step

    def watched_train(agent: SkillPPO) -> None:
        env: Any = agent.env
        games.append(env.env.unwrapped._games)
        train(agent)

    def watched_step(envs: RestartVectorWrapper, actions: np.ndarray) -> Any:
        outcome = step(envs, actions)
        ended = outcome[2] | outcome[3]
        begun.extend(envs.unwrapped._elapsed_steps[ended])  # type: ignore[attr-defined]
        return outcome

    monkeypatch.setattr(SkillPPO, "train", watched_train)
    monkeypatch.setattr(RestartVectorWrapper, "step", watched_step)
    discover(dataclasses.replace(GUIDED, generations=1), tmp_path / "guided", num_threads=1)
    assert [type(each) for each in games] == [ThreadGames] * 3
    assert begun == []

    games.clear()
    goes_on = dataclasses.replace(GUIDED, generations=1, env_kwargs=RESTARTED.env_kwargs)
    discover(goes_on, tmp_path / "goes-on", num_threads=1)
    assert [type(each) for each in games] == [ProcessGames] * 3
    assert begun == []

    games.clear()
    seen: list[Event] = []
    always = dataclasses.replace(RESTARTED, generations=1, restarts=RestartRecipe(1.0, 1.0))
    discover(always, tmp_path / "restarted", num_threads=1, on_event=seen.append)
    assert [type(each) for each in games] == [ProcessGames] * 3
    # Every tenth step of twenty was saved.
    assert len(begun) >= 4
    assert set(begun) == {10, 20}
    started = next(event for event in seen if isinstance(event, RunStarted))
    assert started.memory.starts > 2 * 2 * 2 * 4 * 84 * 84


def test_a_killed_run_with_restarts_goes_on_inside_its_skill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discover(RESTARTED, tmp_path / "whole", seed=3, num_threads=1)
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    run = tmp_path / "killed"
    with pytest.raises(Killed):
        # In the second skill, after an update of the convolutions.
        discover(RESTARTED, run, seed=3, num_threads=1, on_event=kill_at(Trained, 5))
    seen: list[Event] = []
    discover(RESTARTED, run, seed=3, num_threads=1, resume=True, on_event=seen.append)
    assert [event.steps for event in seen if isinstance(event, Trained)] == [128, 192]
    assert_same_skills(run, tmp_path / "whole")
    # What was found is used without the states.
    env = SkillLibrary(run)[1].make_env(render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (210, 160, 3)  # type: ignore[union-attr]
    env.close()
