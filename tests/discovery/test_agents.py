"""Discovery with agents that remember or replay."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runs import Killed, assert_same_skills, kill_at, small
from skillrl.agents import (
    OffPolicySkillAgent,
    RecurrentSkillPolicy,
    RecurrentSkillSACPolicy,
    SkillPolicy,
    SkillSACPolicy,
)
from skillrl.discovery import loop, training
from skillrl.discovery.events import Event, RewardFitted, SkillFinished, Trained
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.loop import Discovery
from skillrl.discovery.run import discover
from skillrl.discovery.settings import (
    AgentName,
    GuideRecipe,
    MemoryRecipe,
    Recipe,
    ReplayRecipe,
    TransferRecipe,
)
from skillrl.errors import InvalidValueError

KINDS: dict[AgentName, type] = {
    "ppo": SkillPolicy,
    "recurrent-ppo": RecurrentSkillPolicy,
    "sac": SkillSACPolicy,
    "recurrent-sac": RecurrentSkillSACPolicy,
}
OTHERS: list[AgentName] = ["recurrent-ppo", "sac", "recurrent-sac"]


def tiny(algorithm: AgentName, env: str = "Hopper-v5", **changes: Any) -> Recipe:
    recipe = small(env, env_kwargs={"max_episode_steps": 45})
    return dataclasses.replace(
        recipe,
        algorithm=algorithm,
        guide=GuideRecipe(),
        memory=MemoryRecipe(state_size=8, encoder=(12,), chunk=8, burn_in=4),
        replay=ReplayRecipe(buffer_size=600, gradient_steps=4, learning_starts=150),
        **changes,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[AgentName], Path]:
    """Runs that were never stopped, made once for each agent."""
    made: dict[AgentName, Path] = {}

    def run(algorithm: AgentName) -> Path:
        if algorithm not in made:
            made[algorithm] = tmp_path_factory.mktemp("whole") / "run"
            discover(tiny(algorithm), made[algorithm], seed=3)
        return made[algorithm]

    return run


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_library_holds_the_policies_of_its_agent(
    algorithm: AgentName, whole: Callable[[AgentName], Path]
) -> None:
    library = SkillLibrary(whole(algorithm))
    assert json.loads((library.path / "run.json").read_text())["recipe"]["algorithm"] == algorithm
    assert [type(skill.policy) for skill in library] == [KINDS[algorithm]] * 2


@pytest.mark.parametrize("algorithm", OTHERS)
@pytest.mark.parametrize(
    ("kind", "occurrence"),
    [(RewardFitted, 1), (Trained, 2), (SkillFinished, 1), (RewardFitted, 2), (Trained, 5)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_killed_run_resumes_and_ends_with_the_same_skills(
    algorithm: AgentName,
    kind: type[Event],
    occurrence: int,
    whole: Callable[[AgentName], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 0.0)
    run, recipe = tmp_path / "run", tiny(algorithm)
    with pytest.raises(Killed):
        discover(recipe, run, seed=3, on_event=kill_at(kind, occurrence))
    discover(recipe, run, seed=3, resume=True)
    assert_same_skills(run, whole(algorithm))


@pytest.mark.parametrize(
    ("changes", "forgets"),
    [
        ({"parent": "last", "transfer": TransferRecipe()}, False),
        ({"parent": "any", "transfer": TransferRecipe()}, True),
        ({"parent": "last", "transfer": TransferRecipe(reuse_value=False)}, True),
    ],
)
def test_states_of_networks_that_are_gone_are_forgotten(
    changes: dict[str, Any], forgets: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("recurrent-sac", attempts=1, **changes)
    library = SkillLibrary.create(tmp_path / "run", recipe, seed=0)
    discovery = Discovery(library, recipe, lambda event: None, lambda: False)
    forgotten: list[int] = []
    forget = discovery.agent.forget_states

    def forget_states() -> None:
        buffer: Any = discovery.agent.replay_buffer  # type: ignore[attr-defined]
        kept = [states.any() for states in buffer._states.values()]
        forget()
        assert not any(states.any() for states in buffer._states.values())
        forgotten.append(sum(kept))

    monkeypatch.setattr(discovery.agent, "forget_states", forget_states)
    # The second skill's parent is the untrained policy.
    monkeypatch.setattr(loop, "UNTRAINED_SHARE", 1.0)
    discovery.run()
    discovery.close()
    # Before the first skill there are none.
    assert [count for count in forgotten if count > 0] == ([3] if forgets else [])


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_saved_skill_replays_what_the_trained_one_does(
    algorithm: AgentName, tmp_path: Path
) -> None:
    recipe = tiny(algorithm, generations=1)
    library = SkillLibrary.create(tmp_path / "run", recipe, seed=0)
    discovery = Discovery(library, recipe, lambda event: None, lambda: False)
    discovery.run()
    policy, loaded = discovery.agent.policy, library[0].policy
    discovery.close()
    rng = np.random.default_rng(0)
    state = loaded_state = None
    for step in range(6):
        seen = rng.normal(size=(5, 11)).astype(np.float32)
        starts = np.full(5, step in (0, 3))
        trained, state = policy.predict(seen, state, starts, deterministic=True)
        replayed, loaded_state = loaded.predict(seen, loaded_state, starts, deterministic=True)
        np.testing.assert_array_equal(trained, replayed)
    assert (state is not None) is algorithm.startswith("recurrent")


@pytest.mark.parametrize("algorithm", ["sac", "recurrent-sac"])
def test_what_is_replayed_is_paid_by_the_present_reward(
    algorithm: AgentName, tmp_path: Path
) -> None:
    recipe = tiny(algorithm)
    library = SkillLibrary.create(tmp_path / "run", recipe, seed=0)
    discovery = Discovery(library, recipe, lambda event: None, lambda: False)
    for generation in range(2):
        discovery.begin(generation)
        discovery.ask_for_something_new()
        discovery.train()
        discovery.finish_skill()
        assert isinstance(discovery.agent, OffPolicySkillAgent)
        assert discovery.agent.replay_buffer is not None
        kept = discovery.agent.replay_buffer.state()
        reached = kept.get("next_observations", kept.get("reached"))
        assert reached is not None
        # Rows of eight environments: the second skill's are more than the buffer holds.
        full = {"sac": 600 // 8, "recurrent-sac": 600 // 8 // 8 * 8}[algorithm]
        assert len(reached) == min(3 * 16 * (generation + 1), full)
        expected = recipe.agent.reward_scale * discovery.reward.reward(reached.reshape(-1, 11))
        np.testing.assert_allclose(kept["rewards"].reshape(-1), expected, rtol=1e-5, atol=1e-6)
        assert np.ptp(expected) > 0
    discovery.close()


@pytest.mark.parametrize("algorithm", OTHERS)
def test_settings_that_an_agent_has_no_use_for_are_refused(algorithm: AgentName) -> None:
    with pytest.raises(InvalidValueError, match=r"guide\.max_steps to 0.*Received 10"):
        dataclasses.replace(tiny(algorithm), guide=GuideRecipe(max_steps=10))
    with pytest.raises(InvalidValueError, match=f"diayn is on 'ppo' alone.*{algorithm}"):
        dataclasses.replace(tiny(algorithm), method="diayn")


@pytest.mark.parametrize("algorithm", ["sac", "recurrent-sac"])
def test_sac_is_refused_where_actions_are_discrete(algorithm: AgentName, tmp_path: Path) -> None:
    recipe = dataclasses.replace(tiny(algorithm), env="CartPole-v1", env_kwargs={})
    with pytest.raises(InvalidValueError, match=r"continuous actions.*Discrete\(2\)"):
        discover(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recurrent_agent_discovers_with_discrete_actions(tmp_path: Path) -> None:
    recipe = dataclasses.replace(tiny("recurrent-ppo"), env="CartPole-v1", env_kwargs={})
    library = discover(recipe, tmp_path / "run")
    seen = np.zeros((3, 4), np.float32)
    actions, state = library[1].policy.predict(seen)
    assert set(actions.tolist()) <= {0, 1} and state is not None
