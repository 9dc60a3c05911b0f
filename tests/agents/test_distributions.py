import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from skillrl.agents.distributions import MIN_STD, Categorical, SquashedNormal


def parameters(batch: int, size: int, seed: int = 0) -> torch.Tensor:
    return 2.0 * torch.randn(batch, 2 * size, generator=torch.Generator().manual_seed(seed))


def reference(raw: torch.Tensor) -> Normal:
    mean, raw_std = raw.double().chunk(2, -1)
    return Normal(mean, torch.log1p(raw_std.exp()) + MIN_STD)


def test_log_probabilities_equal_torch_in_float64() -> None:
    raw = parameters(50, 4)
    actions = 3.0 * torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    expected = reference(raw).log_prob(actions.double()).sum(-1)
    log_prob = SquashedNormal(raw).log_prob(actions)
    assert log_prob.shape == (50,)
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-5, atol=1e-4)


def test_samples_follow_the_distribution() -> None:
    torch.manual_seed(0)
    raw = torch.tensor([0.5, -1.0, 1.0, -2.0])
    distribution = SquashedNormal(raw.expand(20_000, 4))
    samples = distribution.sample()
    means, stds = distribution.mean[0].numpy(), distribution.std[0].numpy()
    for column, mean, std in zip(samples.T.numpy(), means, stds, strict=True):
        assert stats.kstest(column, "norm", args=(mean, std)).pvalue > 1e-3
    assert abs(np.corrcoef(samples.T.numpy())[0, 1]) < 0.03
    assert torch.equal(distribution.mode(), raw[:2].expand(20_000, 2))


# Below zero and above it, narrow and wide, far into the tanh's flat ends.
CASES = torch.tensor([[0.0, 0.0], [1.5, -1.0], [-3.0, 2.0], [0.3, -4.0], [8.0, 0.5]])


def exact_entropy(raw: torch.Tensor) -> torch.Tensor:
    """Entropies of tanh of a normal variable by quadrature, in float64."""
    normal = reference(raw)
    squashed = TransformedDistribution(normal, [TanhTransform(cache_size=1)])
    grid = torch.linspace(-9.0, 9.0, 20_001, dtype=torch.float64)
    points = normal.mean + normal.stddev * grid
    density = torch.exp(-0.5 * grid.square()) / math.sqrt(2 * math.pi)
    # The transform remembers where the point came from, so that no digits are lost at ±1.
    log_prob = squashed.log_prob(squashed.transforms[0](points))
    return -torch.trapezoid(density * log_prob, grid, dim=-1)


def test_entropies_and_their_gradients_equal_quadrature() -> None:
    torch.manual_seed(0)
    samples = 40_000
    exact = CASES.clone().double().requires_grad_()
    expected = exact_entropy(exact)
    expected.sum().backward()
    raw = CASES.clone().requires_grad_()
    entropy = SquashedNormal(raw.expand(samples, *raw.shape).reshape(-1, 2)).entropy()
    entropy = entropy.view(samples, len(CASES)).mean(0)
    entropy.sum().backward()
    assert exact.grad is not None
    assert raw.grad is not None
    torch.testing.assert_close(entropy.double(), expected, rtol=0.0, atol=0.05)
    torch.testing.assert_close(raw.grad.double(), exact.grad, rtol=0.0, atol=0.03)


def test_the_entropy_of_several_components_is_their_sum() -> None:
    torch.manual_seed(0)
    means, raw_stds = CASES[:3, 0], CASES[:3, 1]
    raw = torch.cat([means, raw_stds]).expand(40_000, 6)
    entropy = SquashedNormal(raw).entropy()
    assert entropy.shape == (40_000,)
    expected = exact_entropy(CASES[:3]).sum().item()
    assert entropy.mean().item() == pytest.approx(expected, abs=0.05)


def test_extreme_parameters_stay_finite() -> None:
    raw = torch.tensor([[1e3, -1e3, 1e3, -1e3], [-50.0, 50.0, -50.0, 50.0]], requires_grad=True)
    distribution = SquashedNormal(raw)
    sample = distribution.sample().detach()
    total = distribution.entropy().sum() + distribution.log_prob(sample).sum()
    total.backward()
    assert total.isfinite()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert (distribution.std >= MIN_STD).all()


@pytest.mark.parametrize("std", [0.3, 1.0, 2.5])
def test_noise_is_widened_until_the_largest_is_as_asked_for(std: float) -> None:
    raw = parameters(100, 3)
    raw[0, 3:] = torch.tensor([-20.0, -19.0, -25.0])
    widened = SquashedNormal.widen(raw, std)
    distribution = SquashedNormal(widened)
    largest = distribution.std.amax(-1)
    torch.testing.assert_close(largest, torch.full((100,), std), rtol=1e-6, atol=1e-6)
    assert torch.equal(distribution.mean, raw[:, :3])
    # All components of one observation are shifted by the same amount before the softplus.
    shift = widened[:, 3:] - raw[:, 3:]
    torch.testing.assert_close(shift, shift[:, :1].expand(-1, 3), rtol=0.0, atol=1e-5)


def test_a_categorical_equals_torchs_in_float64() -> None:
    logits = 3.0 * torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    actions = torch.arange(40)[:, None] % 5
    expected = torch.distributions.Categorical(logits=logits.double())
    ours = Categorical(logits)
    log_prob = ours.log_prob(actions.float())  # as a rollout buffer stores them
    assert log_prob.shape == ours.entropy().shape == (40,)
    torch.testing.assert_close(log_prob.double(), expected.log_prob(actions[:, 0]))
    torch.testing.assert_close(ours.entropy().double(), expected.entropy())
    assert torch.equal(ours.mode(), logits.argmax(-1, keepdim=True))


def test_a_categorical_samples_each_action_as_often_as_it_says() -> None:
    torch.manual_seed(0)
    probabilities = np.array([0.5, 0.25, 0.1875, 0.0625])
    logits = torch.as_tensor(np.log(probabilities) + 7.0).float()  # not normalised
    samples = Categorical(logits.expand(20_000, 4)).sample()
    assert samples.shape == (20_000, 1)
    counts = torch.bincount(samples[:, 0], minlength=4).numpy()
    assert stats.chisquare(counts, 20_000 * probabilities).pvalue > 1e-3


def test_an_impossible_action_is_never_sampled() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, -1e9, 0.0]]).expand(5_000, 3)
    assert set(Categorical(logits).sample()[:, 0].tolist()) == {0, 2}
