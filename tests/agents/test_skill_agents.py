"""Agents of skills as agents of Stable-Baselines3."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from skillrl.agents import (
    RecurrentSkillPPO,
    RecurrentSkillSAC,
    SkillAgent,
    SkillPPO,
    SkillSAC,
    sequence_replay,
)
from skillrl.errors import InvalidValueError

ON_POLICY: dict[str, Any] = {"n_steps": 16, "batch_size": 32}
OFF_POLICY: dict[str, Any] = {"buffer_size": 400, "learning_starts": 10}
KINDS: list[tuple[type[SkillAgent], dict[str, Any]]] = [
    (SkillPPO, ON_POLICY),
    (RecurrentSkillPPO, ON_POLICY),
    (SkillSAC, OFF_POLICY),
    (RecurrentSkillSAC, OFF_POLICY | {"chunk": 8, "burn_in": 4, "batch_size": 4}),
]


def paying(reward: float) -> DummyVecEnv:
    """Two pendulums in which every step pays the same."""

    def make() -> gym.Env[Any, Any]:
        return gym.wrappers.TransformReward(gym.make("Pendulum-v1"), lambda _: reward)

    return DummyVecEnv([make, make])


@pytest.mark.parametrize(
    ("kind", "settings"), KINDS, ids=lambda value: getattr(value, "__name__", "")
)
def test_an_agent_learns_is_saved_and_goes_on(
    kind: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    env = paying(2.0)
    agent = kind("SkillPolicy", env, reward_scale=0.25, seed=0, device="cpu", **settings)
    agent.learn(64)
    assert agent.num_timesteps == 64
    # Unscaled, while what is learnt from is scaled.
    assert agent.mean_reward == pytest.approx(2.0)
    agent.save(tmp_path / "agent.zip")
    loaded = kind.load(tmp_path / "agent.zip", env=env, device="cpu")
    seen = env.reset()
    np.testing.assert_array_equal(
        loaded.predict(seen, deterministic=True)[0], agent.predict(seen, deterministic=True)[0]
    )
    assert isinstance(seen, np.ndarray)
    loaded.learn(64, reset_num_timesteps=False)
    assert loaded.num_timesteps == 128


@pytest.mark.parametrize(("kind", "settings"), KINDS[1:])
def test_a_callback_may_stop_at_the_first_step(kind: Any, settings: dict[str, Any]) -> None:
    agent = kind("SkillPolicy", paying(2.0), seed=0, device="cpu", **settings)
    agent.learn(64, callback=lambda *_: False)
    assert agent.num_timesteps == 2
    agent.learn(64)
    assert agent.mean_reward == pytest.approx(2.0)


# Bytes: two observations of three numbers, an action, and a reward, an end and a time limit …
WITHOUT_MEMORY = 4_000 * (2 * 12 + 4 + 3 * 4)
# … or a reward and four bools; every 16 steps the states of three layers, 64 complex numbers each.
WITH_MEMORY = 4_000 * (2 * 12 + 4 + 4 + 4) + 4_000 // 16 * 3 * 64 * 8


@pytest.mark.parametrize(
    ("kind", "needed"), [(SkillSAC, WITHOUT_MEMORY), (RecurrentSkillSAC, WITH_MEMORY)]
)
def test_a_replay_buffer_has_to_fit_into_memory(
    kind: Any, needed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There are two copies more while it is saved.
    monkeypatch.setattr(sequence_replay, "available_memory", lambda: 3 * needed - 1)
    with pytest.raises(InvalidValueError, match="make buffer_size smaller than 4,000"):
        kind("SkillPolicy", paying(0.0), buffer_size=4_000, device="cpu")
    monkeypatch.setattr(sequence_replay, "available_memory", lambda: 3 * needed)
    kind("SkillPolicy", paying(0.0), buffer_size=4_000, device="cpu")


@pytest.mark.parametrize("kind", [RecurrentSkillPPO, RecurrentSkillSAC])
def test_the_policies_of_other_agents_are_refused(kind: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"the policy is 'SkillPolicy'.*'MlpLruPolicy'"):
        kind("MlpLruPolicy", paying(0.0))
