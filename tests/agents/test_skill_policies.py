"""What the policies of skills have in common, whichever agent trains them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from skillrl.agents import (
    BaseSkillPolicy,
    RecurrentSkillPolicy,
    RecurrentSkillSACPolicy,
    SkillPolicy,
    SkillSACPolicy,
    load_policy,
)
from skillrl.agents.base_recurrent_policy import BaseRecurrentPolicy
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import read_tensors, write_tensors

SEEN = spaces.Box(-np.inf, np.inf, (3,))
ACTIONS = spaces.Box(np.array([-3.0, 0.1], np.float32), np.array([1.0, 5.3], np.float32))
KINDS: list[type[BaseSkillPolicy]] = [
    SkillPolicy,
    RecurrentSkillPolicy,
    SkillSACPolicy,
    RecurrentSkillSACPolicy,
]
MEMORY = {"encoder": (6,), "state_size": 5}


def make(kind: type[BaseSkillPolicy], **kwargs: Any) -> BaseSkillPolicy:
    """A policy whose weights and normalisers have values of their own."""
    torch.manual_seed(0)
    memory = MEMORY if "Recurrent" in kind.__name__ else {}
    made: Any = kind
    settings = {"hidden": (16, 8), **memory, **kwargs}
    policy: BaseSkillPolicy = made(SEEN, ACTIONS, lambda _: 0.0, **settings)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    for normalizer in policy.normalizers:
        normalizer.update(5.0 + 3.0 * torch.randn(40, 3))
    return policy


def played(policy: BaseSkillPolicy, seen: np.ndarray) -> np.ndarray:
    """The actions without noise, step by step."""
    state, actions = None, []
    for observations in seen:
        chosen, state = policy.predict(observations, state, deterministic=True)
        actions.append(chosen)
    return np.stack(actions)


def observed(steps: int = 5, batch: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(5.0, 3.0, (steps, batch, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_is_the_same_after_saving(kind: type[BaseSkillPolicy], tmp_path: Path) -> None:
    policy = make(kind, activation="tanh")
    policy.save(tmp_path / "policy.safetensors")
    for loaded in (
        load_policy(tmp_path / "policy.safetensors"),
        kind.load(tmp_path / "policy.safetensors"),
    ):
        assert type(loaded) is kind
        np.testing.assert_array_equal(played(policy, observed()), played(loaded, observed()))
        for name, tensor in policy.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize("kind", [RecurrentSkillPolicy, RecurrentSkillSACPolicy])
@pytest.mark.parametrize("cell", ["lru", "linear-rtu", "nonlinear-rtu", "gru"])
def test_every_cell_is_saved(kind: type[BaseSkillPolicy], cell: str, tmp_path: Path) -> None:
    policy = make(kind, cell=cell)
    policy.save(tmp_path / "policy.safetensors")
    loaded = load_policy(tmp_path / "policy.safetensors")
    np.testing.assert_array_equal(played(policy, observed()), played(loaded, observed()))


@pytest.mark.parametrize("kind", [RecurrentSkillPolicy, RecurrentSkillSACPolicy])
def test_all_of_a_memory_is_saved(kind: type[BaseSkillPolicy], tmp_path: Path) -> None:
    cell = {"activation": "tanh", "horizon": (2, 30)}
    shared = {"shared_recurrence": True} if kind is RecurrentSkillPolicy else {}
    policy = make(kind, cell_kwargs=cell, rule="truncated", **shared)
    policy.save(tmp_path / "policy.safetensors")
    loaded = load_policy(tmp_path / "policy.safetensors")
    np.testing.assert_array_equal(played(policy, observed()), played(loaded, observed()))
    assert isinstance(loaded, BaseRecurrentPolicy)
    assert {each.layer.rule for each in loaded._each().values()} == {"truncated"}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_other_kinds_are_refused(kind: type[BaseSkillPolicy], tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    make(kind).save(path)
    tensors, description = read_tensors(path)
    other = KINDS[KINDS.index(kind) - 1]
    with pytest.raises(DamagedFileError, match=f"holds no policy but '{kind.format}'"):
        other.load(path)
    write_tensors(path, tensors, {**description, "format": "reward"})
    with pytest.raises(DamagedFileError, match="holds no policy but 'reward'"):
        load_policy(path)
    write_tensors(path, tensors, {**description, "hidden": [16, 9]})
    with pytest.raises(DamagedFileError, match="does not fit its own description"):
        load_policy(path)
    write_tensors(path, tensors, {**description, "surprise": 1})
    with pytest.raises(DamagedFileError, match="surprise"):
        load_policy(path)


@pytest.mark.parametrize("kind", KINDS)
def test_widened_noise_is_as_wide_as_asked(kind: type[BaseSkillPolicy]) -> None:
    policy = make(kind)
    seen = np.repeat(observed(1, 1)[0], 30_000, 0)
    assert isinstance(policy.action_space, spaces.Box)

    def before_tanh(actions: np.ndarray) -> np.ndarray:
        low, high = ACTIONS.low.astype(float), ACTIONS.high.astype(float)
        return np.arctanh(np.clip(2 * (actions - low) / (high - low) - 1, -1 + 1e-7, 1 - 1e-7))

    with torch.no_grad():
        policy.mean_layer.weight[:2] *= 0.1
        policy.mean_layer.bias[:2] = 0.2
    mean = before_tanh(policy.predict(seen[:1], deterministic=True)[0])[0]
    with policy.widened(0.4):
        wide = before_tanh(policy.predict(seen)[0])
    np.testing.assert_allclose(wide.mean(0), mean, atol=0.02)
    assert wide.std(0).max() == pytest.approx(0.4, rel=0.03)
    torch.manual_seed(1)
    once = policy.predict(seen)[0]
    torch.manual_seed(1)
    with policy.widened(3.0):
        policy.predict(seen[:1])
    torch.manual_seed(1)
    np.testing.assert_array_equal(policy.predict(seen)[0], once)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_acts_in_the_middle_with_wide_noise(kind: type[BaseSkillPolicy]) -> None:
    policy, seen = make(kind), observed()
    before = played(policy, seen)
    policy.reset_head(keep_mean=True)
    np.testing.assert_array_equal(played(policy, seen), before)
    policy.reset_head(keep_mean=False)
    middle = (ACTIONS.low + ACTIONS.high) / 2
    np.testing.assert_allclose(played(policy, seen), np.broadcast_to(middle, before.shape), 1e-6)
    assert policy.predict(np.repeat(seen[0], 500, 0))[0].std(0).min() > 0.3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("part", "acts_as_before"), [("actor", False), ("critic", True)])
def test_one_part_is_drawn_anew_and_the_normaliser_stays(
    part: str, acts_as_before: bool, kind: type[BaseSkillPolicy]
) -> None:
    policy, seen = make(kind), observed()
    before = played(policy, seen)
    weights = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    means = [normalizer.mean.clone() for normalizer in policy.normalizers]
    getattr(policy, f"reset_{part}")()
    assert np.array_equal(played(policy, seen), before) is acts_as_before
    for normalizer, mean in zip(policy.normalizers, means, strict=True):
        assert torch.equal(normalizer.mean, mean)
    changed = {
        n for n, tensor in policy.state_dict().items() if not torch.equal(tensor, weights[n])
    }
    assert changed
    # Of what changed nothing belongs to the other part.
    other = {"actor": "critic|value_net", "critic": "actor|action_net|policy_net"}[part]
    assert not [name for name in changed if re.search(rf"(^|\.)({other})\.", name)]


@pytest.mark.parametrize("kind", [SkillSACPolicy, RecurrentSkillSACPolicy])
def test_policies_of_sac_need_continuous_actions(kind: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"continuous actions.*Discrete\(3\)"):
        kind(SEEN, spaces.Discrete(3), lambda _: 0.0)
