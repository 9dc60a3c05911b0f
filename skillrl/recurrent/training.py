"""Training on streams: chunk after chunk, with memory that does not grow with their length."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skillrl.errors import DamagedFileError, DivergedError, InvalidValueError
from skillrl.files import load_moments, load_state, moments, read_tensors, write_tensors
from skillrl.recurrent.carry import Carry
from skillrl.recurrent.layer import RecurrentLayer
from skillrl.recurrent.lru import LRU
from skillrl.recurrent.recipes import SequenceRecipe
from skillrl.recurrent.rtu import LinearRTU, NonlinearRTU
from skillrl.recurrent.snap import GRU, LinearRNN
from skillrl.recurrent.stack import Readout, RecurrentStack, parameter_groups
from skillrl.recurrent.tasks import Copy, ListOps, Recall, Reviews, SequentialImages
from skillrl.recurrent.tasks.task import Batch, Ends, Task

TASKS: dict[str, Callable[..., Task]] = {
    "copy": Copy,
    "recall": Recall,
    "listops": ListOps,
    "images": SequentialImages,
    "reviews": Reviews,
}


def make_task(recipe: SequenceRecipe) -> Task:
    """Return the recipe's task.

    Raises:
        InvalidValueError: if a size is out of range, or the folder of the data is missing, not
            laid out as the task needs it, or named where none is read.
    """
    own: dict[str, Any] = {}
    if recipe.sequences is not None:
        own["limit" if recipe.task in ("images", "reviews") else "sequences"] = recipe.sequences
    if recipe.length is not None:
        names = {"copy": "length", "recall": "delay", "listops": "max_length"}
        if recipe.task == "images":
            raise InvalidValueError("Images have no length of one's choice: leave it out.")
        own[names.get(recipe.task, "max_length")] = recipe.length
        if recipe.task == "listops":
            own["min_length"] = recipe.length // 4
    if recipe.task in ("images", "reviews"):
        folder = recipe.data or os.environ.get("SKILLRL_DATA")
        if not folder:
            raise InvalidValueError(
                f"The task {recipe.task!r} reads its data from a folder: name it with --data, or "
                "set SKILLRL_DATA."
            )
        own["folder"] = folder
    elif recipe.data is not None:
        raise InvalidValueError(
            f"The task {recipe.task!r} reads no data: leave out {recipe.data!r}."
        )
    return TASKS[recipe.task](**own)


def make_network(recipe: SequenceRecipe, task: Ends) -> RecurrentStack:
    """Return a new network of the recipe for the task, with weights drawn from its seed.

    Raises:
        InvalidValueError: if a setting is out of range, or the layer does not have the rule.
    """
    radius: dict[str, Any] = {"r_max": recipe.r_max}
    if recipe.horizon is None:
        radius["r_min"] = recipe.r_min
    else:
        radius["horizon"] = recipe.horizon
    layers: dict[str, Callable[[int], RecurrentLayer]] = {
        "lru": lambda width: LRU(width, recipe.state_size, rule=recipe.rule, **radius),
        "linear-rtu": lambda width: LinearRTU(width, recipe.state_size, rule=recipe.rule, **radius),
        "nonlinear-rtu": lambda width: NonlinearRTU(
            width, recipe.state_size, rule=recipe.rule, **radius
        ),
        "linear-rnn": lambda width: LinearRNN(width, recipe.state_size, rule=recipe.rule),
        "gru": lambda width: GRU(width, recipe.state_size, rule=recipe.rule),
    }
    torch.manual_seed(recipe.seed)
    return RecurrentStack(
        task.input_size,
        task.output_size,
        width=recipe.width,
        depth=recipe.depth,
        layer=layers[recipe.layer],
        readout=task.readout,
        dropout=recipe.dropout,
    ).to(recipe.device)


@dataclass(frozen=True)
class _Sizes:
    """See ``Ends``."""

    input_size: int
    output_size: int
    readout: Readout


def save_network(path: Path, network: RecurrentStack, recipe: SequenceRecipe) -> None:
    """Write a network and what it is made of to a safetensors file; see ``load_network``."""
    sizes = _Sizes(network.encoder.in_features, network.head.out_features, network.readout)
    description = {
        "format": "sequence",
        "recipe": dataclasses.asdict(recipe),
        **dataclasses.asdict(sizes),
    }
    write_tensors(path, network.state_dict(), description)


def load_network(path: str | os.PathLike[str]) -> RecurrentStack:
    """Return the network that ``skillrl sequence`` saved, ``network.safetensors``, on the CPU.

    Raises:
        DamagedFileError: if the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    tensors, description = read_tensors(path)
    if description.get("format") != "sequence":
        raise DamagedFileError(
            f"{path} holds no network of `skillrl sequence` but {description.get('format')!r}."
        )
    try:
        recipe = SequenceRecipe(**{**description["recipe"], "device": "cpu"})
        sizes = _Sizes(*(description[item.name] for item in dataclasses.fields(_Sizes)))
        network = make_network(recipe, sizes)
    except (KeyError, TypeError, InvalidValueError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}.") from None
    load_state(network, tensors, path)
    return network


@dataclass(frozen=True)
class Point:
    """A moment of the training."""

    update: int
    """Gradient steps so far."""
    loss: float
    """Mean training loss since the last point."""
    accuracy: float
    """Share of the answers in the training batches since the last point that were right."""


@dataclass
class Outcome:
    """What a training has come to."""

    test_loss: float = math.nan
    """Mean loss on the test set."""
    test_accuracy: float = math.nan
    """Share of the answers on the test set that are right."""
    seconds: float = 0.0
    """Duration of the training."""
    curve: list[Point] = field(default_factory=list)
    """The training: its first update, and a hundred points at most."""


@dataclass
class _Score:
    """Sums over sequences and over answers."""

    loss: float = 0.0
    sequences: int = 0
    right: float = 0.0
    answers: int = 0

    def add(self, loss: float, right: Tensor, sequences: int) -> None:
        self.loss += loss * sequences
        self.sequences += sequences
        self.right += float(right.sum())
        self.answers += right.numel()

    @property
    def means(self) -> tuple[float, float]:
        return self.loss / self.sequences, self.right / self.answers


def train(
    network: RecurrentStack,
    task: Task,
    recipe: SequenceRecipe,
    on_point: Callable[[Point], None] = lambda point: None,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train a network on a task, and test it.

    Args:
        network: for the task.
        task: what it learns.
        recipe: of the training.
        on_point: is called at every point of the curve.
        checkpoint: a file that is written at every point, before ``on_point``; where there is one
            already, the training goes on from there as if it had never stopped, and ``on_point``
            is called with the points until then at once.

    Raises:
        DamagedFileError: if the checkpoint is damaged, or that of another network.
        DivergedError: if a state or a loss is not finite, with the update and the layer.
        InvalidValueError: if the training set holds no whole batch, or the checkpoint is that of a
            training with other settings.
    """
    network.train()
    groups = parameter_groups(network, recipe.learning_rate, recipe.recurrent_share)
    groups[0]["weight_decay"] = recipe.weight_decay
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.updates)
    outcome = Outcome()
    kept = _Kept(recipe, network, optimizer, schedule, outcome)
    if checkpoint is not None and checkpoint.exists():
        kept.load(checkpoint)
        for point in outcome.curve:
            on_point(point)
    started, score = time.monotonic() - outcome.seconds, _Score()
    done = outcome.curve[-1].update if outcome.curve else 0
    batches = itertools.islice(_endless(task, recipe), done, None)
    every = math.ceil(recipe.updates / 100)
    for update in range(done + 1, recipe.updates + 1):
        optimizer.zero_grad()
        try:
            batch = next(batches)
            score.add(*learn_from(network, task, batch, recipe.chunk), recipe.batch_size)
        except DivergedError as error:
            raise DivergedError(f"Update {update}: {error}") from error
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
        # The first one shows at once that it learns, and how long it takes.
        if update == 1 or update % every == 0 or update == recipe.updates:
            outcome.curve.append(Point(update, *score.means))
            outcome.seconds = time.monotonic() - started
            if checkpoint is not None:
                kept.save(checkpoint)
            on_point(outcome.curve[-1])
            score = _Score()
    outcome.test_loss, outcome.test_accuracy = evaluate(network, task, recipe.batch_size)
    return outcome


@dataclass
class _Kept:
    """What a training needs to go on as if never stopped, beside torch's random state."""

    recipe: SequenceRecipe
    network: RecurrentStack
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    outcome: Outcome

    def save(self, path: Path) -> None:
        """Write it to a safetensors file."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, value in moments(self.optimizer).items():
            tensors[f"optimizer.{name}"] = value
        tensors["random"] = torch.get_rng_state()
        description = {
            "format": "sequence checkpoint",
            "recipe": dataclasses.asdict(self.recipe),
            "learning_rates": [group["lr"] for group in self.optimizer.param_groups],
            "schedule": self.schedule.state_dict(),
            "seconds": self.outcome.seconds,
            "curve": [dataclasses.astuple(point) for point in self.outcome.curve],
        }
        write_tensors(path, tensors, description)

    def load(self, path: Path) -> None:
        """Take up what ``save`` wrote."""
        tensors, description = read_tensors(path)
        if description.get("format") != "sequence checkpoint":
            raise DamagedFileError(
                f"{path} holds no checkpoint of a sequence but {description.get('format')!r}."
            )
        for name, now in dataclasses.asdict(self.recipe).items():
            then = description["recipe"].get(name)
            if then != now and name not in ("data", "device"):
                raise InvalidValueError(
                    f"The training in {path.parent} has {name}={then!r}. To go on with it, name "
                    f"the same settings as then. Received {name}={now!r}."
                )
        try:
            load_state(self.network, _under("network", tensors), path)
            load_moments(self.optimizer, _under("optimizer", tensors))
            for group, rate in zip(
                self.optimizer.param_groups, description["learning_rates"], strict=True
            ):
                group["lr"] = rate
            self.schedule.load_state_dict(description["schedule"])
            torch.set_rng_state(tensors["random"])
            self.outcome.seconds = float(description["seconds"])
            self.outcome.curve = [Point(*point) for point in description["curve"]]
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise DamagedFileError(
                f"{path} is damaged: {error}. Delete it to begin anew."
            ) from None


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, under the rest of their names."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def evaluate(network: RecurrentStack, task: Task, batch_size: int) -> tuple[float, float]:
    """Return the mean loss and the share of right answers on the test set."""
    score = _Score()
    training = network.training
    network.eval()
    with torch.no_grad():
        for batch in task.batches("test", batch_size, 0):
            score.add(*learn_from(network, task, batch, chunk=256), batch.values.shape[1])
    network.train(training)
    return score.means


def learn_from(
    network: RecurrentStack, task: Task, batch: Batch, chunk: int
) -> tuple[float, Tensor]:
    """Stream a batch through the network and add up the gradients, where there are gradients.

    With a mean over all steps as read-out, the answer stands only at the end. The steps of each
    chunk learn from the answer so far in its place, and count as much as they do in the whole; the
    head learns from the answer at the end. A single chunk is exact.

    Args:
        network: with a rule.
        task: that the batch belongs to.
        batch: whole sequences.
        chunk: steps that are processed at a time; all of them by the rule "bptt".

    Returns:
        The loss, and which answers are right.

    Raises:
        DivergedError: if a state or the loss is not finite.
        InvalidValueError: if the batch has no steps.
    """
    steps, learning = len(batch.values), torch.is_grad_enabled()
    chunk = steps if learning and network.rule == "bptt" else chunk
    frozen = [(parameter, parameter.requires_grad) for parameter in network.head.parameters()]
    try:
        return _stream(network, task, batch, chunk)
    finally:
        for parameter, learns in frozen:
            parameter.requires_grad_(learns)


def _stream(network: RecurrentStack, task: Task, batch: Batch, chunk: int) -> tuple[float, Tensor]:
    """See ``learn_from``."""
    steps, learning = len(batch.values), torch.is_grad_enabled()
    device = network.head.weight.device
    head = [parameter for parameter in network.head.parameters() if parameter.requires_grad]
    carry: Carry | None = None
    total, right = 0.0, []
    for begin in range(0, steps, chunk):
        part = slice(begin, min(begin + chunk, steps))
        starts = None if batch.starts is None else batch.starts[part].to(device)
        inputs = task.encode(batch.values[part].to(device))
        last = part.stop == steps
        for parameter in head:
            parameter.requires_grad_(last or network.readout == "step")
        # Steps whose outputs do not count only have to be remembered.
        counts = None if batch.counts is None else batch.counts[part].to(device)
        silent = network.readout == "step" and counts is not None and not bool(counts.any())
        if carry is None:
            carry = network.initial_carry(
                inputs.shape[1], sensitivities=None if learning else False
            )
        with torch.set_grad_enabled(learning and not silent):
            outputs, carry = network(inputs, carry, starts)
            if silent:
                continue
            if network.readout == "mean":
                targets = batch.targets.to(device)
                loss = (task.loss(outputs, targets) * _share(batch, part.stop, device)).mean()
                answered = task.correct(outputs, targets) if last else None
                final = float(loss.detach()) if last else 0.0
            else:
                targets = batch.targets[part].to(device)
                outputs, targets = (
                    (outputs, targets) if counts is None else (outputs[counts], targets[counts])
                )
                whole = steps if batch.counts is None else int(batch.counts.sum())
                loss = task.loss(outputs, targets).sum() / (whole * inputs.shape[1])
                answered, final = task.correct(outputs, targets), float(loss.detach())
            if not torch.isfinite(loss):
                carry.check_finite()
                raise DivergedError(
                    f"The loss at step {part.stop} is {float(loss.detach())}: lower the learning "
                    "rate."
                )
        if learning:
            loss.backward()
        total += final
        if answered is not None:
            right.append(answered)
    if carry is None:
        raise InvalidValueError("A batch needs at least one step.")
    carry.check_finite()
    return total, torch.cat(right)


def _share(batch: Batch, end: int, device: torch.device) -> Tensor:
    """The share of each sequence that is over at a step, ``(batch,)``."""
    steps = len(batch.values)
    if batch.starts is None:
        return torch.tensor(end / steps, device=device)
    begins = batch.starts.to(device).int().argmax(0)
    return (end - begins).clamp_min(0) / (steps - begins)


def _seed(*numbers: int) -> int:
    """One number for several."""
    return random.Random(" ".join(map(str, numbers))).getrandbits(32)


def _endless(task: Task, recipe: SequenceRecipe) -> Iterator[Batch]:
    """Pass after pass over the training set."""
    epoch = 0
    while True:
        empty = True
        for batch in task.batches("train", recipe.batch_size, _seed(recipe.seed, epoch)):
            empty = False
            yield batch
        if empty:
            raise InvalidValueError(
                f"The training set has fewer than {recipe.batch_size} sequences, one batch."
            )
        epoch += 1
