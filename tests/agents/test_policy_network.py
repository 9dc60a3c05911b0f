import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy

from policies import ACTIONS, BOX, POLICIES, network, normalizer, observations, rate
from skillrl.agents.normalizer import Normalizer
from skillrl.agents.policy import SkillPolicy
from skillrl.agents.policy_network import PolicyNetwork, action_kl, policy_network
from skillrl.errors import InvalidValueError
from skillrl.permutation import align, symmetry_groups
from skillrl.rewards import precision


def test_a_normaliser_of_other_observations_is_refused() -> None:
    other = {name: np.resize(values, 4) for name, values in normalizer(1).arrays.items()}
    with pytest.raises(InvalidValueError, match=r"\(4,\).*observations .*\(3,\)"):
        policy_network(
            POLICIES["ppo"](ACTIONS),
            Normalizer(
                normalizer(1).arrays
                | {
                    name: values
                    for name, values in other.items()
                    if "mean" in name or "var" in name
                }
            ),
        )


@pytest.mark.parametrize("kind", POLICIES)
def test_networks_do_what_their_policies_do(kind: str) -> None:
    found: PolicyNetwork = network(kind, 1)
    seen = observations(found.recurrent)
    chunk = seen if found.recurrent else seen[None]
    state, starts = None, np.ones(chunk.shape[1], bool)
    other, actions = None, []
    for moment in chunk:
        chosen, state = found.predict(moment, state, starts)
        wanted, other = found.policy.predict(
            normalizer(1)(moment), other, starts, deterministic=True
        )
        np.testing.assert_allclose(chosen, wanted, atol=1e-5)
        actions.append(chosen)
        starts = np.zeros_like(starts)
    with torch.no_grad():
        together = found.actions(torch.as_tensor(seen)).numpy().reshape(*chunk.shape[:2], 2)
    scale = 2.0 if found.policy.squash_output else 1.0
    np.testing.assert_allclose(np.array(actions), scale * together, atol=1e-4)
    assert np.std(actions) > 1e-4


def test_discrete_actions_are_probabilities() -> None:
    found = network("ppo", 1, actions=spaces.MultiDiscrete([2, 3]))
    seen = observations(False)
    with torch.no_grad():
        probabilities = found.actions(torch.as_tensor(seen)).numpy()
    np.testing.assert_allclose(probabilities.sum(-1), 2, rtol=1e-5)
    chosen, _ = found.predict(seen)
    np.testing.assert_array_equal(chosen[:, 0], probabilities[:, :2].argmax(-1))
    np.testing.assert_array_equal(chosen[:, 1], probabilities[:, 2:].argmax(-1))


def test_other_policies_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="Received a DQNPolicy"):
        policy_network(DQNPolicy(BOX, spaces.Discrete(2), rate))


def test_images_are_compared_without_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_made_for_bfloat16", {"cpu"}.__contains__)
    images = spaces.Box(0, 255, (4, 36, 36), np.uint8)
    policy = SkillPolicy(images, spaces.Discrete(3), rate, hidden=(8,))
    found = policy_network(policy)
    seen = torch.as_tensor(np.stack([images.sample() for _ in range(3)]))
    with torch.no_grad():
        values = found(seen)[1]
        torch.testing.assert_close(found.double()(seen)[1], values.double(), rtol=1e-5, atol=1e-5)
    # Both convolutions, the dense layer behind them, and the hidden layers of actor and critic.
    assert len(symmetry_groups(found.float(), seen).groups) == 5


@pytest.mark.parametrize("kind", POLICIES)
def test_a_policy_does_what_it_does_itself(kind: str) -> None:
    first, second = network(kind, 1), network(kind, 2)
    inputs = torch.as_tensor(observations(first.recurrent))
    assert action_kl(first, [first], inputs) == pytest.approx(0, abs=1e-6)
    assert action_kl(first, [second], inputs) > 1e-6
    found = action_kl(first, [first, second], inputs)
    assert found == pytest.approx(action_kl(first, [second], inputs) / 2)


def test_divergences_of_actions_by_hand() -> None:
    first, second = network("ppo", 1), network("ppo", 2)
    inputs = torch.as_tensor(observations(False))
    with torch.no_grad():
        for each, mean, log_std in ((first, 1.0, 0.0), (second, 3.0, np.log(2))):
            each.policy.action_net.weight.zero_()
            each.policy.action_net.bias.fill_(mean)
            each.policy.log_std.fill_(log_std)
    # Two components, each ln(σ/σ_0) + (σ_0² + (μ_0 − μ)²) / 2σ² − ½.
    expected = 2 * (np.log(1 / 2) + (4 + 4) / 2 - 0.5)
    assert action_kl(first, [second], inputs) == pytest.approx(expected)

    choices = [network("ppo", seed, actions=spaces.MultiDiscrete([2, 3])) for seed in (1, 2)]
    with torch.no_grad():
        for choice, share in zip(choices, (0.5, 0.9), strict=True):
            choice.policy.action_net.weight.zero_()
            logits = [np.log(share), np.log(1 - share), 0.0, 0.0, 0.0]
            choice.policy.action_net.bias.copy_(torch.tensor(logits))
    wanted = 0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)
    assert action_kl(choices[0], [choices[1]], inputs) == pytest.approx(wanted, rel=1e-5)


def test_noise_that_is_drawn_for_many_steps_has_no_divergence() -> None:
    policy = ActorCriticPolicy(BOX, ACTIONS, rate, net_arch=[8], use_sde=True)
    found = policy_network(policy)
    with pytest.raises(InvalidValueError, match="use_sde"):
        action_kl(found, [found], torch.as_tensor(observations(False)))


@pytest.mark.parametrize("kind", [kind for kind in POLICIES if "sac" in kind])
def test_the_noise_of_sac_is_aligned_with_its_actions(kind: str) -> None:
    first, second = network(kind, 1), network(kind, 2)
    inputs = torch.as_tensor(observations(first.recurrent))
    alignment = align(first, second, inputs)
    moved = alignment.apply(second)
    assert isinstance(moved, PolicyNetwork)
    hidden = [each for each in alignment.transformation.elements if len(each.permutation) == 8]
    assert any((each.permutation != np.arange(8)).any() for each in hidden)
    with torch.no_grad():
        (before,), (after,) = (each.distributions(inputs) for each in (second, moved))
    torch.testing.assert_close(after.stddev, before.stddev, rtol=1e-4, atol=1e-6)
    assert float(before.stddev.std()) > 1e-3
    assert action_kl(moved, [second], inputs) == pytest.approx(0, abs=1e-6)
    assert action_kl(second, [moved], inputs) == pytest.approx(0, abs=1e-6)


def test_generalised_exploration_of_sac_has_means_alone() -> None:
    found = policy_network(SACPolicy(BOX, ACTIONS, rate, net_arch=[8], use_sde=True))
    seen = torch.as_tensor(observations(False))
    with torch.no_grad():
        assert found(seen)[0].shape == (60, 2)
    with pytest.raises(InvalidValueError, match="use_sde"):
        action_kl(found, [found], seen)


@pytest.mark.parametrize("kind", [kind for kind in POLICIES if "sac" in kind])
def test_a_second_network_can_be_made_of_a_policy(kind: str) -> None:
    first = network(kind, 1, normalised=False)
    second = policy_network(first.policy, normalizer(1))
    assert second.policy is first.policy
    assert not any("critic_target" in name for name, _ in second.named_parameters())
