import copy
from typing import Any

import numpy as np
import pytest
import torch

from skillrl.errors import InvalidValueError
from skillrl.rewards import NeuralReward, Separation, fit_reward

POSITIVE, NEGATIVE, ARCHIVED, OTHER = 1.0, 2.0, 3.0, 4.0
NONE = np.empty((0, 2), np.float32)


def labelled(label: float, count: int) -> np.ndarray:
    """Observations that say which group they belong to and which row of it they are."""
    return np.stack([np.full(count, label), np.arange(count)], 1).astype(np.float32)


def cloud(centre: float, count: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(centre, 1.0, (count, 2))
    return points.astype(np.float32)


def new_reward(target: float = 5.0, seed: int = 0) -> NeuralReward:
    torch.manual_seed(seed)
    return NeuralReward((2,), target=target, hidden=32)


def first_weight(reward: NeuralReward) -> torch.Tensor:
    return next(reward.network.parameters()).detach().clone()


def fit(
    reward: NeuralReward,
    positives: np.ndarray,
    negatives: np.ndarray,
    archive: np.ndarray = NONE,
    others: np.ndarray = NONE,
    *,
    seed: int = 0,
    **settings: Any,
) -> Separation:
    settings = {"steps": 300, "batch_size": 192, "learning_rate": 3e-3, **settings}
    generator = torch.Generator().manual_seed(seed)
    return fit_reward(
        reward, positives, negatives, archive, others, generator=generator, **settings
    )


def recorded_fit(
    *groups: np.ndarray, std: float = 1024.0, **settings: Any
) -> tuple[list[np.ndarray], list[np.ndarray], NeuralReward]:
    """Fit, and return the batches that were trained on and those that were only looked at.

    ``std`` is the reward's own.
    """
    trained: list[np.ndarray] = []
    looked_at: list[np.ndarray] = []
    reward = new_reward()
    reward.std.fill_(std)

    def record(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        (trained if torch.is_grad_enabled() else looked_at).append(
            np.round(np.sinh(inputs[0].double().numpy()) * std, 3)
        )

    reward.network.register_forward_pre_hook(record)
    fit(reward, *groups, **settings)
    return trained, looked_at, reward


def count(batch: np.ndarray) -> dict[float, int]:
    labels, counts = np.unique(batch[:, 0].round(3), return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def test_batches_are_equal_thirds() -> None:
    groups = labelled(POSITIVE, 40), labelled(NEGATIVE, 1000), labelled(ARCHIVED, 300)
    trained, _, _ = recorded_fit(*groups, steps=20, batch_size=90)
    assert [count(batch) for batch in trained] == [{POSITIVE: 30, NEGATIVE: 30, ARCHIVED: 30}] * 20


def test_batches_are_halves_while_the_archive_is_empty() -> None:
    groups = labelled(POSITIVE, 40), labelled(NEGATIVE, 1000)
    trained, _, _ = recorded_fit(*groups, steps=20, batch_size=90)
    assert [count(batch) for batch in trained] == [{POSITIVE: 45, NEGATIVE: 45}] * 20


def test_other_ways_are_a_share_of_their_own_and_unwanted() -> None:
    groups = (labelled(POSITIVE, 40), labelled(NEGATIVE, 1000), NONE, labelled(OTHER, 300))
    trained, _, _ = recorded_fit(*groups, steps=20, batch_size=90)
    assert [count(batch) for batch in trained] == [{POSITIVE: 30, NEGATIVE: 30, OTHER: 30}] * 20
    reward = new_reward()
    others = cloud(12.0, 600, 2)
    fit(reward, cloud(4.0, 600, 0), cloud(-4.0, 600, 1), NONE, others, learning_rate=0.01)
    assert reward.reward(cloud(4.0, 500, 4)).mean() > 0.7 * 5
    assert reward.reward(cloud(12.0, 500, 5)).mean() < 0.05 * 5


def test_observations_that_are_held_out_are_not_trained_on() -> None:
    groups = labelled(POSITIVE, 100), labelled(NEGATIVE, 200), labelled(ARCHIVED, 60)
    trained, looked_at, _ = recorded_fit(*groups, steps=200, batch_size=300)
    seen = {tuple(row) for batch in trained for row in batch.round(2).tolist()}
    held_out = [{tuple(row) for row in batch.round(2).tolist()} for batch in looked_at]
    # A tenth of each group; the rest, which 20,000 draws a group do not miss, was trained on.
    assert [len(rows) for rows in held_out] == [10, 20, 6]
    assert all(seen.isdisjoint(rows) for rows in held_out)
    assert len(seen) == 90 + 180 + 54
    # They are not simply the first ones, which one environment visited in a row.
    assert {row for _, row in held_out[1]} != set(range(20))


def test_shares_are_those_of_the_held_out_observations() -> None:
    # Clouds that overlap, so that not all shares are 0 or 1.
    groups = [cloud(centre, 500, seed) for seed, centre in enumerate((1.0, 0.0, 0.5))]
    _, looked_at, reward = recorded_fit(*groups, std=1.0, steps=150)
    expected = [np.mean(reward.reward(held_out) > 0.0) for held_out in list(looked_at)]
    separation = fit(new_reward(), *groups, steps=150)
    shares = [separation.positives, separation.negatives, separation.archive]
    assert shares == pytest.approx(expected, abs=1e-6)
    assert 0.0 < expected[2] < expected[0] < 1.0


def test_a_fit_equals_adam_in_float64() -> None:
    target, weight_decay, steps = 0.5, 0.1, 30
    groups = [cloud(centre, 50, seed) for seed, centre in enumerate((1.0, -1.0, 0.0))]
    trained: list[torch.Tensor] = []
    reward = new_reward(target)
    network = copy.deepcopy(reward.network).double()
    reward.network.register_forward_pre_hook(lambda _, inputs: trained.append(inputs[0].double()))
    separation = fit(
        reward, *groups, steps=steps, batch_size=31, learning_rate=0.01, weight_decay=weight_decay
    )

    means = [torch.zeros_like(p) for p in network.parameters()]
    squares = [torch.zeros_like(p) for p in network.parameters()]
    targets = torch.tensor([target] * 10 + [-target] * 20, dtype=torch.float64)
    losses = []
    for step, batch in enumerate(trained[:steps], start=1):
        loss = ((network(batch)[:, 0] - targets) ** 2).mean()
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for p, gradient, m, v in zip(
                network.parameters(), gradients, means, squares, strict=True
            ):
                decayed = gradient + weight_decay * p
                m.mul_(0.9).add_(0.1 * decayed)
                v.mul_(0.999).add_(0.001 * decayed**2)
                p.sub_(0.01 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))
    for fitted, expected in zip(reward.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(fitted.double(), expected, rtol=1e-4, atol=1e-5)
    assert separation.loss == pytest.approx(np.mean(losses[-3:]), rel=1e-4)


def test_what_can_be_separated_is_separated() -> None:
    reward = new_reward()
    archive = np.concatenate([cloud(-4.0, 300, 2), cloud(12.0, 300, 3)])
    separation = fit(reward, cloud(4.0, 600, 0), cloud(-4.0, 600, 1), archive, learning_rate=0.01)
    assert separation.positives > 0.95
    assert separation.negatives < 0.05
    assert separation.archive is not None
    assert separation.archive < 0.05
    assert separation.loss < 0.3 * 25
    # It holds of new observations, and the reward asks for the positives fully.
    assert reward.reward(cloud(4.0, 500, 4)).mean() > 0.8 * 5
    assert reward.reward(cloud(-4.0, 500, 5)).mean() < 0.02 * 5


def test_the_loss_of_what_cannot_be_separated_is_that_of_a_constant() -> None:
    same = cloud(0.0, 4_000, 0)
    settings: dict[str, Any] = {"steps": 200, "batch_size": 3_000}
    # Halves at +5 and −5: the best constant is 0, its error 5².
    separation = fit(new_reward(), same, same, **settings)
    assert separation.loss == pytest.approx(25.0, rel=0.03)
    assert separation.archive is None
    # One third at +5, two at −5: the best constant is −5/3, its error 5² · 8/9.
    separation = fit(new_reward(), same, same, same, **settings)
    assert separation.loss == pytest.approx(25.0 * 8 / 9, rel=0.03)
    assert separation.positives < 0.05


def test_a_fit_goes_on_until_it_separates() -> None:
    # Four clouds crosswise: a line cannot separate them, so that it takes a while.
    signs = np.array([1.0, -1.0], np.float32)
    positives = np.concatenate([cloud(3.0, 300, 0), cloud(-3.0, 300, 1)])
    groups = positives, np.concatenate([cloud(3.0, 300, 2), cloud(-3.0, 300, 3)]) * signs
    settings: dict[str, Any] = {"steps": 5, "learning_rate": 3e-3}
    once = fit(new_reward(), *groups, **settings)
    often = fit(new_reward(), *groups, **settings, max_fits=50)
    assert not once.clear
    assert often.clear
    # It stopped as soon as it did: a clear fit does not go on.
    trained, looked_at, _ = recorded_fit(*groups, std=1.0, **settings, max_fits=50)
    assert 5 < len(trained) < 50 * 5
    assert len(trained) % 5 == 0
    # What was held out stays the same.
    for first, last in zip(looked_at[:2], looked_at[-2:], strict=True):
        np.testing.assert_array_equal(first, last)


def test_what_cannot_be_separated_is_given_up() -> None:
    same = cloud(0.0, 400, 0)
    trained, _, _ = recorded_fit(same, same, steps=10, max_fits=3)
    assert len(trained) == 30


def test_training_goes_on_from_the_present_weights() -> None:
    reward = new_reward()
    groups = cloud(4.0, 600, 0), cloud(-4.0, 600, 1)
    fit(reward, *groups)
    again = fit(reward, *groups, steps=10)
    from_new = fit(new_reward(), *groups, steps=10)
    assert again.loss < 0.1 * from_new.loss


def test_the_generator_alone_decides() -> None:
    groups = cloud(1.0, 100, 0), cloud(-1.0, 100, 1), cloud(0.0, 100, 2)
    global_state = torch.get_rng_state()
    rewards = []
    for seed in (0, 0, 1):
        reward = new_reward(seed=7)
        torch.set_rng_state(global_state)
        separation = fit(reward, *groups, seed=seed, steps=20)
        assert torch.equal(torch.get_rng_state(), global_state)
        rewards.append((first_weight(reward), separation))
    assert torch.equal(rewards[0][0], rewards[1][0])
    assert rewards[0][1] == rewards[1][1]
    assert not torch.equal(rewards[0][0], rewards[2][0])


def test_a_grid_is_fitted_too() -> None:
    torch.manual_seed(0)
    reward = NeuralReward((2,), "grid", size=(32, 32), target=0.05, hidden=100)
    rng = np.random.default_rng(0)
    near, far = rng.integers(1, 10, (500, 2)), rng.integers(14, 28, (500, 2))
    separation = fit(reward, far, near, np.empty((0, 2), np.int64), steps=100)
    assert separation.positives > 0.95
    assert separation.negatives < 0.05


def test_statistics_stay_frozen() -> None:
    reward = new_reward()
    reward.standardise(torch.as_tensor(cloud(2.0, 100, 0)))
    before = reward.mean.clone(), reward.std.clone()
    fit(reward, cloud(4.0, 100, 1), cloud(-4.0, 100, 2), steps=5)
    assert torch.equal(reward.mean, before[0])
    assert torch.equal(reward.std, before[1])


@pytest.mark.parametrize("name", ["positives", "negatives"])
@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_observations_are_named(name: str, rows: int) -> None:
    groups: dict[str, Any] = {"positives": cloud(1.0, 10, 0), "negatives": cloud(-1.0, 10, 1)}
    groups[name] = groups[name][:rows]
    with pytest.raises(InvalidValueError, match=f"at least two {name}. Received {rows}"):
        fit(new_reward(), **groups)


@pytest.mark.parametrize("name", ["positives", "negatives", "archive"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_observations_that_are_not_finite_are_named(name: str, value: float) -> None:
    groups: dict[str, Any] = {
        "positives": cloud(1.0, 10, 0),
        "negatives": cloud(-1.0, 10, 1),
        "archive": cloud(0.0, 10, 2),
    }
    groups[name][3, 1] = value
    reward = new_reward()
    before = first_weight(reward)
    with pytest.raises(InvalidValueError, match=f"The {name} hold"):
        fit(reward, **groups)
    assert torch.equal(first_weight(reward), before)


def test_two_observations_are_enough() -> None:
    separation = fit(new_reward(), cloud(4.0, 2, 0), cloud(-4.0, 2, 1), cloud(-4.0, 1, 2), steps=1)
    assert separation.archive is None
