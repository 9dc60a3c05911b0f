from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from skillrl.agents.features import ConvolvedImage
from skillrl.agents.policy import SkillPolicy
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import read_tensors, write_tensors
from skillrl.rewards.precision import exact_convolutions

VECTOR = spaces.Box(-np.inf, np.inf, (3,))
GRID = spaces.Box(0, 31, (2,), np.int64)
IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
# Bounds that are neither symmetric nor alike.
LOPSIDED = spaces.Box(np.array([-3.0, 0.1], np.float32), np.array([1.0, 5.3], np.float32))


def make_policy(
    observations: spaces.Space[Any] = VECTOR,
    actions: spaces.Space[Any] = LOPSIDED,
    **kwargs: Any,
) -> SkillPolicy:
    torch.manual_seed(0)
    return SkillPolicy(observations, actions, lambda _: 0.0, **{"hidden": (16, 8), **kwargs})


def with_outputs(policy: SkillPolicy, outputs: list[float]) -> SkillPolicy:
    """Make the actor give ``outputs`` whatever it observes."""
    with torch.no_grad():
        policy.action_net.weight.zero_()
        policy.action_net.bias.copy_(torch.tensor(outputs))
    return policy


def restless(policy: SkillPolicy) -> SkillPolicy:
    """Give every weight and the normaliser values of their own, and the actions some variety."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    if policy.normalizer is not None:
        policy.normalizer.update(5.0 + 3.0 * torch.randn(40, policy.features_dim))
    return policy


def observed(space: spaces.Box, rows: int = 20) -> np.ndarray:
    space.seed(0)
    return np.stack([space.sample() for _ in range(rows)])


def test_the_mean_action_is_scaled_to_asymmetric_bounds() -> None:
    # softplus(0) is the noise; tanh(0) is the middle, tanh(log(3) / 2) = 1/2 three quarters up.
    policy = with_outputs(make_policy(), [0.0, 0.5 * np.log(3.0), 0.0, 0.0])
    action, state = policy.predict(np.zeros(3, np.float32), deterministic=True)
    np.testing.assert_allclose(action, [-1.0, 0.1 + 0.75 * 5.2], rtol=1e-6)
    assert action.dtype == np.float32
    assert state is None


def test_the_noise_is_the_softplus_of_the_actors_output_before_the_tanh() -> None:
    raw_std = float(np.log(np.expm1(0.4 - 1e-3)))
    policy = with_outputs(make_policy(), [0.3, -0.2, raw_std, raw_std])
    actions, _ = policy.predict(np.zeros((20_000, 3), np.float32))
    before = np.arctanh(2 * (actions - LOPSIDED.low) / (LOPSIDED.high - LOPSIDED.low) - 1)
    np.testing.assert_allclose(before.mean(0), [0.3, -0.2], atol=0.015)
    np.testing.assert_allclose(before.std(0), 0.4, atol=0.01)


@pytest.mark.parametrize("direction", [-1.0, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_actions_stay_within_the_bounds(direction: float, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    # Of very unlike sizes, so that low + (high − low) is not always high.
    low, high = -rng.exponential(1, 200).astype(dtype), rng.exponential(0.1, 200).astype(dtype)
    assert (low + (high - low) > high).any()
    actions = spaces.Box(low, high, dtype=dtype)
    policy = with_outputs(make_policy(actions=actions), [direction * 50] * 200 + [0.0] * 200)
    chosen, _ = policy.predict(np.zeros(3, np.float32))
    assert actions.contains(chosen)
    with torch.no_grad():
        stepped = policy.environment_actions(policy.act(torch.zeros(1, 3)))[0]
    assert actions.contains(stepped)
    bound = actions.low if direction < 0 else actions.high
    np.testing.assert_allclose(stepped, bound, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    "actions",
    [
        LOPSIDED,
        spaces.Box(-1.0, 2.0, (2, 3)),
        spaces.Box(np.arange(6, dtype=np.float32).reshape(2, 3), 10.0, (2, 3)),
        spaces.Box(-1.0, 1.0, (1,)),
        spaces.Discrete(4),
        spaces.Discrete(4, start=-2),
    ],
    ids=str,
)
def test_environments_are_given_what_predict_gives(actions: spaces.Space[Any]) -> None:
    policy = restless(make_policy(actions=actions))
    observations = observed(VECTOR)
    expected, _ = policy.predict(observations, deterministic=True)
    with torch.no_grad():
        parameters = policy.act(torch.as_tensor(observations), deterministic=True)
    given = policy.environment_actions(parameters)
    assert given.shape == (20, *(actions.shape or ()))
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)
    assert all(action in actions for action in given)
    assert all(action in actions for action in expected)


def test_discrete_actions_count_from_their_start() -> None:
    policy = with_outputs(make_policy(actions=spaces.Discrete(3, start=5)), [0.0, 0.0, 9.0])
    action, _ = policy.predict(np.zeros(3, np.float32), deterministic=True)
    assert action == 7
    assert policy.environment_actions(torch.tensor([[0], [2]])).tolist() == [5, 7]
    chosen, _ = with_outputs(policy, [0.0] * 3).predict(np.zeros((3_000, 3), np.float32))
    values, counts = np.unique(chosen, return_counts=True)
    assert values.tolist() == [5, 6, 7]
    assert (np.abs(counts - 1_000) < 150).all()


@pytest.mark.parametrize("space", [VECTOR, spaces.Box(-np.inf, np.inf, (3,), np.float64)])
def test_observations_may_be_float64(space: spaces.Box) -> None:
    policy = restless(make_policy(space))
    observations = observed(VECTOR).astype(np.float64)
    expected, _ = policy.predict(observations.astype(np.float32), deterministic=True)
    actual, _ = policy.predict(observations, deterministic=True)
    np.testing.assert_array_equal(actual, expected)
    single, _ = policy.predict(observations[3], deterministic=True)
    np.testing.assert_allclose(single, expected[3], rtol=1e-5, atol=1e-6)


def test_images_are_seen_between_0_and_1() -> None:
    policy = make_policy(IMAGE, spaces.Discrete(4))
    images = observed(IMAGE, 5)
    with torch.no_grad(), exact_convolutions():
        values = policy.predict_values(torch.as_tensor(images))
        extractor = policy.features_extractor
        assert isinstance(extractor, ConvolvedImage)
        hidden = extractor.second(extractor.first(torch.as_tensor(images) / 255).relu()).relu()
        features = extractor.dense(hidden.flatten(1)).relu()
        expected = policy.value_net(policy.mlp_extractor.forward_critic(features))
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize("actions", [LOPSIDED, spaces.Discrete(4)], ids=str)
def test_acting_and_evaluating_agree_with_torchs_distributions(actions: spaces.Space[Any]) -> None:
    policy = restless(make_policy(actions=actions))
    observations = torch.as_tensor(observed(VECTOR))
    with torch.no_grad():
        chosen, values, log_probs = policy(observations)
        again, log_probs_again, entropies = policy.evaluate_actions(observations, chosen)
        raw = policy.action_parameters(observations).double()
    torch.testing.assert_close(again, values)
    torch.testing.assert_close(policy.predict_values(observations).detach(), values)
    torch.testing.assert_close(log_probs_again, log_probs)
    assert values.shape == (20, 1)
    assert log_probs.shape == entropies.shape == (20,)
    if isinstance(actions, spaces.Box):
        std = torch.nn.functional.softplus(raw[:, 2:]) + 1e-3
        expected = torch.distributions.Normal(raw[:, :2], std).log_prob(chosen.double()).sum(-1)
    else:
        categorical = torch.distributions.Categorical(logits=raw)
        expected = categorical.log_prob(chosen[:, 0])
        torch.testing.assert_close(entropies.double(), categorical.entropy())
    torch.testing.assert_close(log_probs.double(), expected, rtol=1e-5, atol=1e-5)


def test_actions_depend_on_the_normalised_observation_only() -> None:
    policy = restless(make_policy())
    assert policy.normalizer is not None
    observations = observed(VECTOR)
    expected, _ = policy.predict(observations, deterministic=True)
    shift, scale = np.array([1.0, -2.0, 0.5], np.float32), np.array([4.0, 0.5, 2.0], np.float32)
    policy.normalizer.mean.mul_(torch.as_tensor(scale)).add_(torch.as_tensor(shift))
    policy.normalizer.var.mul_(torch.as_tensor(scale) ** 2)
    actual, _ = policy.predict(scale * observations + shift, deterministic=True)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize(("observations", "normalised"), [(VECTOR, True), (GRID, False)])
def test_only_vectors_are_normalised(observations: spaces.Box, normalised: bool) -> None:
    assert (make_policy(observations).normalizer is not None) is normalised


@pytest.mark.parametrize(
    ("observations", "actions"),
    [
        (VECTOR, LOPSIDED),
        (VECTOR, spaces.Discrete(4, start=-2)),
        (spaces.Box(-1.0, 1.0, (2, 3), np.float64), spaces.Box(-1.0, 2.0, (2, 3))),
        (GRID, spaces.Discrete(5)),
        (IMAGE, spaces.Discrete(4)),
    ],
    ids=str,
)
def test_a_saved_policy_predicts_to_the_last_bit(
    observations: spaces.Box, actions: spaces.Space[Any], tmp_path: Path
) -> None:
    policy = restless(make_policy(observations, actions, activation="tanh"))
    policy.save(tmp_path / "policy.safetensors")
    loaded = SkillPolicy.load(tmp_path / "policy.safetensors")
    rows = observed(observations)
    for deterministic in (True, False):
        torch.manual_seed(1)
        expected, _ = policy.predict(rows, deterministic=deterministic)
        torch.manual_seed(1)
        actual, _ = loaded.predict(rows, deterministic=deterministic)
        np.testing.assert_array_equal(actual, expected)
    tensor = torch.as_tensor(rows)
    assert torch.equal(loaded.predict_values(tensor), policy.predict_values(tensor))
    assert loaded.observation_space == observations
    assert loaded.action_space == actions
    assert (loaded.hidden, loaded.activation) == ((16, 8), "tanh")
    state = loaded.state_dict()
    assert state.keys() == policy.state_dict().keys()
    for name, saved in policy.state_dict().items():
        assert torch.equal(state[name], saved), name


def test_a_loaded_policy_shares_its_normaliser_with_nobody(tmp_path: Path) -> None:
    policy = restless(make_policy())
    policy.save(tmp_path / "policy.safetensors")
    loaded = SkillPolicy.load(tmp_path / "policy.safetensors")
    assert policy.normalizer is not None
    assert loaded.normalizer is not None
    loaded.normalizer.update(torch.randn(10, 3))
    assert (policy.normalizer.count.item(), loaded.normalizer.count.item()) == (40, 50)
    # The actor, the critic and the optimiser see one normaliser and one set of weights.
    loaded.reset_optimizer(0.1)
    before = loaded.predict_values(torch.ones(1, 3)).detach()
    loaded.predict_values(torch.ones(1, 3)).sum().backward()
    loaded.optimizer.step()
    assert loaded.predict_values(torch.ones(1, 3)).item() < before.item()


BOX = {"type": "Box", "shape": [3], "dtype": "float32", "low": None, "high": None}


def description(**changes: Any) -> dict[str, Any]:
    return {
        "format": "skill-policy",
        "observation_space": BOX,
        "action_space": {"type": "Discrete", "n": 2, "start": 0},
        "hidden": [16, 8],
        "activation": "silu",
        **changes,
    }


# No machine can address a matrix of 2 ** 46 numbers, but its shape is easily told.
UNADDRESSABLE = [2**23, 2**23]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": UNADDRESSABLE}, "does not fit its own description"),
        ({"action_space": {"type": "Discrete", "n": 2**44, "start": 0}}, "does not fit"),
        ({"hidden": [16]}, "does not fit its own description"),
        ({"format": "neural-reward"}, "holds no policy but 'neural-reward'"),
        ({"format": None}, "holds no policy but None"),
        ({"hidden": 16}, "no valid policy"),
        ({"hidden": [-1]}, "no valid policy"),
        ({"hidden": ["16"]}, "no valid policy"),
        ({"hidden": [1.5]}, "no valid policy"),
        ({"hidden": None}, "no valid policy"),
        ({"hidden": [10**30]}, "no valid policy"),
        ({"hidden": [2**62, 2**62]}, "no valid policy"),
        ({"activation": "os.system"}, "no valid policy.*activation should be one of silu"),
        ({"activation": ["silu"]}, "no valid policy"),
        ({"activation": None}, "no valid policy"),
        ({"observation_space": "Box"}, "no valid policy"),
        ({"observation_space": {"type": "Discrete", "n": 3, "start": 0}}, "no valid policy"),
        ({"action_space": {"type": "Dict"}}, "no valid policy.*'Dict'"),
        ({"action_space": None}, "no valid policy"),
        ({"observation_space": {**BOX, "shape": [10**12]}}, "no valid policy"),
        ({"observation_space": {**BOX, "shape": [2**20, 2**20]}}, "no valid policy"),
    ],
    ids=str,
)
def test_a_false_description_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "policy.safetensors"
    make_policy(actions=spaces.Discrete(2)).save(path)
    tensors, saved = read_tensors(path)
    assert saved == description()
    write_tensors(path, tensors, description(**changes))
    with pytest.raises(DamagedFileError, match=message) as caught:
        SkillPolicy.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("missing", list(description()))
def test_an_incomplete_description_is_refused(missing: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    make_policy(actions=spaces.Discrete(2)).save(path)
    tensors, saved = read_tensors(path)
    write_tensors(path, tensors, {name: saved[name] for name in saved if name != missing})
    with pytest.raises(DamagedFileError, match="policy"):
        SkillPolicy.load(path)


def test_missing_and_superfluous_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    make_policy().save(path)
    tensors, saved = read_tensors(path)
    for name in tensors:
        others = {key: tensor for key, tensor in tensors.items() if key != name}
        write_tensors(path, others, saved)
        with pytest.raises(DamagedFileError, match=name):
            SkillPolicy.load(path)
    write_tensors(path, {**tensors, "stowaway": torch.zeros(1)}, saved)
    with pytest.raises(DamagedFileError, match="stowaway"):
        SkillPolicy.load(path)
    write_tensors(path, {**tensors, "value_net.bias": torch.tensor([np.nan])}, saved)
    with pytest.raises(DamagedFileError, match=r"value_net\.bias.*not finite"):
        SkillPolicy.load(path)
    write_tensors(path, tensors, saved)
    SkillPolicy.load(path)


def test_a_file_cut_short_or_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    make_policy().save(path)
    content = path.read_bytes()
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedFileError, match="damaged"):
            SkillPolicy.load(path)
    path.unlink()
    with pytest.raises(DamagedFileError, match="does not exist"):
        SkillPolicy.load(path)


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (spaces.Discrete(5), spaces.Discrete(2), "Observations should be a Box"),
        (spaces.Dict(a=VECTOR), spaces.Discrete(2), "Observations should be a Box"),
        (VECTOR, spaces.MultiDiscrete([2, 2]), "Actions should be a Box or Discrete"),
        (VECTOR, spaces.Box(-1.0, np.inf, (2,)), "Actions should be bounded"),
    ],
)
def test_unsupported_spaces_are_refused(
    observations: spaces.Space[Any], actions: spaces.Space[Any], message: str
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make_policy(observations, actions)


def test_unsupported_arguments_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"silu, tanh, relu. Received 'gelu'"):
        make_policy(activation="gelu")
    with pytest.raises(InvalidValueError, match="use_sde"):
        make_policy(use_sde=True)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("silu", torch.nn.functional.silu),
        ("tanh", torch.tanh),
        ("relu", torch.relu),
    ],
)
def test_the_network_is_the_one_described(activation: str, function: Any) -> None:
    policy = restless(make_policy(activation=activation))
    assert policy.normalizer is not None
    observations = torch.as_tensor(observed(VECTOR))
    features = policy.normalizer(observations)
    for network, head, output in [
        ("policy", "action_net", policy.action_parameters(observations)),
        ("value", "value_net", policy.predict_values(observations)),
    ]:
        weights = dict(policy.named_parameters())
        hidden = features
        for layer in (0, 2):
            name = f"mlp_extractor.{network}_net.{layer}"
            hidden = function(hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
        expected = hidden @ weights[f"{head}.weight"].T + weights[f"{head}.bias"]
        torch.testing.assert_close(output, expected)


def test_the_actors_hidden_layers_learn_at_their_share() -> None:
    policy = make_policy(hidden_learning_rate=0.5)
    rest, hidden = policy.optimizer.param_groups
    assert (rest["lr_share"], hidden["lr_share"]) == (1.0, 0.5)
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    slow = {names[id(parameter)] for parameter in hidden["params"]}
    layers = [f"mlp_extractor.policy_net.{layer}" for layer in (0, 2)]
    assert slow == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    fast = {names[id(parameter)] for parameter in rest["params"]}
    assert not slow & fast
    assert slow | fast == set(names.values())


def test_a_new_optimiser_has_no_moments() -> None:
    policy = make_policy()
    policy.predict_values(torch.zeros(1, 3)).sum().backward()
    policy.optimizer.step()
    assert policy.optimizer.state
    policy.reset_optimizer(0.25)
    assert not policy.optimizer.state
    assert [group["lr"] for group in policy.optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(("part", "others"), [("actor", "value"), ("critic", "action")])
def test_one_part_is_drawn_anew_without_the_other(part: str, others: str) -> None:
    policy = restless(make_policy())
    before = {name: parameter.clone() for name, parameter in policy.named_parameters()}
    getattr(policy, f"reset_{part}")()
    kept = {"value": ("value_net", "mlp_extractor.value"), "action": ("action", "mlp_extractor.p")}
    for name, parameter in policy.named_parameters():
        assert torch.equal(parameter, before[name]) is name.startswith(kept[others]), name


@pytest.mark.parametrize("std", [0.5, 1.0])
def test_exploration_widens_the_policys_own_noise(std: float) -> None:
    torch.manual_seed(0)
    bounds = spaces.Box(-1.0, 1.0, (2,), np.float64)
    policy = with_outputs(make_policy(actions=bounds), [0.3, -0.2, -3.0, -4.0])
    policy.noise_scale.fill_(0.1)
    seen = np.zeros((20_000, 3), np.float32)
    with policy.widened(std):
        squashed, _ = policy.predict(seen)
    # With these bounds actions are the tanh of what was sampled.
    actions = torch.as_tensor(squashed).double().atanh()
    np.testing.assert_allclose(actions.mean(0).numpy(), [0.3, -0.2], atol=0.03)
    # The second standard deviation stays one below the first, before the softplus.
    second = np.log1p(np.expm1(std - 1e-3) * np.exp(-1.0)) + 1e-3
    np.testing.assert_allclose(actions.std(0).numpy(), [std, second], rtol=0.03)
    # Afterwards its noise is as it was.
    assert float(policy.noise_scale) == pytest.approx(0.1)
    assert policy.predict(seen)[0].std(0) == pytest.approx(0.0, abs=0.01)


def test_discrete_actions_have_no_noise_to_widen() -> None:
    with pytest.raises(InvalidValueError, match=r"continuous actions.*'uniform'"):
        make_policy(actions=spaces.Discrete(2)).widened(1.0).__enter__()
