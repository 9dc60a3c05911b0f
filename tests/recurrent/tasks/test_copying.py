import re

import pytest
import torch

from skillrl.errors import InvalidValueError
from skillrl.recurrent.tasks import Copy, Recall


def test_a_pattern_is_shown_then_cued_then_asked_for() -> None:
    task = Copy(length=3, bits=2, sequences=10)
    (batch, *rest) = task.batches("train", 5, seed=0)
    assert len(rest) == 1
    inputs = task.encode(batch.values)
    assert inputs.shape == (6, 5, 3)
    pattern, cues = inputs[..., :2], inputs[..., 2]
    assert torch.equal(pattern[:3], batch.targets[3:].float())
    assert pattern[3:].abs().sum() == 0
    assert cues.tolist() == [[0] * 5] * 3 + [[1] * 5] + [[0] * 5] * 2
    assert batch.counts is not None and batch.counts.tolist() == [False] * 3 + [True] * 3


def test_an_oracle_copies_all_and_a_guess_half() -> None:
    task = Copy()
    (batch, *_) = task.batches("test", 200, seed=0)
    targets = batch.targets[20:]
    oracle = 20.0 * (2 * targets.float() - 1)
    assert task.correct(oracle, targets).all()
    assert task.loss(oracle, targets).max() < 1e-6
    torch.testing.assert_close(
        task.loss(torch.zeros_like(oracle), targets), torch.full((20, 200), 2.0).log()
    )
    guess = task.correct(torch.ones_like(oracle), targets).float().mean()
    assert guess == pytest.approx(0.5, abs=0.02)


def test_recall_shows_the_cue_once_and_asks_at_the_end() -> None:
    task = Recall(delay=5, cues=3, sequences=64, noise=2.0)
    (batch,) = task.batches("train", 64, seed=1)
    inputs = task.encode(batch.values)
    assert inputs.shape == (7, 64, 5)
    assert torch.equal(inputs[0, :, :3].argmax(-1), batch.targets[-1])
    assert inputs[1:, :, :3].abs().sum() == 0
    assert inputs[:, 0, 3].tolist() == [0] * 6 + [1]
    assert inputs[..., 4].std().item() == pytest.approx(2, abs=0.2)
    assert batch.counts is not None and batch.counts.nonzero().tolist() == [[6]]


@pytest.mark.parametrize("task", [Copy(sequences=50), Recall(delay=3, sequences=50)])
def test_training_differs_by_seed_and_tests_do_not(task: Copy | Recall) -> None:
    def first(split: str, seed: int) -> torch.Tensor:
        return next(task.batches(split, 25, seed)).values  # type: ignore[arg-type]

    assert torch.equal(first("train", 1), first("train", 1))
    assert not torch.equal(first("train", 1), first("train", 2))
    assert torch.equal(first("test", 1), first("test", 2))


def test_no_training_set_holds_the_test_set() -> None:
    task = Recall(delay=3, sequences=512)
    (test,) = task.batches("test", 512, 0)
    for seed in (0, 1, 512, 2**32):
        (batch,) = task.batches("train", 512, seed)
        assert not torch.equal(batch.values, test.values)
    copy = Copy(sequences=1_000)
    train, test = (next(copy.batches(split, 1_000, 0)) for split in ("train", "test"))
    assert not torch.equal(train.values.sort(1).values, test.values.sort(1).values)
    # The same training set in another order.
    other = next(copy.batches("train", 1_000, 1))
    sums = [batch.values.flatten(0, 0).long().sum((0, 2)).sort().values for batch in (train, other)]
    assert torch.equal(*sums) and not torch.equal(train.values, other.values)


def test_all_of_the_test_set_is_tested_on() -> None:
    for task, count in ((Copy(), 1_000), (Recall(delay=3), 512)):
        assert sum(b.values.shape[1] for b in task.batches("test", 300, 0)) == count


def test_bad_sizes() -> None:
    with pytest.raises(InvalidValueError, match="length=0, bits=7"):
        Copy(length=0)
    with pytest.raises(InvalidValueError, match=re.escape("cues=1")):
        Recall(cues=1)
