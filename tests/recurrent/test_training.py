import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from skillrl.errors import DamagedFileError, DivergedError, InvalidValueError
from skillrl.recurrent import (
    LRU,
    Carry,
    RecurrentStack,
    SequenceRecipe,
    load_network,
    sequence_recipe_for,
)
from skillrl.recurrent.tasks import Batch, Copy, ListOps, Recall, Task
from skillrl.recurrent.training import learn_from, make_network, make_task, train
from streams import doubles, relative_error


@pytest.fixture
def in_doubles() -> Iterator[None]:
    yield from doubles()


def network_for(task: Task, **changes: object) -> RecurrentStack:
    recipe = SequenceRecipe("copy", width=8, depth=2, state_size=6, r_min=0.5)
    return make_network(dataclasses.replace(recipe, **changes), task)  # type: ignore[arg-type]


class Doubles:
    """A task with inputs in float64."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __getattr__(self, name: str) -> object:
        return getattr(self.task, name)

    def encode(self, values: Tensor) -> Tensor:
        return self.task.encode(values).double()


def gradients(task: Task, batch: Batch, rule: str, chunk: int) -> tuple[float, dict[str, Tensor]]:
    network = network_for(task, rule=rule)
    loss, _ = learn_from(network, Doubles(task), batch, chunk)  # type: ignore[arg-type]
    return loss, {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


def test_the_loss_of_a_stream_is_that_of_the_whole_sequence(in_doubles: None) -> None:
    task = Copy(length=6, bits=3)
    batch = next(task.batches("train", 5, 0))
    whole, true = gradients(task, batch, "bptt", chunk=1)
    network = network_for(task, rule="bptt")
    outputs, _ = network(task.encode(batch.values).double())
    expected = task.loss(outputs[6:], batch.targets[6:]).mean()
    assert whole == pytest.approx(float(expected.detach()), rel=1e-12)
    for chunk in (1, 4, 12):
        loss, found = gradients(task, batch, "online", chunk)
        assert loss == pytest.approx(whole, rel=1e-12)
        # The last layer, and what lies above it, learn the same whatever the chunks.
        for name in ("blocks.1.layer.nu_log", "blocks.1.layer.input_weight", "head.weight"):
            assert relative_error(found[name], true[name]) < 1e-10


def test_a_mean_learns_from_each_chunk_as_much_as_it_holds(in_doubles: None) -> None:
    task = ListOps(sequences=20, min_length=10, max_length=30)
    batch = next(task.batches("train", 4, 0))
    loss, true = gradients(task, batch, "bptt", chunk=1)
    network = network_for(task, rule="bptt")
    outputs, _ = network(task.encode(batch.values).double(), None, batch.starts)
    expected = task.loss(outputs, batch.targets).mean()
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-12)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(true[name], parameter.grad)
    # Chunk by chunk the answer at the end is the same, and the gradient points the same way.
    for chunk in (1, 8):
        streamed, found = gradients(task, batch, "online", chunk)
        assert streamed == pytest.approx(loss, rel=1e-12)
        for name in ("head.weight", "head.bias"):
            torch.testing.assert_close(found[name], true[name])
        ours, theirs = (torch.cat([g[n].flatten() for n in true]) for g in (found, true))
        assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.9


@pytest.mark.learning
def test_online_recalls_what_truncation_cannot() -> None:
    # The cue is ten chunks away; noise hides it from a memory that has not learnt.
    accuracies = {}
    for rule in ("online", "truncated"):
        recipe = dataclasses.replace(
            sequence_recipe_for("recall"),
            rule=rule,
            length=200,
            horizon=200,
            chunk=20,
            updates=300,
        )
        task = make_task(recipe)
        accuracies[rule] = train(make_network(recipe, task), task, recipe).test_accuracy
    assert accuracies["online"] > 0.98
    assert accuracies["truncated"] < 0.8


def test_training_twice_gives_the_same() -> None:
    recipe = SequenceRecipe("copy", length=3, width=8, depth=1, state_size=6, updates=5)
    task = make_task(recipe)
    first, second = (train(make_network(recipe, task), task, recipe) for _ in range(2))
    assert first.curve == second.curve
    assert first.test_loss == second.test_loss


def test_what_is_not_finite_stops_training_with_the_update_and_the_layer() -> None:
    recipe = SequenceRecipe("copy", width=8, depth=2, state_size=6, updates=5)
    task = make_task(recipe)
    network = make_network(recipe, task)
    with torch.no_grad():
        dict(network.named_parameters())["blocks.1.layer.gamma_log"].fill_(torch.inf)
    with pytest.raises(DivergedError, match="Update 1: The state of layer 1 is not finite"):
        train(network, task, recipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "sing"}, "task should be one of copy, recall, listops, images, reviews."),
        ({"chunk": 0}, "chunk should be at least 1. Received 0."),
        ({"learning_rate": 0.0}, "learning_rate should be positive. Received 0.0."),
        ({"learning_rate": float("nan")}, "learning_rate should be positive. Received nan."),
    ],
)
def test_bad_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        SequenceRecipe(**{"task": "copy", **changes})  # type: ignore[arg-type]


def test_a_batch_without_steps() -> None:
    task = Copy(length=6, bits=3)
    batch = next(task.batches("train", 2, 0))
    empty = Batch(batch.values[:0], batch.targets[:0])
    with pytest.raises(InvalidValueError, match="at least one step"):
        learn_from(network_for(task), task, empty, chunk=4)


def test_bad_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SKILLRL_DATA", raising=False)
    with pytest.raises(InvalidValueError, match="name it with --data, or set SKILLRL_DATA"):
        make_task(SequenceRecipe("images"))
    monkeypatch.setenv("SKILLRL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InvalidValueError, match=r"There is no folder .*nowhere"):
        make_task(SequenceRecipe("reviews"))
    with pytest.raises(InvalidValueError, match="Images have no length"):
        make_task(SequenceRecipe("images", length=3))
    with pytest.raises(InvalidValueError, match="'copy' reads no data: leave out 'here'"):
        make_task(SequenceRecipe("copy", data="here"))
    recipe = SequenceRecipe("copy", sequences=10, batch_size=32)
    task = Recall(delay=3, sequences=10)
    with pytest.raises(InvalidValueError, match="fewer than 32 sequences, one batch"):
        train(make_network(recipe, task), task, recipe)
    with pytest.raises(InvalidValueError, match="There is no task 'sing': use one of copy"):
        sequence_recipe_for("sing")


def test_a_horizon_takes_the_place_of_a_recipes_smallest_magnitude() -> None:
    recipe = dataclasses.replace(sequence_recipe_for("listops"), width=4, state_size=50)
    network = make_network(dataclasses.replace(recipe, horizon=500), Copy())
    magnitudes = [
        layer.decay().norm(dim=-1).min() for layer in network.layers() if isinstance(layer, LRU)
    ]
    assert recipe.r_min == 0.9
    assert torch.stack(magnitudes).min() > 0.998  # exp(−1/500)


def test_a_file_that_holds_no_network(tmp_path: Path) -> None:
    Carry({"state": torch.zeros(1, 2)}).save(tmp_path / "carry.safetensors")
    with pytest.raises(
        DamagedFileError, match="holds no network of `skillrl sequence` but 'carry'"
    ):
        load_network(tmp_path / "carry.safetensors")
