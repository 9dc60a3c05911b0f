import copy
import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv

from skillrl.agents import SkillPolicy, SkillPPO
from skillrl.discovery.checkpoint import load_checkpoint, read_progress, save_checkpoint
from skillrl.discovery.progress import Progress
from skillrl.envs import NeuralRewardVectorWrapper, SB3VecEnv, make_vec
from skillrl.errors import DamagedFileError
from skillrl.files import read_tensors, write_tensors
from skillrl.rewards import NeuralReward, Separation

PROGRESS = Progress(
    generation=3,
    first_step=1_000,
    attempt=1,
    steps=1_234,
    seconds=5.5,
    fresh_reward=0.25,
    separation=Separation(loss=1.0, positives=0.9, negatives=0.1, archive=None),
    rewards=(0.25, 0.5),
)


# The maze in pictures: the weights of convolutions lie in another order of memory than in a file.
PICTURES = "skillrl/Maze2D-v0:image"


class Training:
    """An agent that learns in a few environments with a learnt reward, none of it trained yet."""

    def __init__(self, id: str, seed: int, guide: SkillPolicy | None = None) -> None:
        torch.manual_seed(seed)
        more: dict[str, Any] = {"observation": "image"} if id == PICTURES else {}
        env: VectorEnv[Any, Any, Any] = make_vec(
            id.removesuffix(":image"),
            4,
            num_threads=1,
            autoreset_mode="SameStep",
            max_episode_steps=30,
            **more,
        )
        shape = env.single_observation_space.shape or ()
        self.reward = NeuralReward(shape, "image" if len(shape) == 3 else "vector", hidden=8)
        self.env = NeuralRewardVectorWrapper(env, self.reward)
        self.agent = SkillPPO(
            "SkillPolicy",
            SB3VecEnv(self.env),
            n_steps=20,
            batch_size=40,
            n_epochs=2,
            device="cpu",
            policy_kwargs={"hidden": (8,)},
        )
        # The guide is the last skill, which a run loads from its own file.
        self.guide = guide or copy.deepcopy(self.agent.policy)
        self.agent.set_guide(self.guide, 10, 10**6)
        self.agent.start_from_reset(seed)

    def learn(self, rollouts: int) -> None:
        self.agent.learn(80 * rollouts, reset_num_timesteps=False)

    def state(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.agent.policy.state_dict().items()}

    def save(self, path: Path) -> None:
        save_checkpoint(path, self.agent, self.env, self.reward, PROGRESS)

    def load(self, path: Path) -> None:
        load_checkpoint(path, self.agent, self.env, self.reward)


@pytest.fixture(params=["skillrl/Maze2D-v0", PICTURES, "Hopper-v5"])
def trained(request: pytest.FixtureRequest) -> Iterator[tuple[str, Training]]:
    training = Training(request.param, seed=0)
    training.learn(2)
    yield request.param, training
    training.env.close()


@pytest.mark.parametrize("rollouts", [0, 1, 3])
def test_training_goes_on_as_if_it_had_never_stopped(
    rollouts: int, trained: tuple[str, Training], tmp_path: Path
) -> None:
    id, training = trained
    training.learn(rollouts)
    path = tmp_path / "checkpoint" / "latest.safetensors"
    training.save(path)
    training.learn(3)

    other = Training(id, seed=9, guide=training.guide)
    other.learn(1)  # whatever it did before
    other.load(path)
    torch.rand(5)  # the generator goes on from the checkpoint, not from here
    other.load(path)
    assert other.agent.num_timesteps == PROGRESS.steps
    other.learn(3)
    for name, tensor in training.state().items():
        assert torch.equal(other.state()[name], tensor), name
    np.testing.assert_array_equal(other.agent._last_obs, training.agent._last_obs)
    for name, parameter in training.reward.state_dict().items():
        assert torch.equal(other.reward.state_dict()[name], parameter)
    assert other.agent._n_updates == training.agent._n_updates
    other.env.close()


def test_progress_is_what_was_saved(trained: tuple[str, Training], tmp_path: Path) -> None:
    path = tmp_path / "latest.safetensors"
    trained[1].save(path)
    assert read_progress(path, Progress) == PROGRESS


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "latest.safetensors"
    training = Training("skillrl/Maze2D-v0", seed=0)
    training.learn(2)
    training.save(path)
    return path


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Progress)])
@pytest.mark.parametrize("value", [{}, [[1]]])
def test_damaged_progress_is_named(name: str, value: Any, saved: Path) -> None:
    tensors, description = read_tensors(saved)
    progress = {**dataclasses.asdict(PROGRESS), name: value}
    write_tensors(saved, tensors, {**description, "progress": progress})
    message = rf"latest\.safetensors is damaged: progress\.{name}"
    with pytest.raises(DamagedFileError, match=message):
        read_progress(saved, Progress)


@pytest.mark.parametrize("progress", [None, [], "x"])
def test_a_checkpoint_without_progress_is_damaged(progress: Any, saved: Path) -> None:
    tensors, description = read_tensors(saved)
    write_tensors(saved, tensors, {**description, "progress": progress})
    with pytest.raises(DamagedFileError, match=r"latest\.safetensors is damaged"):
        read_progress(saved, Progress)


def test_a_file_that_is_no_checkpoint_is_named(saved: Path) -> None:
    tensors, description = read_tensors(saved)
    write_tensors(saved, tensors, {**description, "format": "reward"})
    for read in (
        partial(read_progress, kind=Progress),
        Training("skillrl/Maze2D-v0", seed=1).load,
    ):
        with pytest.raises(DamagedFileError, match="holds no checkpoint but 'reward'"):
            read(saved)
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match=r"latest\.safetensors is damaged"):
        read_progress(saved, Progress)


def test_a_checkpoint_of_another_environment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latest.safetensors"
    hopper = Training("Hopper-v5", seed=0)
    hopper.learn(1)
    hopper.save(path)
    hopper.env.close()
    with pytest.raises(DamagedFileError, match=r"latest\.safetensors does not fit"):
        Training("skillrl/Maze2D-v0", seed=1).load(path)


def test_tensors_that_lack_or_do_not_fit_are_damaged(saved: Path) -> None:
    tensors, description = read_tensors(saved)
    training = Training("skillrl/Maze2D-v0", seed=1)
    for name in tensors:
        rest = {other: value for other, value in tensors.items() if other != name}
        for changed in (rest, {**rest, name: torch.zeros(3, 5, 7)}):
            write_tensors(saved, changed, description)
            with pytest.raises(DamagedFileError, match=r"latest\.safetensors"):
                training.load(saved)
    for key in ("n_updates", "env", "progress"):
        changed_description = {name: value for name, value in description.items() if name != key}
        write_tensors(saved, tensors, changed_description)
        with pytest.raises(DamagedFileError, match=r"latest\.safetensors"):
            training.load(saved)
    write_tensors(saved, tensors, description)
    training.load(saved)
    training.learn(1)
