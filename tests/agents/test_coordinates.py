import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import MultiInputActorCriticPolicy

from policies import ACTIONS, BOX, POLICIES, network, normalizer, observations, rate
from skillrl.agents.coordinates import in_shared_coordinates
from skillrl.agents.normalizer import Normalizer
from skillrl.agents.policy_network import policy_network
from skillrl.permutation import align
from skillrl.permutation.trace import call, evaluate


def test_inputs_are_expressed_in_the_first_networks_normaliser_exactly() -> None:
    for kind in POLICIES:
        for normalised in (True, False):
            if not normalised and "skill" not in kind:
                continue  # nothing normalises
            networks = [network(kind, seed, normalised=normalised).double() for seed in (1, 2, 3)]
            seen = observations(networks[0].recurrent)
            # Some are clipped, by one normaliser or by all of them, at either bound.
            far = np.random.default_rng(1).normal(size=seen.shape) * (seen > 101)
            inputs = torch.as_tensor(seen + 10 * far).double()
            found, coordinates = in_shared_coordinates(networks)
            assert coordinates == "shared"
            reference = dict(networks[0].named_buffers())
            for before, after in zip(networks, found, strict=True):
                with torch.no_grad():
                    wanted, given = (evaluate(each, inputs, call) for each in (before, after))
                for one, other in zip(wanted, given, strict=True):
                    assert float((one - other).abs().max() / one.abs().max()) < 1e-9, kind
                for name, buffer in after.named_buffers():
                    if name.rpartition(".")[2] in ("mean", "var", "mean0", "var0"):
                        assert torch.equal(buffer, reference[name])
                        own = dict(before.named_buffers())[name]
                        assert torch.equal(buffer, own) == (before is networks[0])
            given_weights = dict(found[0].named_parameters())
            for name, weight in networks[0].named_parameters():
                assert torch.equal(weight, given_weights[name])


def test_a_layer_worked_by_hand() -> None:
    first, second = network("ppo", 1), network("ppo", 2)
    (m_0, v_0), (m, v) = (
        (normalizer(seed).arrays["observation.mean"], normalizer(seed).arrays["observation.var"])
        for seed in (1, 2)
    )
    (_, found), _ = in_shared_coordinates([first, second])
    before, after = (each.policy.mlp_extractor.policy_net[0] for each in (second, found))
    weight, bias = (each.detach().double().numpy() for each in (before.weight, before.bias))
    np.testing.assert_allclose(
        after.weight.detach(), weight * np.sqrt((v_0 + 1e-8) / (v + 1e-8)), rtol=1e-6
    )
    np.testing.assert_allclose(
        after.bias.detach(), bias + weight @ ((m_0 - m) / np.sqrt(v + 1e-8)), rtol=1e-5
    )


def test_bounds_of_clipping_worked_by_hand() -> None:
    networks = [network("ppo", 1), network("ppo", 2)]
    networks[1].normalizer.epsilon = 0.5
    for each, mean, std in zip(networks, (0.0, 1.0), (1.0, 2.0), strict=True):
        each.normalizer.mean0.fill_(mean)
        each.normalizer.var0.fill_(std**2 - each.normalizer.epsilon)
    found, _ = in_shared_coordinates(networks)
    # Ten standard deviations of 2 around 1, in units of a standard deviation of 1 around 0.
    for each, low, high in zip(found, (-10, -19), (10, 21), strict=True):
        bounds = dict(each.named_buffers())
        np.testing.assert_allclose(bounds["normalizer.low0"], low)
        np.testing.assert_allclose(bounds["normalizer.high0"], high)
    inputs = torch.randn(50, 3)
    with torch.no_grad():
        for before, after in zip(networks, found, strict=True):
            torch.testing.assert_close(after.actions(inputs), before.actions(inputs))


def test_what_feeds_no_linear_layer_stays() -> None:
    space = spaces.Dict({"a": BOX})
    keyed = {k.replace("vation", "vation.a"): v for k, v in normalizer(1).arrays.items()}
    networks = [
        policy_network(
            MultiInputActorCriticPolicy(space, ACTIONS, rate, net_arch=[8]), Normalizer(keyed)
        )
        for _ in range(2)
    ]
    found, coordinates = in_shared_coordinates(networks)
    assert coordinates == "own"
    assert found == networks


def test_without_a_normaliser_networks_see_raw_observations() -> None:
    networks = [network("ppo", seed, normalised=False) for seed in (1, 2)]
    found, coordinates = in_shared_coordinates(networks)
    assert coordinates == "raw"
    assert found == networks


@pytest.mark.parametrize("kind", ["sac", "skill", "recurrent-skill", "skill-sac"])
def test_they_can_be_aligned(kind: str) -> None:
    first, second = network(kind, 1), network(kind, 2)
    inputs = torch.as_tensor(observations(first.recurrent))
    (first, second), _ = in_shared_coordinates([first, second])
    alignment = align(first, second, inputs)
    assert alignment.verify(inputs) < 1e-9
    assert len(alignment.transformation.elements) >= 2
