import dataclasses
import errno
import json
import math
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import skillrl
from records import new_record
from skillrl.agents import SkillPolicy
from skillrl.discovery import library as library_module
from skillrl.discovery.descriptors import Descriptors
from skillrl.discovery.library import Skill, SkillLibrary, load_skill
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.record import Record
from skillrl.discovery.settings import Recipe
from skillrl.envs import NeuralRewardWrapper
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.rewards import NeuralReward

RECIPE = dataclasses.replace(recipe_for("CartPole-v1"), generations=3)
OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
CART_POLE = gym.make("CartPole-v1")


def new_policy(seed: int) -> SkillPolicy:
    torch.manual_seed(seed)
    policy = SkillPolicy(
        CART_POLE.observation_space, spaces.Discrete(2), lambda _: 0.0, hidden=(8,)
    )
    assert policy.normalizer is not None
    policy.normalizer.update(torch.as_tensor(OBSERVATIONS))
    return policy


def new_reward(seed: int) -> NeuralReward:
    torch.manual_seed(seed)
    return NeuralReward((4,), hidden=8)


@pytest.fixture
def library(tmp_path: Path) -> SkillLibrary:
    """A run with two skills of networks that were never trained."""
    library = SkillLibrary.create(tmp_path / "run", RECIPE, seed=5)
    for index in range(2):
        library.add(
            new_policy(index), new_reward(index), new_record(index, mean_reward=0.5 * index)
        )
    return library


def test_a_skill_is_what_was_added(library: SkillLibrary) -> None:
    assert len(library) == 2
    for index, skill in enumerate(library):
        assert skill.index == index
        assert skill.path == library.path / "skills" / f"00{index}"
        assert skill.record.mean_reward == 0.5 * index
        expected, _ = new_policy(index).predict(OBSERVATIONS, deterministic=True)
        np.testing.assert_array_equal(
            skill.policy.predict(OBSERVATIONS, deterministic=True)[0], expected
        )
        np.testing.assert_array_equal(
            skill.reward.reward(OBSERVATIONS), new_reward(index).reward(OBSERVATIONS)
        )
    assert [skill.index for skill in (library[0], library[1], library[-1], library[-2])] == [
        *(0, 1, 1, 0)
    ]


def test_a_skill_is_loaded_by_its_folder(library: SkillLibrary) -> None:
    skill = skillrl.load_skill(str(library.path / "skills" / "001"))
    assert isinstance(skill, Skill)
    assert skill.index == 1
    # Files are read once.
    assert skill.policy is skill.policy
    assert skill.reward is skill.reward


def test_a_skills_environment_pays_its_reward(library: SkillLibrary) -> None:
    env = library[1].make_env(max_episode_steps=3)
    assert isinstance(env, NeuralRewardWrapper)
    env.reset(seed=0)
    for _ in range(3):
        observation, reward, _, truncated, info = env.step(0)
        assert reward == float(new_reward(1).reward(observation[None])[0])
        assert info["task_reward"] == 1.0
    assert truncated
    env.close()


def test_env_kwargs_belong_to_a_skill(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, env_kwargs={"max_episode_steps": 2})
    skill = SkillLibrary.create(tmp_path / "run", recipe, seed=0).add(
        new_policy(0), new_reward(0), new_record(0, env_kwargs=recipe.env_kwargs)
    )
    env = skill.make_env()
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(2)] == [False, True]
    env.close()


def test_a_number_that_no_skill_has_is_named(library: SkillLibrary) -> None:
    for index in (2, -3, 100):
        with pytest.raises(InvalidValueError, match=rf"2 skill\(s\).* Received {index}"):
            library[index]


def test_a_run_tells_how_it_was_made(library: SkillLibrary) -> None:
    run = json.loads((library.path / "run.json").read_text())
    assert run["recipe"] == json.loads(json.dumps(dataclasses.asdict(RECIPE)))
    assert run["seed"] == 5
    assert run["versions"]["torch"] == version("torch")
    assert run["versions"]["skillrl"] == version("skillrl")
    assert run["machine"]["cores"] == os.cpu_count()
    again = SkillLibrary(library.path)
    assert again.recipe == RECIPE
    assert again.seed == 5


def test_a_new_run_needs_a_folder_of_its_own(library: SkillLibrary, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"run exists\. Name another folder, or resume"):
        SkillLibrary.create(library.path, RECIPE, seed=5)
    file = tmp_path / "file"
    file.write_text("notes")
    with pytest.raises(InvalidValueError, match="file exists and holds no run"):
        SkillLibrary.create(file, RECIPE, seed=5)
    assert file.read_text() == "notes"
    with pytest.raises(InvalidValueError, match="exists and holds no run"):
        SkillLibrary.create(tmp_path, RECIPE, seed=5)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".run.json.123.partial").touch()
    assert len(SkillLibrary.create(tmp_path / "empty", RECIPE, seed=5)) == 0


def changed(**changes: Any) -> Recipe:
    return dataclasses.replace(RECIPE, **changes)


@pytest.mark.parametrize(
    ("recipe", "seed", "message"),
    [
        (changed(env="Acrobot-v1"), 5, "env CartPole-v1 there and Acrobot-v1 here"),
        (changed(steps_per_skill=7), 5, "steps_per_skill 1000000 there and 7 here"),
        (
            changed(agent=dataclasses.replace(RECIPE.agent, hidden=(3,))),
            5,
            r"agent\.hidden \[128, 128\] there and \[3\] here",
        ),
        (
            changed(env_kwargs={"sutton_barto_reward": True}),
            5,
            r"env_kwargs\.sutton_barto_reward not set there and True here",
        ),
        (RECIPE, 6, "seed 5 there and 6 here"),
        (changed(evaluation_episodes=3), 4, "evaluation_episodes 10 .*; seed 5 there and 4 here"),
    ],
)
def test_other_settings_are_named(
    recipe: Recipe, seed: int, message: str, library: SkillLibrary
) -> None:
    with pytest.raises(
        InvalidValueError, match=f"cannot be resumed with other settings: {message}"
    ):
        library.check_resumable(recipe, seed)


def test_settings_that_are_gone_are_named(tmp_path: Path) -> None:
    recipe = changed(env_kwargs={"sutton_barto_reward": True})
    library = SkillLibrary.create(tmp_path / "run", recipe, seed=0)
    library.check_resumable(recipe, 0)
    with pytest.raises(InvalidValueError, match=r"sutton_barto_reward True there and not set here"):
        library.check_resumable(RECIPE, 0)


def test_a_run_of_an_earlier_recipe_is_read_but_not_resumed(tmp_path: Path) -> None:
    SkillLibrary.create(tmp_path / "run", RECIPE, seed=0)
    file = tmp_path / "run" / "run.json"
    about = json.loads(file.read_text())
    del about["recipe"]["patience"], about["recipe"]["reward"]["max_fits"]
    file.write_text(json.dumps(about))
    library = SkillLibrary(tmp_path / "run")
    assert library.recipe == RECIPE
    with pytest.raises(
        InvalidValueError,
        match=r"patience not set there and 0\.1 here; reward\.max_fits not set there and 3 here",
    ):
        library.check_resumable(library.recipe, 0)
    about["recipe"]["novelty"] = 1
    file.write_text(json.dumps(about))
    with pytest.raises(DamagedFileError, match="unknown ones: novelty"):
        SkillLibrary(tmp_path / "run")


def test_lists_and_tuples_are_the_same_settings(tmp_path: Path) -> None:
    recipe = changed(env_kwargs={"a": (0.5, 2.0)})
    library = SkillLibrary.create(tmp_path / "run", recipe, seed=0)
    library.check_resumable(recipe, 0)
    library.check_resumable(changed(env_kwargs={"a": [0.5, 2.0]}), 0)


def test_two_processes_cannot_write_into_one_run(library: SkillLibrary) -> None:
    left = library.path / "checkpoint" / ".latest.123.partial.safetensors"
    left.parent.mkdir()
    left.write_text("by a process that was killed")
    with library.locked():
        assert not left.exists()
        with (
            pytest.raises(InvalidValueError, match="Another process is discovering skills in"),
            SkillLibrary(library.path).locked(),
        ):
            pass
    with library.locked():
        pass


def test_more_generations_may_be_asked_for(library: SkillLibrary) -> None:
    library.check_resumable(changed(generations=30), 5)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DamagedFileError, match=f"{path} is not a run"):
            SkillLibrary(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2, and this skillrl reads format 1"),
        ({"format": None}, "has format None"),
        ({"seed": "five"}, "is damaged"),
        ({"seed": math.inf}, "is damaged"),
        ({"seed": None}, "is damaged"),
        ({"recipe": None}, "is damaged"),
        ({"recipe": {}}, "is damaged: recipe lacks fields.*Another version of skillrl"),
        ({"recipe": {**dataclasses.asdict(RECIPE), "generations": "ten"}}, "recipe.generations"),
        ({"recipe": {**dataclasses.asdict(RECIPE), "generations": -1}}, "Received -1"),
    ],
)
def test_a_damaged_run_file_is_named(
    change: dict[str, Any], message: str, library: SkillLibrary
) -> None:
    path = library.path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DamagedFileError, match=rf"run\.json.*{message}"):
        SkillLibrary(library.path)


def test_a_run_file_cut_anywhere_is_damaged(library: SkillLibrary) -> None:
    path = library.path / "run.json"
    content = path.read_bytes()
    for size in (0, 1, 10, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedFileError, match=r"run\.json"):
            SkillLibrary(library.path)


HOSTILE: list[Any] = [None, True, [1], "one", 3, 1.5, math.nan, math.inf, {}, {"loss": 1.0}]
NAMES = sorted(field.name for field in dataclasses.fields(Record))
OPTIONAL = {"live", "task_return", "asked", "parent", "descriptors", "fresh_reward", "separation"}


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_skill_file_is_named(name: str, library: SkillLibrary) -> None:
    path = library.path / "skills" / "001" / "skill.json"
    content = path.read_text()
    kind = type(json.loads(content)[name])
    for value in HOSTILE:
        if type(value) is kind and name != "separation" and value not in (math.inf, math.nan):
            continue  # of the right type
        if kind is float and type(value) is int:
            continue  # JSON's numbers are of one kind
        if name in OPTIONAL and value is None:
            continue  # such as a return that is not finite, the untrained policy, an unknown body
        if name == "parent" and type(value) is int:
            continue
        path.write_text(json.dumps({**json.loads(content), name: value}))
        with pytest.raises(DamagedFileError, match=rf"skill\.json is damaged: skill\.{name}"):
            library[1]
    if name != "sample_steps":  # which an earlier version did not note
        without = {key: value for key, value in json.loads(content).items() if key != name}
        path.write_text(json.dumps(without))
        with pytest.raises(DamagedFileError, match=rf"skill\.json is damaged: .*{name}"):
            list(library)
    path.write_text(content[:-5])
    with pytest.raises(DamagedFileError, match=r"skill\.json cannot be read"):
        load_skill(path.parent)


def test_descriptors_that_an_earlier_version_did_not_note_are_none(library: SkillLibrary) -> None:
    path = library.path / "skills" / "001" / "skill.json"
    known = Descriptors(
        1.0, 0.0, 0.6, 0.0, 0.0, 0.0, 0.1, {"back": 0.9}, 0.1, seconds=5.0, falls=1.0
    )
    content = {**json.loads(path.read_text()), "descriptors": dataclasses.asdict(known)}
    path.write_text(json.dumps(content))
    assert library[1].record.descriptors == known
    del content["descriptors"]["seconds"], content["descriptors"]["falls"]
    path.write_text(json.dumps(content))
    expected = dataclasses.replace(known, seconds=None, falls=None)
    assert library[1].record.descriptors == expected
    del content["descriptors"]["effort"]
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFileError, match="effort"):
        list(library)


def test_a_skill_missing_between_others_is_named(library: SkillLibrary) -> None:
    library.check_resumable(RECIPE, 5)
    shutil.move(library.path / "skills" / "000", library.path / "skills" / "aside")
    with pytest.raises(DamagedFileError, match=r"skills lacks 000 and holds 001\. Each skill"):
        library.check_resumable(RECIPE, 5)
    shutil.rmtree(library.path / "skills" / "001")
    library.check_resumable(RECIPE, 5)


def test_a_folder_that_is_no_skill_is_named(library: SkillLibrary, tmp_path: Path) -> None:
    for path in (tmp_path, library.path, library.path / "skills" / "007"):
        with pytest.raises(DamagedFileError, match=f"{path} is not a skill"):
            load_skill(path)


def test_damaged_networks_are_named_when_they_are_asked_for(library: SkillLibrary) -> None:
    skill = library[0]
    (skill.path / "policy.safetensors").write_bytes(b"\x80\x04 a pickle's first bytes")
    (skill.path / "reward.safetensors").unlink()
    with pytest.raises(DamagedFileError, match=r"000/policy\.safetensors is damaged"):
        _ = skill.policy
    with pytest.raises(DamagedFileError, match=r"000/reward\.safetensors does not exist"):
        _ = skill.reward
    with pytest.raises(DamagedFileError, match=r"000/reward\.safetensors does not exist"):
        skill.make_env()


def test_policy_and_reward_are_not_mistaken_for_each_other(library: SkillLibrary) -> None:
    skill = library[0]
    shutil.copy(skill.path / "reward.safetensors", skill.path / "policy.safetensors")
    with pytest.raises(DamagedFileError, match="holds no policy but 'reward'"):
        _ = skill.policy


def everything(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", ["policy", "reward", "record"])
def test_a_skill_on_a_full_disk_appears_complete_or_not_at_all(
    name: str, library: SkillLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(library.path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    policy, reward = new_policy(2), new_reward(2)
    if name == "record":
        monkeypatch.setattr(library_module, "write_json", full)
    else:
        monkeypatch.setattr({"policy": policy, "reward": reward}[name], "save", full)
    with pytest.raises(OSError, match="No space left"):
        library.add(policy, reward, new_record(2))
    assert everything(library.path) == before
    assert not [path for path in library.path.rglob("*") if "partial" in path.name]
    monkeypatch.undo()
    assert library.add(policy, reward, new_record(2)).index == 2
    assert len(library) == 3


def test_what_a_killed_process_left_behind_is_no_skill(library: SkillLibrary) -> None:
    left = library.path / "skills" / ".002.partial"
    shutil.copytree(library.path / "skills" / "000", left)
    (left / "remains").write_text("of another process")
    assert len(library) == 2
    skill = library.add(new_policy(2), new_reward(2), new_record(2))
    assert sorted(path.name for path in skill.path.iterdir()) == [
        *("policy.safetensors", "reward.safetensors", "skill.json")
    ]
    assert not left.exists()
