from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import (
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy

from skillrl.agents.normalizer import Normalizer
from skillrl.agents.policy import SkillPolicy
from skillrl.agents.policy_network import (
    PolicyNetwork,
    action_kl,
    in_shared_coordinates,
    policy_network,
)
from skillrl.agents.recurrent_policy import RecurrentPolicy
from skillrl.agents.recurrent_sac_policy import RecurrentSACPolicy
from skillrl.agents.recurrent_skill_policy import RecurrentSkillPolicy
from skillrl.agents.skill_sac_policies import RecurrentSkillSACPolicy, SkillSACPolicy
from skillrl.errors import InvalidValueError
from skillrl.permutation import align
from skillrl.permutation.trace import call, evaluate

BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = spaces.Box(-2, 2, (2,), np.float32)

Make = Callable[[spaces.Space[Any]], BasePolicy]


def rate(_: float) -> float:
    return 1e-3


POLICIES: dict[str, Make] = {
    "ppo": lambda actions: ActorCriticPolicy(BOX, actions, rate, net_arch=[8]),
    "sac": lambda actions: SACPolicy(BOX, actions, rate, net_arch=[8]),  # type: ignore[arg-type]
    "recurrent-ppo": lambda actions: RecurrentPolicy(
        BOX, actions, rate, net_arch=[8], encoder=(6,), state_size=4
    ),
    "recurrent-sac": lambda actions: RecurrentSACPolicy(
        BOX,
        actions,  # type: ignore[arg-type]
        rate,
        net_arch=[8],
        encoder=(6,),
        state_size=4,
    ),
    "skill": lambda actions: SkillPolicy(BOX, actions, rate, hidden=(8,)),
    "recurrent-skill": lambda actions: RecurrentSkillPolicy(
        BOX, actions, rate, hidden=(8,), encoder=(6,), state_size=4
    ),
    "skill-sac": lambda actions: SkillSACPolicy(BOX, actions, rate, hidden=(8,)),
    "recurrent-skill-sac": lambda actions: RecurrentSkillSACPolicy(
        BOX, actions, rate, hidden=(8,), encoder=(6,), state_size=4
    ),
}


def normalizer(seed: int) -> Normalizer:
    rng = np.random.default_rng(seed)
    return Normalizer(
        {
            "observation.mean": 100 + rng.normal(size=3),
            "observation.var": rng.uniform(0.5, 2, 3),
            "observation.count": np.array(9.0),
            "clip": np.array(10.0),
            "epsilon": np.array(1e-8),
        }
    )


def network(kind: str, seed: int, *, normalised: bool = True, actions: Any = ACTIONS) -> Any:
    torch.manual_seed(seed)
    found = policy_network(POLICIES[kind](actions), normalizer(seed) if normalised else None)
    with torch.no_grad():
        for name, buffer in found.policy.named_buffers():
            # Of skills' own normalisers.
            if name.endswith("mean"):
                buffer += (0.0 if normalised else 100.0) + torch.randn_like(buffer)
            if name.endswith("var"):
                buffer *= torch.rand_like(buffer) + 0.5
    return found


def observations(recurrent: bool) -> np.ndarray:
    shape = (12, 5, 3) if recurrent else (60, 3)
    return (100 + np.random.default_rng(0).normal(size=shape)).astype(np.float32)


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


def test_without_a_normaliser_networks_see_raw_observations() -> None:
    networks = [network("ppo", seed, normalised=False) for seed in (1, 2)]
    found, coordinates = in_shared_coordinates(networks)
    assert coordinates == "raw"
    assert found == networks


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


@pytest.mark.parametrize("kind", ["sac", "skill", "recurrent-skill"])
def test_they_can_be_aligned(kind: str) -> None:
    first, second = network(kind, 1), network(kind, 2)
    inputs = torch.as_tensor(observations(first.recurrent))
    (first, second), _ = in_shared_coordinates([first, second])
    alignment = align(first, second, inputs)
    assert alignment.verify(inputs) < 1e-9
    assert len(alignment.transformation.elements) >= 2


def test_other_policies_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="Received a DQNPolicy"):
        policy_network(DQNPolicy(BOX, spaces.Discrete(2), rate))


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
