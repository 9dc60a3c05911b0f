"""The loop: what a run leaves behind, and that a stopped one ends as if it never stopped."""

import dataclasses
import errno
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import pytest
import torch

from runs import Killed, assert_same_skills, kill_at, skills, small
from skillrl.agents import SkillPolicy, SkillPPO
from skillrl.discovery import evaluation, loop, progress, training
from skillrl.discovery.events import Event, Preparing, RewardFitted, SkillFinished, Trained
from skillrl.discovery.frontier import Frontier
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.run import discover
from skillrl.discovery.settings import GuideRecipe, Recipe, RestartRecipe
from skillrl.discovery.transfer import transfer
from skillrl.errors import DamagedFileError, InvalidValueError, RunStopped
from skillrl.rewards import Separation, fit_reward

MAZE = small("skillrl/Maze2D-v0", env_kwargs={"max_episode_steps": 40})
HOPPER = small("Hopper-v5", env_kwargs={"max_episode_steps": 45})
# Five environments: sums over five rows are rounded differently in memory that is not aligned.
ODD = dataclasses.replace(
    HOPPER,
    steps_per_skill=3 * 5 * 16,
    evaluation_episodes=5,
    agent=dataclasses.replace(HOPPER.agent, num_envs=5, batch_size=40),
    samples=dataclasses.replace(HOPPER.samples, num_envs=5),
)
CHEETAH = small("HalfCheetah-v5", env_kwargs={"max_episode_steps": 40})
# Gymnasium's own vector environment, which cannot save its state.
CART_POLE = small("CartPole-v1")
PENDULUM = small("Pendulum-v1", env_kwargs={"max_episode_steps": 40})


Begin = Callable[[Recipe], loop.Discovery]


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[Begin]:
    """Begin with the first skill of a new run, which is closed after the test."""
    opened = []

    def begin(recipe: Recipe) -> loop.Discovery:
        library = SkillLibrary.create(tmp_path / "run", recipe, seed=0)
        opened.append(loop.Discovery(library, recipe, lambda event: None, lambda: False))
        opened[-1].begin(0)
        return opened[-1]

    yield begin
    for discovery in opened:
        discovery.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Path]:
    """Runs that were never stopped, made once for each recipe."""
    made: dict[str, Path] = {}

    def run(recipe: Recipe) -> Path:
        if recipe.env not in made:
            made[recipe.env] = tmp_path_factory.mktemp("whole") / "run"
            discover(recipe, made[recipe.env], seed=3)
        return made[recipe.env]

    return run


def test_a_run_holds_what_the_design_promises(whole: Callable[[Recipe], Path]) -> None:
    run = whole(MAZE)
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    events = {name for name in files if "tfevents" in name}
    assert len(events) == 1
    skill_files = ("skill.json", "policy.safetensors", "reward.safetensors")
    assert files - events == {
        ".lock",
        "run.json",
        "untrained.safetensors",
        "archive.safetensors",
        "progress.csv",
        *(f"skills/{index:03d}/{name}" for index in range(2) for name in skill_files),
    }
    about = json.loads((run / "run.json").read_text())
    assert about["seed"] == 3
    assert about["recipe"]["env"] == "skillrl/Maze2D-v0"


def test_no_file_of_a_run_is_a_pickle_or_an_archive_of_them(
    whole: Callable[[Recipe], Path],
) -> None:
    for path in whole(MAZE).rglob("*"):
        if path.is_file():
            assert path.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK")


def test_events_come_in_the_order_of_the_method(tmp_path: Path) -> None:
    seen: list[Event] = []
    discover(MAZE, tmp_path / "run", on_event=seen.append)
    names = [key.__name__ for key, _ in itertools.groupby(seen, type)]
    assert names == [
        "RunStarted",
        *["Preparing", "RewardFitted", "Trained", "SkillFinished"] * 2,
    ]
    asked = [event.what for event in seen if isinstance(event, Preparing)]
    assert asked == ["gathering samples", "fitting its reward"] * 2
    steps = [event.steps for event in seen if isinstance(event, Trained)]
    assert steps == [128, 256, 384] * 2


@pytest.mark.parametrize("recipe", [MAZE, CHEETAH, ODD, CART_POLE], ids=lambda recipe: recipe.env)
@pytest.mark.parametrize(
    ("kind", "occurrence"),
    [(RewardFitted, 1), (Trained, 2), (SkillFinished, 1), (RewardFitted, 2), (Trained, 4)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_killed_run_resumes_and_ends_with_the_same_skills(
    recipe: Recipe,
    kind: type[Event],
    occurrence: int,
    whole: Callable[[Recipe], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    run = tmp_path / "run"
    with pytest.raises(Killed):
        discover(recipe, run, seed=3, on_event=kill_at(kind, occurrence))
    discover(recipe, run, seed=3, resume=True)
    assert_same_skills(run, whole(recipe))


@pytest.mark.parametrize("recipe", [MAZE, CHEETAH, ODD], ids=lambda recipe: recipe.env)
# A skill asks twice before its training, and before each of three rollouts.
@pytest.mark.parametrize("asked", [3, 4, 8, 9])
def test_a_run_that_was_asked_to_stop_goes_on_inside_its_skill(
    recipe: Recipe, asked: int, whole: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    counter = itertools.count(1)
    with pytest.raises(RunStopped, match="can be resumed"):
        discover(recipe, run, seed=3, should_stop=lambda: next(counter) == asked)
    assert (run / "checkpoint" / "latest.safetensors").exists()
    seen: list[Event] = []
    discover(recipe, run, seed=3, resume=True, on_event=seen.append)
    # The reward of the stopped skill was not fitted again.
    assert sum(isinstance(event, RewardFitted) for event in seen) == (1 if asked <= 5 else 0)
    assert_same_skills(run, whole(recipe))


@pytest.mark.parametrize("recipe", [MAZE, CHEETAH, CART_POLE], ids=lambda recipe: recipe.env)
@pytest.mark.parametrize("asked", [1, 2, 6, 7])
def test_a_run_that_was_asked_to_stop_before_a_training_begins_the_skill_anew(
    recipe: Recipe, asked: int, whole: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    counter = itertools.count(1)
    with pytest.raises(RunStopped) as stopped:
        discover(recipe, run, seed=3, should_stop=lambda: next(counter) == asked)
    assert not stopped.value.trained
    assert not (run / "checkpoint" / "latest.safetensors").exists()
    assert len(SkillLibrary(run)) == asked // 5
    discover(recipe, run, seed=3, resume=True)
    assert_same_skills(run, whole(recipe))


EARLY = dataclasses.replace(
    CHEETAH,
    steps_per_skill=20 * 8 * 16,
    patience=0.1,
    agent=dataclasses.replace(CHEETAH.agent, anneal_from=0.75),
    guide=dataclasses.replace(CHEETAH.guide, max_steps=0),
)


def test_a_skill_that_has_converged_ends_early_and_the_next_one_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LIVE_SHARE", -1.0)
    monkeypatch.setattr(progress, "CONVERGED", 10.0)
    noise: list[float] = []
    usual = SkillPPO.train

    def train(agent: SkillPPO) -> None:
        noise.append(round(float(agent.policy.noise_scale), 3))
        usual(agent)

    monkeypatch.setattr(SkillPPO, "train", train)
    library = discover(EARLY, tmp_path / "run", seed=3)
    # Twice two rollouts, and the five in which the noise shrinks from 1 to a tenth.
    assert [skill.record.steps for skill in library] == [9 * 128, 9 * 128]
    assert noise == [1.0] * 5 + [0.82, 0.64, 0.46, 0.28] + [1.0] * 5 + [0.82, 0.64, 0.46, 0.28]
    rows = (tmp_path / "run" / "progress.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [512, 1024, 9 * 128 + 512, 9 * 128 + 1024]

    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    for occurrence in (3, 7, 12):
        run = tmp_path / f"killed-{occurrence}"
        with pytest.raises(Killed):
            discover(EARLY, run, seed=3, on_event=kill_at(Trained, occurrence))
        discover(EARLY, run, seed=3, resume=True)
        assert_same_skills(run, tmp_path / "run")


def test_a_skill_that_earns_too_little_is_trained_on_also_after_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    monkeypatch.setattr(progress, "UNTOUCHED", 0.0)  # whatever is earned is enough to go on
    # Three rollouts of 128 steps, and twice one more: nothing earns the whole target.
    recipe = dataclasses.replace(CHEETAH, extension=128, extensions=2, extend_below=1.0)
    library = discover(recipe, tmp_path / "whole", seed=3)
    assert [skill.record.steps for skill in library] == [5 * 128] * 2
    with pytest.raises(Killed):
        discover(recipe, tmp_path / "killed", seed=3, on_event=kill_at(Trained, 4))
    discover(recipe, tmp_path / "killed", seed=3, resume=True)
    assert_same_skills(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(("lasts", "leads"), [(None, 9), (4, 4), (20, 9)])
def test_the_guide_leads_no_longer_than_its_own_episodes_last(
    lasts: int | None, leads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(CHEETAH, guide=GuideRecipe(max_steps=9))
    library = SkillLibrary.create(tmp_path / "run", recipe, seed=0)
    run = loop.Discovery(library, recipe, lambda event: None, lambda: False, num_threads=1)
    guided: list[int] = []
    monkeypatch.setattr(run.agent, "set_guide", lambda guide, steps, until: guided.append(steps))
    run.progress.parent_lasts = lasts
    run._set_schedules()
    run.close()
    assert guided == [leads]


def test_a_reward_that_is_never_met_is_given_up_for_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "UNTOUCHED", 2.0)  # whatever is earned is not enough
    fits: list[np.ndarray] = []
    usual = fit_reward

    def record(reward: Any, *groups: np.ndarray, **settings: Any) -> Any:
        fits.append(groups[0])
        return usual(reward, *groups, **settings)

    monkeypatch.setattr(loop, "fit_reward", record)
    recipe = dataclasses.replace(CHEETAH, steps_per_skill=10 * 8 * 16, attempts=3)
    seen: list[Event] = []
    library = discover(recipe, tmp_path / "run", seed=3, on_event=seen.append)
    assert [e.attempt for e in seen if isinstance(e, RewardFitted)] == [0, 1, 2] * 2
    # Twice given up after two rollouts of ten; the third reward is kept.
    names = [key.__name__ for key, _ in itertools.groupby(seen, type)]
    attempt = ["Preparing", "RewardFitted", "Trained"]
    assert names == ["RunStarted", *[*attempt * 3, "SkillFinished"] * 2]
    assert [skill.record.steps for skill in library] == [14 * 128] * 2
    # Each time 6 environments follow the policy for 20 steps, and explore twice for 5.
    assert library[0].record.sample_steps == 3 * 6 * (20 + 2 * 5)
    assert len(fits) == 6
    assert not np.array_equal(fits[0], fits[1])
    rows = (tmp_path / "run" / "progress.csv").read_text().splitlines()[1:]
    steps = [int(row.split(",")[0]) for row in rows]
    assert steps == sorted(set(steps))

    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    for kind, occurrence in ((RewardFitted, 2), (Trained, 3), (Trained, 6), (SkillFinished, 1)):
        run = tmp_path / f"killed-{kind.__name__}-{occurrence}"
        with pytest.raises(Killed):
            discover(recipe, run, seed=3, on_event=kill_at(kind, occurrence))
        discover(recipe, run, seed=3, resume=True)
        assert_same_skills(run, tmp_path / "run")
        for name in ("steps", "sample_steps"):
            whole = [getattr(skill.record, name) for skill in library]
            assert [getattr(skill.record, name) for skill in SkillLibrary(run)] == whole


def test_a_run_that_is_asked_to_stop_between_attempts_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "UNTOUCHED", 2.0)  # whatever is earned is not enough
    recipe = dataclasses.replace(CHEETAH, steps_per_skill=10 * 8 * 16, attempts=3)
    discover(recipe, tmp_path / "run", seed=3)
    rollouts: list[Event] = []
    with pytest.raises(RunStopped) as stopped:
        discover(
            *(recipe, tmp_path / "stopped"),
            seed=3,
            on_event=lambda event: rollouts.append(event) if isinstance(event, Trained) else None,
            should_stop=lambda: len(rollouts) == 2,  # after which the reward is given up
        )
    assert stopped.value.trained
    assert (tmp_path / "stopped" / "checkpoint" / "latest.safetensors").exists()
    discover(recipe, tmp_path / "stopped", seed=3, resume=True)
    assert_same_skills(tmp_path / "stopped", tmp_path / "run")


def test_a_skill_that_is_not_live_in_the_end_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "UNTOUCHED", 0.0)
    recipe = dataclasses.replace(CHEETAH, attempts=2)
    monkeypatch.setattr(evaluation, "LIVE_SHARE", 2.0)  # nothing is live
    library = discover(recipe, tmp_path / "run", seed=3)
    assert [skill.record.steps for skill in library] == [2 * 3 * 128] * 2
    assert not any(skill.record.live for skill in library)


def test_a_skill_that_is_live_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "UNTOUCHED", 0.0)
    monkeypatch.setattr(evaluation, "LIVE_SHARE", -1.0)
    monkeypatch.setattr(evaluation, "LIVE_RATIO", -1.0)
    recipe = dataclasses.replace(CHEETAH, steps_per_skill=10 * 8 * 16, attempts=3)
    library = discover(recipe, tmp_path / "run", seed=3)
    assert [skill.record.steps for skill in library] == [10 * 128] * 2


def test_episodes_restart_on_the_way_of_the_parent_and_a_killed_run_does_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(
        HOPPER,
        steps_per_skill=10 * 8 * 16,
        restarts=RestartRecipe(share=0.5, until=0.5),
    )
    shares: list[float] = []
    usual = SkillPPO.train

    def train(agent: SkillPPO) -> None:
        env: Any = agent.env
        shares.append(env.env.env.share)
        usual(agent)

    with monkeypatch.context() as patched:
        patched.setattr(SkillPPO, "train", train)
        library = discover(recipe, tmp_path / "run", seed=3)
    # The parent is followed twice for 20 steps, for the samples and for the states.
    assert [skill.record.sample_steps for skill in library] == [6 * (2 * 20 + 2 * 5)] * 2
    # Asked after each rollout, so from the sixth on without.
    assert shares == [0.5] * 5 + [0.0] * 5 + [0.5] * 5 + [0.0] * 5
    discover(dataclasses.replace(recipe, restarts=RestartRecipe()), tmp_path / "other", seed=3)
    name = "skills/000/policy.safetensors:action_net.weight"
    assert not torch.equal(skills(tmp_path / "run")[name], skills(tmp_path / "other")[name])

    # An extension begins with restarts again.
    monkeypatch.setattr(progress, "UNTOUCHED", 0.0)
    recipe = dataclasses.replace(recipe, extension=128, extensions=2, extend_below=1.0)
    shares.clear()
    with monkeypatch.context() as patched:
        patched.setattr(SkillPPO, "train", train)
        discover(recipe, tmp_path / "extended", seed=3)
    assert len(shares) == 2 * 12
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    for occurrence in (3, 10, 11, 15):
        run = tmp_path / f"killed-{occurrence}"
        with pytest.raises(Killed):
            discover(recipe, run, seed=3, on_event=kill_at(Trained, occurrence))
        discover(recipe, run, seed=3, resume=True)
        assert_same_skills(run, tmp_path / "extended")


def test_restarts_need_an_environment_that_saves_its_state(tmp_path: Path) -> None:
    recipe = dataclasses.replace(CART_POLE, restarts=RestartRecipe(share=0.5))
    with pytest.raises(InvalidValueError, match="cannot restart"):
        discover(recipe, tmp_path / "run")


def test_more_skills_can_be_asked_of_a_finished_run(
    whole: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    discover(dataclasses.replace(MAZE, generations=1), run, seed=3)
    library = discover(MAZE, run, seed=3, resume=True)
    assert len(library) == 2
    assert_same_skills(run, whole(MAZE))


def test_another_seed_finds_other_skills(whole: Callable[[Recipe], Path], tmp_path: Path) -> None:
    discover(MAZE, tmp_path / "run", seed=4)
    name = "skills/000/policy.safetensors:action_net.weight"
    assert not torch.equal(skills(tmp_path / "run")[name], skills(whole(MAZE))[name])


def test_a_folder_that_exists_is_refused_unless_resumed(whole: Callable[[Recipe], Path]) -> None:
    with pytest.raises(InvalidValueError, match=r"exists\. Name another folder, or resume"):
        discover(MAZE, whole(MAZE))


@pytest.mark.parametrize("name", ["archive", "frontier"])
def test_a_run_does_not_go_on_without_what_was_seen(name: str, tmp_path: Path) -> None:
    recipe = dataclasses.replace(MAZE, parent="frontier", generations=1)
    discover(recipe, tmp_path / "run")
    (tmp_path / "run" / f"{name}.safetensors").unlink()
    more = dataclasses.replace(recipe, generations=2)
    with pytest.raises(DamagedFileError, match=rf"{name}\.safetensors does not exist.*bring it"):
        discover(more, tmp_path / "run", resume=True)


def test_a_run_is_not_resumed_with_other_settings(whole: Callable[[Recipe], Path]) -> None:
    other = dataclasses.replace(MAZE, agent=dataclasses.replace(MAZE.agent, gamma=0.5))
    with pytest.raises(InvalidValueError, match=r"agent\.gamma 0\.99 there and 0\.5 here"):
        discover(other, whole(MAZE), seed=3, resume=True)
    with pytest.raises(InvalidValueError, match="seed 3 there and 4 here"):
        discover(MAZE, whole(MAZE), seed=4, resume=True)


def test_a_saved_skill_acts_as_the_trained_one_did(begun: Begin) -> None:
    recipe = dataclasses.replace(CHEETAH, generations=1)
    discovery = begun(recipe)
    library = discovery.library
    negatives, reached, explorations = discovery.gather_samples()
    discovery.fit_reward(negatives, *discovery.choose(reached, explorations))
    discovery.transfer()
    discovery.train()
    discovery.finish_skill()
    observations = np.random.default_rng(0).normal(size=(50, 17))
    trained, _ = discovery.agent.predict(observations, deterministic=True)
    loaded, _ = library[0].policy.predict(observations, deterministic=True)
    assert np.array_equal(trained, loaded)
    rewards = discovery.reward.reward(observations)
    assert np.array_equal(rewards, library[0].reward.reward(observations))


@pytest.mark.parametrize("recipe", [MAZE, CHEETAH, PENDULUM], ids=["maze", "cheetah", "pendulum"])
def test_first_episodes_end_at_different_times(recipe: Recipe) -> None:
    env = training.make_envs(recipe, 200)
    env.reset(seed=0)
    training.stagger_episodes(env, seed=0)
    actions = 0 * env.action_space.sample()
    ends = np.array([env.step(actions)[3] for _ in range(80)])
    # Each ends once in the first 40 steps, and again 40 steps later.
    np.testing.assert_array_equal(ends[:40].sum(0), 1)
    np.testing.assert_array_equal(ends[40:], ends[:40])
    # Uniformly: 5 of 200 in each step, give or take a few.
    assert ends[:40].sum(1).max() <= 15
    assert len(np.flatnonzero(ends[:40].any(1))) > 35
    env.close()


@pytest.mark.parametrize("saves_states", [False, True])
def test_first_episodes_of_games_end_at_different_times(saves_states: bool) -> None:
    recipe = Recipe("skillrl/Pitfall-v5", env_kwargs={"max_episode_steps": 6})
    env = training.make_envs(recipe, 8, num_threads=1, saves_states=saves_states)
    env.reset(seed=0)
    training.stagger_episodes(env, seed=0)
    ends = np.array([env.step(np.zeros(8, np.int64))[3] for _ in range(12)])
    np.testing.assert_array_equal(ends[:6].sum(0), 1)
    np.testing.assert_array_equal(ends[6:], ends[:6])
    assert ends[:6].any(1).sum() >= 3
    env.close()


def test_episodes_without_an_end_are_not_staggered() -> None:
    endless = dataclasses.replace(MAZE, env_kwargs={"max_episode_steps": -1})
    env = training.make_envs(endless, 2)
    env.reset(seed=0)
    training.stagger_episodes(env, seed=0)
    assert not env.step(np.zeros(2, np.int64))[3].any()
    env.close()


class Picture(gym.ObservationWrapper[np.ndarray, int, np.ndarray]):
    """The maze as a picture: a white cell where the agent is."""

    def __init__(self) -> None:
        super().__init__(gym.make("skillrl/Maze2D-v0", max_episode_steps=15))
        self.observation_space = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        picture = np.zeros((36, 36, 3), np.uint8)
        picture[tuple(observation)] = 255
        return picture


def test_skills_are_discovered_from_images(tmp_path: Path) -> None:
    entry_point: Any = Picture
    gym.register("Picture-v0", entry_point)
    try:
        recipe = small("Picture-v0", evaluation_steps=20)
        threads = torch.get_num_threads()
        library = discover(recipe, tmp_path / "run", seed=3)
        assert len(library) == 2
        for skill in library:
            assert skill.reward.kind == "image"
            env = skill.make_env()
            observation, _ = env.reset(seed=0)
            action, _ = skill.policy.predict(observation, deterministic=True)
            observation, reward, _, _, _ = env.step(action)
            assert reward == skill.reward.reward(observation[None])[0]
            env.close()
        assert torch.get_num_threads() == threads
    finally:
        del gym.registry["Picture-v0"]


def test_torch_has_one_thread_for_small_networks_and_its_own_again_afterwards(
    tmp_path: Path,
) -> None:
    threads: set[int] = set()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        recipe = dataclasses.replace(MAZE, generations=1)
        discover(
            recipe, tmp_path / "run", on_event=lambda event: threads.add(torch.get_num_threads())
        )
        assert threads == {1}
        assert torch.get_num_threads() == 2
        with pytest.raises(InvalidValueError):
            discover(recipe, tmp_path / "run")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("mean_reward", "previous", "live"),
    [(1.0, 0.5, True), (0.99, 0.0, False), (1.2, 0.61, False), (5.0, 2.5, True)],
)
def test_a_skill_is_live_by_the_definition(
    mean_reward: float,
    previous: float,
    live: bool,
    begun: Begin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Live: at least 0.2 of the target, which is 5, and twice what the last policy earns."""
    recipe = dataclasses.replace(CHEETAH, generations=1)
    discovery = begun(recipe)
    library = discovery.library
    separation = Separation(loss=7.3, positives=0.9, negatives=0.1, archive=None)
    discovery.progress.separation = separation
    earned = {id(discovery.agent.policy): mean_reward, id(discovery.previous): previous}
    monkeypatch.setattr(
        evaluation, "episodes", lambda env, policy, seed, **_: (earned[id(policy)], 0.0)
    )
    discovery.finish_skill()
    assert library[0].record.live is live


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("HalfCheeta-v5", "Did you mean 'HalfCheetah-v5'"),
        ("FrozenLake-v1", r"Observations should be a Box\. Received Discrete\(16\)"),
        ("Failing-v0", "fails in its first step: RuntimeError: arm disconnected"),
        ("NotANumber-v0", "gave an observation that is not finite"),
    ],
)
def test_an_environment_that_cannot_be_used_leaves_no_folder(
    env: str, message: str, tmp_path: Path, broken: None
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        discover(Recipe(env), tmp_path / "run")
    assert env == "NotANumber-v0" or not (tmp_path / "run").exists()


class Failing(Picture):
    def step(self, action: int) -> Any:
        raise RuntimeError("arm disconnected")


class NotANumber(gym.ObservationWrapper[np.ndarray, int, np.ndarray]):
    """An environment whose tenth observation is not a number."""

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self.seen = 0

    def observation(self, observation: np.ndarray) -> np.ndarray:
        self.seen += 1
        return observation if self.seen != 10 else np.full_like(observation, np.nan)


@pytest.fixture
def broken() -> Iterator[None]:
    creators: dict[str, Any] = {"Failing-v0": Failing, "NotANumber-v0": NotANumber}
    for name, creator in creators.items():
        gym.register(name, creator)
    yield
    for name in creators:
        del gym.registry[name]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (small("Hopper-v5", env_kwargs={"healthy_z_range": 3}), "fails in its first step: Type"),
        (small("Hopper-v5", env_kwargs={"reset_noise_scale": "a"}), "Hopper-v5 with the arguments"),
        (small("CartPole-v1", env_kwargs={"foo": 1}), "made with the arguments {'foo': 1}"),
        (
            dataclasses.replace(MAZE, agent=dataclasses.replace(MAZE.agent, num_envs=1, n_steps=1)),
            "n_steps to at least 2",
        ),
        (dataclasses.replace(MAZE, agent=dataclasses.replace(MAZE.agent, hidden=(0,))), "hidden"),
        (dataclasses.replace(CHEETAH, parent="frontier"), "'HalfCheetah-v5', which shows vectors"),
    ],
)
def test_settings_that_cannot_work_leave_no_folder(
    recipe: Recipe, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        discover(recipe, tmp_path / "run")
    with pytest.raises(InvalidValueError, match="Received -1"):
        discover(MAZE, tmp_path / "run", seed=-1)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each reward was fitted to, and its weights before."""
    seen: list[dict[str, Any]] = []
    fit = fit_reward

    def record(reward: Any, *groups: Any, **settings: Any) -> Any:
        before = {name: tensor.clone() for name, tensor in reward.state_dict().items()}
        _, negatives, archive, _ = groups
        seen.append({"before": before, "negatives": negatives, "archive": archive.copy()})
        return fit(reward, *groups, **settings)

    monkeypatch.setattr(loop, "fit_reward", record)
    return seen


def test_a_reward_is_fitted_to_the_negatives_of_all_earlier_generations(
    fits: list[dict[str, Any]], tmp_path: Path
) -> None:
    discover(dataclasses.replace(MAZE, generations=4), tmp_path / "run", seed=3)
    # Fewer than the archive keeps of each generation, so all of them are there, generation by
    # generation.
    each: list[np.ndarray] = []
    for fitted in fits:
        assert len(fitted["archive"]) == sum(map(len, each))
        ends = np.cumsum([len(negatives) for negatives in each])
        for found, expected in zip(np.split(fitted["archive"], ends), each, strict=False):
            assert sorted(map(tuple, found)) == sorted(map(tuple, expected))
        each.append(fitted["negatives"])
    earlier = np.concatenate(each)
    assert len(fits) == 4
    assert len(earlier) == 4 * 6 * 21


@pytest.mark.parametrize("which", ["any", "frontier"])
def test_a_skill_starts_from_its_parents_weights(
    which: Literal["any", "frontier"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[dict[str, torch.Tensor]] = []
    usual = transfer

    def record(parent: Any, agent: Any, recipe: Any) -> None:
        starts.append({name: tensor.clone() for name, tensor in parent.state_dict().items()})
        usual(parent, agent, recipe)

    monkeypatch.setattr(loop, "transfer", record)
    recipe = dataclasses.replace(MAZE, generations=8, steps_per_skill=128, parent=which)
    library = discover(recipe, tmp_path / "run", seed=3)
    parents = [skill.record.parent for skill in library]
    assert parents[0] is None
    assert any(parent != index - 1 for index, parent in enumerate(parents[1:], start=1))
    for index, parent in enumerate(parents):
        assert parent is None or 0 <= parent < index
        path = library.untrained if parent is None else library[parent].path / "policy.safetensors"
        expected = SkillPolicy.load(path).state_dict()
        assert all(torch.equal(starts[index][name], expected[name]) for name in expected)
    # The paper's chain.
    chain = dataclasses.replace(recipe, generations=3, parent="last")
    library = discover(chain, tmp_path / "chain", seed=3)
    assert [skill.record.parent for skill in library] == [None, 0, 1]


FRONTIER = dataclasses.replace(
    MAZE,
    generations=4,
    steps_per_skill=256,
    parent="frontier",
    samples=dataclasses.replace(MAZE.samples, asks_for=("new cells",)),
)


def test_the_frontier_is_explored_also_by_a_run_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = discover(FRONTIER, tmp_path / "whole", seed=7)
    frontier = Frontier()
    parents: list[int] = []
    for generation, skill in enumerate(library):
        frontier.restore(library.path / "frontier.safetensors", generation + 1)
        chosen = frontier.parent(parents)
        assert skill.record.parent == (None if chosen < 0 else chosen)
        # The last skill is followed for 20 steps and explored from twice for 5, and so is its
        # parent if that is another one.
        steps = 6 * (20 + 2 * 5)
        assert skill.record.sample_steps == (steps if chosen == generation - 1 else 2 * steps)
        parents.append(chosen)
    assert parents != [-1, 0, 1, 2]

    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    for kind, occurrence in ((RewardFitted, 3), (Trained, 5), (SkillFinished, 3)):
        run = tmp_path / f"killed-{kind.__name__}"
        with pytest.raises(Killed):
            discover(FRONTIER, run, seed=7, on_event=kill_at(kind, occurrence))
        discover(FRONTIER, run, seed=7, resume=True)
        assert_same_skills(run, tmp_path / "whole")
        assert [s.record.parent for s in SkillLibrary(run)] == [s.record.parent for s in library]


def test_a_skill_must_earn_twice_what_its_parent_and_the_last_one_earn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(MAZE, generations=6, steps_per_skill=128, parent="any")
    library = discover(recipe, tmp_path / "run", seed=3)
    branched = next(s.index for s in library if s.record.parent not in (None, s.index - 1))
    shutil.rmtree(library.path / "skills" / f"{branched:03d}")
    for later in range(branched + 1, 6):
        shutil.rmtree(library.path / "skills" / f"{later:03d}")
    discovery = loop.Discovery(library, recipe, lambda event: None, lambda: False)
    discovery.begin(branched)
    target = recipe.reward.target
    shares = {discovery.agent.policy: 0.9, discovery.previous: 0.1, discovery.parent: 0.5}
    earned = {id(policy): share * target for policy, share in shares.items()}
    monkeypatch.setattr(
        evaluation, "episodes", lambda env, policy, *_, **__: (earned[id(policy)], 0.0)
    )
    separation = Separation(loss=7.3, positives=0.9, negatives=0.1, archive=None)
    discovery.progress.separation = separation
    discovery.finish_skill()
    discovery.close()
    assert library[branched].record.previous_mean_reward == 0.5 * target
    assert not library[branched].record.live


def test_a_reward_asks_for_one_way_and_not_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    usual = fit_reward

    def record(reward: Any, *groups: np.ndarray, **settings: Any) -> Any:
        seen.append((groups[0], groups[3]))
        return usual(reward, *groups, **settings)

    monkeypatch.setattr(loop, "fit_reward", record)
    for asked in ("all", "ways"):
        samples = dataclasses.replace(MAZE.samples, asks_for=(asked,), clusters=4)
        recipe = dataclasses.replace(MAZE, generations=1, samples=samples)
        discover(recipe, tmp_path / asked, seed=3)
    (everything, nothing), (way, other_ways) = seen
    assert len(everything) == 6 * 5 * 2
    assert len(nothing) == 0
    assert 0 < len(way) < len(everything)
    together = np.concatenate([way, other_ways])
    np.testing.assert_array_equal(np.sort(together, 0), np.sort(everything, 0))


def test_new_cells_of_a_maze_are_those_where_the_last_skill_never_was(begun: Begin) -> None:
    samples = dataclasses.replace(MAZE.samples, asks_for=("new cells",))
    recipe = dataclasses.replace(MAZE, generations=2, samples=samples)
    discovery = begun(recipe)
    positions = np.array([[row, column] for row in range(1, 9) for column in range(1, 9)])
    west, north = positions[positions[:, 1] < 4], positions[positions[:, 0] < 3]
    assert discovery.frontier is not None
    discovery.frontier.see(north, 0)
    discovery.frontier.see(west, 1)
    wanted, rest = discovery.choose(positions, np.arange(64))
    assert discovery.progress.asked == "new cells"
    known = (positions[:, 1] < 4) | (positions[:, 0] < 3)
    np.testing.assert_array_equal(wanted, positions[~known])
    np.testing.assert_array_equal(rest, positions[known])
    # Where hardly anything is new, all is asked for.
    wanted, rest = discovery.choose(west[:10], np.arange(10))
    assert discovery.progress.asked == "all"
    assert len(wanted) == 10
    assert len(rest) == 0


def test_the_archive_forgets_no_cell_of_a_maze(begun: Begin) -> None:
    samples = dataclasses.replace(MAZE.samples, asks_for=("new cells",), archived=16)
    recipe = dataclasses.replace(MAZE, generations=2, samples=samples)
    discovery = begun(recipe)
    # Of a thousand steps most are spent in one place.
    way = np.array([[1, column] for column in range(1, 17)])
    negatives = np.concatenate([way, np.repeat(way[-1:], 984, 0)])
    assert discovery.frontier is not None
    discovery.frontier.see(negatives, 0)
    discovery.archive_negatives(negatives)
    kept = discovery.archive.observations
    assert sorted(map(tuple, kept.tolist())) == sorted(map(tuple, way.tolist()))


def test_vectors_have_no_cells(tmp_path: Path) -> None:
    samples = dataclasses.replace(CHEETAH.samples, asks_for=("new cells",))
    library = discover(
        dataclasses.replace(CHEETAH, generations=1, samples=samples), tmp_path / "run", seed=3
    )
    assert library[0].record.asked == "all"


def test_what_ends_in_a_fall_is_another_way_whatever_is_asked_for(begun: Begin) -> None:
    samples = dataclasses.replace(CHEETAH.samples, asks_for=("directions",))
    recipe = dataclasses.replace(CHEETAH, generations=1, samples=samples)
    discovery = begun(recipe)
    _, reached, _ = discovery.gather_samples()
    # Twenty explorations of ten steps, of which every second one falls after five.
    rows = np.random.default_rng(0).integers(len(reached), size=200)
    steps, explorations = np.repeat(np.arange(10), 20), np.tile(np.arange(20), 10)
    fell = explorations % 2 == 1
    kept = ~fell | (steps < 5)
    reached, explorations, fell = reached[rows][kept], explorations[kept], fell[kept]
    positives, others = discovery.choose(reached, explorations)
    asked = int((discovery.progress.asked or "")[1:])
    untouched = 1 if asked == 0 else 0
    falls = set(reached[fell, untouched]) - set(reached[~fell, untouched])
    assert falls
    assert not falls & set(positives[:, untouched])
    assert falls <= set(others[:, untouched])


def test_skills_ask_in_turn_and_not_again_for_what_was_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "LIVE_SHARE", 2.0)  # nothing is live
    samples = dataclasses.replace(CHEETAH.samples, asks_for=("directions", "all"), clusters=4)
    recipe = dataclasses.replace(
        CHEETAH, generations=4, steps_per_skill=128, samples=samples, attempts=2
    )
    library = discover(recipe, tmp_path / "run", seed=3)
    first, second, third, fourth = (skill.record.asked or "" for skill in library)
    assert second == fourth == "all"
    assert {first[0], third[0]} <= {"+", "-"}
    assert first != third
    once = dataclasses.replace(recipe, generations=1, attempts=1)
    # Had it not been tried twice, the first skill would have asked for something else.
    assert discover(once, tmp_path / "once", seed=3)[0].record.asked != first


def test_the_same_reward_network_is_trained_on(fits: list[dict[str, Any]], tmp_path: Path) -> None:
    library = discover(dataclasses.replace(CHEETAH, generations=3), tmp_path / "run", seed=3)
    for skill, after in itertools.pairwise(range(3)):
        saved = library[skill].reward.state_dict()
        for name, tensor in fits[after]["before"].items():
            assert torch.equal(tensor, saved[name])
    # Statistics are frozen in the first generation; weights go on.
    rewards = [skill.reward for skill in library]
    assert torch.equal(rewards[0].mean, rewards[2].mean)
    assert torch.equal(rewards[0].std, rewards[2].std)
    weights = [next(reward.network.parameters()) for reward in rewards]
    assert not torch.equal(weights[0], weights[2])


def test_the_recorded_reward_is_what_the_skill_earns(whole: Callable[[Recipe], Path]) -> None:
    for skill in SkillLibrary(whole(MAZE)):
        env = skill.make_env()
        observation, _ = env.reset()
        rewards = []
        for _ in range(40):
            action, _ = skill.policy.predict(observation, deterministic=True)
            observation, reward, _, truncated, _ = env.step(action)
            rewards.append(float(reward))
        assert truncated
        # The maze and the policy without noise have no randomness: all episodes are this one.
        assert skill.record.mean_reward == pytest.approx(np.mean(rewards), abs=1e-7)
        env.close()


@pytest.mark.parametrize(
    ("name", "occurrence"),
    [
        ("run.json", 1),
        ("untrained.safetensors", 1),
        ("archive.safetensors", 2),
        ("latest.safetensors", 2),
        ("policy.safetensors", 2),
        ("reward.safetensors", 1),
        ("skill.json", 1),
    ],
)
def test_a_full_disk_loses_nothing(
    name: str,
    occurrence: int,
    whole: Callable[[Recipe], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    counter = itertools.count(1)
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == name and next(counter) == occurrence:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left") as caught:
            discover(MAZE, run, seed=3)
    assert caught.value.errno == errno.ENOSPC
    assert Path(str(caught.value.filename)).name == name
    assert not [path for path in run.rglob("*") if "partial" in path.name]
    discover(MAZE, run, seed=3, resume=True)
    assert_same_skills(run, whole(MAZE))


def test_a_damaged_checkpoint_is_named_and_may_be_deleted(
    whole: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    counter = itertools.count(1)
    with pytest.raises(RunStopped):
        discover(MAZE, run, seed=3, should_stop=lambda: next(counter) == 9)
    checkpoint = run / "checkpoint" / "latest.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match=r"latest\.safetensors is damaged"):
        discover(MAZE, run, seed=3, resume=True)
    checkpoint.unlink()
    discover(MAZE, run, seed=3, resume=True)
    assert_same_skills(run, whole(MAZE))


def test_a_stopped_run_without_saved_states_repeats_its_skill(
    whole: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    counter = itertools.count(1)
    with pytest.raises(RunStopped):
        discover(CART_POLE, run, seed=3, should_stop=lambda: next(counter) == 9)
    assert not (run / "checkpoint").exists()
    discover(CART_POLE, run, seed=3, resume=True)
    assert_same_skills(run, whole(CART_POLE))
