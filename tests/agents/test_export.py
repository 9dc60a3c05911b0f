"""What is exported acts as the policy does: first in torch, then in onnxruntime."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from skillrl.agents import (
    MultiInputLruPolicy,
    RecurrentPolicy,
    RecurrentSACPolicy,
    RecurrentSkillPolicy,
    RecurrentSkillSACPolicy,
    SkillPolicy,
    SkillSACPolicy,
)
from skillrl.agents import export as module
from skillrl.agents.export import TOLERANCE, export
from skillrl.agents.normalizer import Normalizer
from skillrl.errors import InvalidValueError, SkillrlError
from skillrl.rewards import precision

VECTOR = spaces.Box(-np.inf, np.inf, (5,), np.float64)
IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
DICT = spaces.Dict({"z": VECTOR, "a": spaces.Discrete(4)})
BOUNDED = spaces.Box(np.array([-2, 0.5], np.float32), np.array([3, 0.75], np.float32))
BINARY = spaces.MultiBinary(3)
PARTS = spaces.MultiDiscrete([3, 4])

POLICIES: dict[str, tuple[type[BasePolicy], spaces.Space[Any], spaces.Space[Any], dict[str, Any]]]
POLICIES = {
    "ppo": (ActorCriticPolicy, VECTOR, BOUNDED, {}),
    "ppo-gsde": (ActorCriticPolicy, VECTOR, BOUNDED, {"use_sde": True, "squash_output": True}),
    "ppo-discrete": (ActorCriticPolicy, VECTOR, spaces.Discrete(3), {}),
    "ppo-parts": (ActorCriticPolicy, VECTOR, PARTS, {"share_features_extractor": False}),
    "ppo-binary": (ActorCriticPolicy, VECTOR, BINARY, {}),
    "ppo-image": (ActorCriticCnnPolicy, IMAGE, spaces.Discrete(3), {}),
    "ppo-dict": (MultiInputActorCriticPolicy, DICT, BOUNDED, {}),
    "sac": (SACPolicy, VECTOR, BOUNDED, {"net_arch": [8]}),
    "skill": (SkillPolicy, VECTOR, BOUNDED, {"hidden": (8,)}),
    "skill-discrete": (SkillPolicy, VECTOR, spaces.Discrete(3, start=2), {"hidden": (8,)}),
    "skill-image": (SkillPolicy, IMAGE, spaces.Discrete(3), {"hidden": (8,)}),
    "skill-sac": (SkillSACPolicy, VECTOR, BOUNDED, {"hidden": (8,)}),
    "recurrent-skill": (RecurrentSkillPolicy, VECTOR, BOUNDED, {"hidden": (8,)}),
    "recurrent-skill-discrete": (RecurrentSkillPolicy, VECTOR, spaces.Discrete(3), {"cell": "gru"}),
    "recurrent-skill-sac": (RecurrentSkillSACPolicy, VECTOR, BOUNDED, {"hidden": (8,)}),
    "lru": (RecurrentPolicy, VECTOR, BOUNDED, {"cell": "lru", "state_size": 6}),
    "recurrent-parts": (RecurrentPolicy, VECTOR, PARTS, {"state_size": 6}),
    "recurrent-dict": (MultiInputLruPolicy, DICT, BOUNDED, {"state_size": 6}),
    "linear-rtu": (RecurrentPolicy, VECTOR, BOUNDED, {"cell": "linear-rtu", "encoder": ()}),
    "nonlinear-rtu": (
        RecurrentPolicy,
        *(VECTOR, BOUNDED),
        {"cell": "nonlinear-rtu", "shared_recurrence": True},
    ),
    "gru": (RecurrentPolicy, VECTOR, BOUNDED, {"cell": "gru", "rule": "snap1"}),
    "recurrent-sac": (RecurrentSACPolicy, VECTOR, BOUNDED, {"state_size": 6}),
}


def make(name: str) -> BasePolicy:
    kind, observations, actions, arguments = POLICIES[name]
    torch.manual_seed(0)
    policy = kind(observations, actions, lambda _: 1e-3, **arguments)
    with torch.no_grad():
        # SB3 draws last layers so small that all actions would be alike, and none at its bounds.
        for layer in ("action_net", "actor.mu"):
            for parameter in policy.state_dict():
                if parameter.startswith(layer) and parameter.endswith("weight"):
                    policy.get_parameter(parameter).mul_(30)
    policy.set_training_mode(False)
    return policy


def statistics() -> Normalizer:
    """Of observations far from standard."""
    return Normalizer(
        {
            "observation.mean": np.array([0, 10, -1000, 0.5, 3]),
            "observation.var": np.array([1, 4, 100, 1e-4, 0]),
            "observation.count": np.array(100.0),
            "clip": np.array(10.0),
            "epsilon": np.array(1e-8),
        }
    )


@pytest.mark.parametrize("name", [*POLICIES])
def test_what_is_exported_acts_as_the_policy(name: str) -> None:
    policy = make(name)
    model = module._model(policy, None).eval()
    rng, state, other = np.random.default_rng(0), None, None
    seen = set()
    for step in range(30):
        observation = module._draw(model, 4, rng)
        starts = rng.random(4) < (1 if step == 0 else 0.2)
        arguments = [torch.as_tensor(each) for each in module._named(observation).values()]
        if isinstance(model, module._Recurrent):
            # What was before an episode's begin makes no difference.
            other = torch.full((4, *state_shape(model)), 7.0) if other is None else other
            with torch.no_grad():
                action, other = model([*arguments, other, torch.as_tensor(starts)])
        else:
            with torch.no_grad():
                action = model(arguments)
        expected, state = policy.predict(observation, state, starts, deterministic=True)
        if isinstance(policy.action_space, spaces.Box):
            np.testing.assert_allclose(action.numpy(), expected, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(action.numpy(), expected)
        seen |= {each.tobytes() for each in expected}
    # They do act, each in its own way.
    assert len(seen) > 1


def test_convolutions_are_written_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_made_for_bfloat16", {"cpu"}.__contains__)
    found = export(make("skill-image"), tmp_path / "policy.onnx")
    assert found.compared == 1024
    assert found.unequal == 0


def state_shape(model: Any) -> tuple[int, ...]:
    return tuple(model.recurrence().layer.carried()["state"])


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ["lru", "gru"])
def test_a_recurrent_policy_runs_elsewhere_with_its_normaliser(name: str, tmp_path: Path) -> None:
    policy, normalizer = make(name), statistics()
    found = export(policy, tmp_path / "policy.onnx", normalizer)
    assert found.difference < TOLERANCE
    assert found.compared == 1024
    assert found.inputs[0] == "observation (batch, 5) float"
    assert found.inputs[2] == "episode_start (batch) bool"
    assert [each.split()[0] for each in found.outputs] == ["action", "next_state"]

    run = session(tmp_path / "policy.onnx")
    # Of another batch size than those that it was traced and compared with.
    shape = (3, *state_shape(module._model(policy, None)))
    rng, own, state = np.random.default_rng(1), np.zeros(shape, np.float32), None
    worst = 0.0
    for step in range(300):
        observation = rng.normal([0, 10, -1000, 0.5, 3], [1, 2, 10, 0.01, 0], (3, 5))
        observation = observation.astype(np.float32)
        starts = rng.random(3) < (1 if step == 0 else 0.02)
        inputs = {"observation": observation, "state": own, "episode_start": starts}
        action, own = run.run(["action", "next_state"], inputs)
        seen = normalizer(observation)
        expected, state = policy.predict(seen, state, starts, deterministic=True)
        worst = max(worst, float(np.abs(action - expected).max()))
        assert (action >= BOUNDED.low).all() and (action <= BOUNDED.high).all()
    assert worst < 1e-4
    # With what it remembers it acts otherwise than without.
    forgotten = run.run(None, {**inputs, "episode_start": np.ones(3, bool)})[0]
    assert np.abs(forgotten - action).max() > 1e-3


@pytest.mark.parametrize("name", ["ppo-dict", "skill-discrete"])
def test_policies_without_memory_run_elsewhere(name: str, tmp_path: Path) -> None:
    policy = make(name)
    found = export(policy, tmp_path / "policy.onnx")
    wanted = {
        "ppo-dict": ("observation.a (batch) int64", "observation.z (batch, 5) float"),
        "skill-discrete": ("observation (batch, 5) float",),
    }
    assert found.inputs == wanted[name]
    rng = np.random.default_rng(2)
    observation = module._draw(module._model(policy, None), 7, rng)
    (action,) = session(tmp_path / "policy.onnx").run(None, module._named(observation))
    expected, _ = policy.predict(observation, deterministic=True)
    np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-5)


def test_an_export_in_the_middle_of_a_training_changes_nothing(tmp_path: Path) -> None:
    agent = PPO("MlpPolicy", "Pendulum-v1", n_steps=64, device="cpu")
    agent.learn(64)
    agent.policy.set_training_mode(True)
    export(agent.policy, tmp_path / "policy.onnx")
    assert agent.policy.training and all(part.training for part in agent.policy.modules())


def test_a_wrong_export_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make("ppo")
    right = module._Model.action

    def wrong(self: Any, scores: torch.Tensor) -> torch.Tensor:
        return right(self, scores) * 1.01

    monkeypatch.setattr(module._Model, "action", wrong)
    with pytest.raises(SkillrlError, match="differs from torch's"):
        export(policy, tmp_path / "policy.onnx")
    assert [*tmp_path.iterdir()] == []


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *arguments: Any, **rest: Any) -> Any:
        if name == "onnxscript":
            raise ImportError("No module named 'onnxscript'")
        return usual(name, *arguments, **rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidValueError, match=r"'onnxscript'.*pip install 'skillrl\[export\]'"):
        export(make("ppo"), tmp_path / "policy.onnx")


@pytest.mark.parametrize(("name", "hidden"), [("lru", [5]), ("lru", [-1]), ("ppo-dict", [0])])
def test_only_components_of_vectors_are_hidden(
    name: str, hidden: list[int], tmp_path: Path
) -> None:
    with pytest.raises(InvalidValueError, match="cannot be hidden"):
        export(make(name), tmp_path / "policy.onnx", hidden=hidden)


def test_other_policies_are_refused(tmp_path: Path) -> None:
    policy = TD3Policy(VECTOR, BOUNDED, lambda _: 1e-3)
    with pytest.raises(InvalidValueError, match="Received a TD3Policy"):
        export(policy, tmp_path / "policy.onnx")
