import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from skillrl.agents import RecurrentPPO
from skillrl.agents.recurrent_ppo import _Chunks
from skillrl.envs import MaskVelocity, SB3VecEnv, make_vec
from skillrl.errors import InvalidValueError
from skillrl.recurrent import Carry
from streams import doubles, relative_error


def masked(seed: int = 0, n_envs: int = 4) -> VecEnv:
    return make_vec_env(lambda: MaskVelocity(gym.make("CartPole-v1")), n_envs, seed=seed)


def agent(env: Any = None, **changes: Any) -> RecurrentPPO:
    settings: dict[str, Any] = {
        "n_steps": 32,
        "batch_size": 64,
        "n_epochs": 2,
        "chunk": 8,
        "seed": 0,
        "device": "cpu",
        **changes,
    }
    memory = settings.pop("policy_kwargs", {})
    policy = settings.pop("policy", "MlpLruPolicy")
    memory = {"state_size": 6, "encoder": (8,), "net_arch": [8], **memory}
    return RecurrentPPO(policy, masked() if env is None else env, policy_kwargs=memory, **settings)


@pytest.fixture
def in_doubles() -> Iterator[None]:
    yield from doubles()


@pytest.mark.parametrize("cell", ["lru", "linear-rtu", "nonlinear-rtu"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("chunk", [4, 32])
def test_its_gradient_is_that_of_backpropagation_through_the_rollout(
    cell: str, shared: bool, chunk: int, in_doubles: None
) -> None:
    found = []
    for rule, length in (("online", chunk), ("bptt", 64), ("truncated", chunk)):
        ppo = agent(
            n_steps=64,
            chunk=length,
            policy_kwargs={
                "cell": cell,
                "rule": rule,
                "shared_recurrence": shared,
                "encoder": (),
                "cell_kwargs": {"r_min": 0.5},
            },
        )
        assert next(ppo.policy.parameters()).dtype == torch.float64
        # A rollout of which nothing is known but that episodes end in it.
        rng, buffer = np.random.default_rng(0), ppo.rollout_buffer
        buffer.reset()
        for name in ("observations", "log_probs", "values", "advantages", "returns"):
            array = getattr(buffer, name)
            setattr(buffer, name, rng.normal(size=array.shape))
        buffer.log_probs = -0.7 + 0.1 * buffer.log_probs
        buffer.actions[:] = rng.integers(2, size=buffer.actions.shape)
        buffer.episode_starts[:] = rng.random(buffer.episode_starts.shape) < 0.05
        ppo._first_carry = ppo.policy.initial_carry(ppo.n_envs)
        chunks = ppo._cut()
        carries, _ = ppo._sweep(chunks)
        everything = torch.arange(len(chunks.starts))
        loss, _ = ppo._loss(chunks.rows(everything), carries.rows(everything), 0.2, None)
        ppo.policy.zero_grad()
        loss.backward()
        found.append({n: p.grad for n, p in ppo.policy.named_parameters() if p.grad is not None})
    online, true, truncated = found
    assert {*online} == {*true} and any("nu_log" in name for name in true)
    for name, gradient in true.items():
        assert relative_error(online[name], gradient) < 1e-6
    name = next(name for name in true if "nu_log" in name)
    assert relative_error(truncated[name], true[name]) > (1e-3 if chunk < 64 else 0)


def test_refreshed_carries_are_nearer_to_what_the_parameters_would_give() -> None:
    # After one small step of all parameters of the recurrences.
    ppo = agent(policy_kwargs={"encoder": ()}).learn(128)
    chunks = ppo._cut()
    carries, _ = ppo._sweep(chunks)
    then = ppo.policy.coefficients()
    with torch.no_grad():
        for parameter in ppo.policy.recurrences.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=1e-3)
    true, _ = ppo._sweep(chunks)
    corrected = ppo.policy.corrected(carries, then)
    for name in ("actor.state", "critic.state"):
        stale = relative_error(carries[name], true[name])
        assert relative_error(corrected[name], true[name]) < 0.1 * stale


@pytest.mark.parametrize("refresh", ["sweep", "first-order", "none"])
def test_all_refreshes_learn(refresh: str) -> None:
    ppo = agent(refresh=refresh)
    before = {name: value.clone() for name, value in ppo.policy.state_dict().items()}
    after = ppo.learn(256).policy.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not torch.equal(
        before["recurrences.actor.layer.nu_log"], after["recurrences.actor.layer.nu_log"]
    )
    assert ppo._carry is not None and ppo._carry["actor.input"].abs().max() > 0


def test_training_twice_with_one_seed_gives_equal_parameters() -> None:
    first, second = (agent(masked()).learn(256).policy.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_saving_loading_and_going_on_equals_never_having_stopped(tmp_path: Path) -> None:
    ppo = agent().learn(256)
    ppo.save(tmp_path / "agent")
    random = torch.get_rng_state()
    copied = RecurrentPPO.load(tmp_path / "agent", device="cpu")
    observation = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for deterministic in (True, False):
        torch.manual_seed(0)
        expected, state = ppo.predict(observation, deterministic=deterministic)
        torch.manual_seed(0)
        found, other = copied.predict(observation, deterministic=deterministic)
        assert np.array_equal(found, expected)
        assert all(np.array_equal(a, b) for a, b in zip(state, other, strict=True))  # type: ignore[arg-type]
    # On a copy of the environments in the same state.
    ends = []
    for each in (ppo, RecurrentPPO.load(tmp_path / "agent", device="cpu")):
        env = masked(seed=5)
        each.set_env(env, force_reset=False)
        each._last_obs = env.reset()  # type: ignore[assignment]
        # In the middle of episodes: what was carried before counts.
        each._last_episode_starts = np.zeros(4, bool)
        assert each._carry is not None and bool(each._carry["actor.input"].any())
        torch.set_rng_state(random)
        ends.append(each.learn(256, reset_num_timesteps=False).policy.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_predict_remembers_by_its_state_and_forgets_where_episodes_start() -> None:
    ppo = agent()
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 4)).astype(np.float32)
    _, state = ppo.predict(first)
    _, after = ppo.predict(second, state=state)
    _, fresh = ppo.predict(second)
    _, some = ppo.predict(second, state=state, episode_start=np.array([True, False, False]))
    assert after is not None and fresh is not None and some is not None
    for kept, new, mixed in zip(after, fresh, some, strict=True):
        assert not np.allclose(kept, new)
        np.testing.assert_allclose(mixed[0], new[0], rtol=1e-6)
        np.testing.assert_allclose(mixed[1:], kept[1:], rtol=1e-6)
    # A single observation, as gym environments give it.
    action, alone = ppo.predict(first[0])
    assert np.shape(action) == ()
    assert alone is not None and len(alone[0]) == 1
    # Acting asks the actor alone.
    assert [part.shape for part in after] == [(3, 6, 2)]
    # As JSON and other libraries have numbers.
    _, doubled = ppo.predict(second, state=tuple(part.astype(float) for part in state or ()))
    np.testing.assert_array_equal(doubled, after)
    with pytest.raises(InvalidValueError, match="For 2 observation"):
        ppo.predict(first[:2], state=state)
    with pytest.raises(InvalidValueError, match=r"Received a tuple: .* reset returns"):
        ppo.predict(gym.make("CartPole-v1").reset())  # type: ignore[arg-type]


class Everything(gym.Env[Any, Any]):
    """Observations and actions of a kind, at random."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.observation_space.seed(seed)
        self.left = 5
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.left -= 1
        return self.observation_space.sample(), 1.0, False, self.left == 0, {}


IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
VECTOR = spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize(
    ("policy", "observations", "actions"),
    [
        ("MlpLruPolicy", VECTOR, spaces.Box(-1, 1, (2,), np.float32)),
        ("MlpLruPolicy", VECTOR, spaces.Box(-1, 1, (2, 3), np.float32)),
        ("MlpLruPolicy", spaces.Discrete(4), spaces.MultiDiscrete([2, 3])),
        ("MlpLruPolicy", spaces.MultiBinary(3), spaces.MultiBinary(2)),
        ("CnnLruPolicy", IMAGE, spaces.Discrete(3)),
        ("MultiInputLruPolicy", spaces.Dict({"a": VECTOR, "b": IMAGE}), spaces.Discrete(3)),
    ],
)
def test_all_spaces_of_stable_baselines(
    policy: str, observations: spaces.Space[Any], actions: spaces.Space[Any]
) -> None:
    env = make_vec_env(lambda: Everything(observations, actions), 2, seed=0)
    ppo = agent(env, policy=policy, n_steps=16, batch_size=16).learn(32)
    action, _ = ppo.predict(env.reset(), deterministic=True)  # type: ignore[arg-type]
    assert actions.contains(action[0])


def test_values_of_episodes_cut_by_a_time_limit_go_on() -> None:
    env = make_vec_env(lambda: Everything(VECTOR, spaces.Discrete(2)), 1, seed=0)
    ppo = agent(env, n_steps=8, batch_size=8, gamma=0.5).learn(8)
    rewards = ppo.rollout_buffer.rewards[:, 0]
    # Every reward is 1; the fifth step is the last of an episode, and the value of what follows
    # is added.
    assert (rewards[[0, 1, 2, 3, 5, 6, 7]] == 1).all()
    assert rewards[4] != 1 and abs(rewards[4] - 1) < 1


def test_the_value_at_a_time_limit_is_that_of_what_is_remembered() -> None:
    env = make_vec_env(lambda: Everything(VECTOR, spaces.Discrete(2)), 1, seed=0)
    ppo = agent(env, n_steps=8, batch_size=8, gamma=0.5, learning_rate=0.0)
    last: list[np.ndarray] = []

    def watch(known: dict[str, Any], _: Any) -> bool:
        last.extend(
            i["terminal_observation"] for i in known["infos"] if "terminal_observation" in i
        )
        return True

    ppo.learn(8, callback=watch)
    act, carry = ppo.policy.stepper(), ppo.policy.initial_carry(1, sensitivities=False)
    goes_on = torch.zeros(1, dtype=torch.bool)
    for seen in ppo.rollout_buffer.observations[:5]:
        _, _, _, carry = act(torch.as_tensor(seen), carry, goes_on)
    final = torch.as_tensor(last[0])[None]
    _, value, _, _ = act(final, carry, goes_on)
    assert ppo.rollout_buffer.rewards[4, 0] == pytest.approx(1 + 0.5 * float(value), rel=1e-5)
    # Without its memory the critic would say something else.
    _, forgetful, _, _ = act(final, ppo.policy.initial_carry(1, sensitivities=False), goes_on)
    assert abs(float(forgetful - value)) > 1e-3


@pytest.mark.usefixtures("in_doubles")
def test_credit_reaches_into_the_rollout_before() -> None:
    rollouts: list[_Chunks] = []
    ppo = agent(
        n_steps=16, learning_rate=0.0, policy_kwargs={"encoder": (), "cell_kwargs": {"r_min": 0.9}}
    )
    ppo.learn(64)
    rollouts.append(ppo._cut())
    ppo.learn(64, reset_num_timesteps=False)
    rollouts.append(ppo._cut())

    def gradient(first: _Chunks, second: _Chunks, carry: Carry) -> torch.Tensor:
        """Of the second rollout's values, in the memory's rates."""
        seen = torch.cat([cast(torch.Tensor, chunk.observations) for chunk in (first, second)])
        starts = torch.cat([chunk.starts for chunk in (first, second)])
        _, critic = ppo.policy.recur(seen, carry, starts)
        values = ppo.policy.value_net(ppo.policy.mlp_extractor.forward_critic(critic))
        parameter = cast(torch.Tensor, ppo.policy._each()["critic"].layer.nu_log)
        (found,) = torch.autograd.grad(values[-16:].sum(), parameter)
        return found

    # Both rollouts as one chunk each: time first.
    whole = [
        _Chunks(*(v.unflatten(0, (2, 4)).transpose(1, 2).flatten(0, 1) for v in vars(r).values()))
        for r in rollouts
    ]
    nothing = ppo.policy.initial_carry(4)
    true = gradient(whole[0], whole[1], nothing)
    none = _Chunks(*(value[:0] for value in vars(whole[0]).values()))
    online = gradient(none, whole[1], ppo._first_carry)
    assert relative_error(online, true) < 1e-6
    stale = Carry({**nothing, **ppo._first_carry.without_sensitivities()})
    assert relative_error(gradient(none, whole[1], stale), true) > 1e-3


@pytest.mark.parametrize("shared", [False, True])
def test_predict_acts_as_in_a_rollout(shared: bool) -> None:
    ppo = agent(policy_kwargs={"shared_recurrence": shared})
    act, carry = ppo.policy.stepper(), ppo.policy.initial_carry(3, sensitivities=False)
    state, rng = None, np.random.default_rng(0)
    for step in range(6):
        seen = rng.normal(size=(3, 4)).astype(np.float32)
        starts = np.array([step == 0, step == 2, False])
        torch.manual_seed(step)
        expected, _, _, carry = act(torch.as_tensor(seen), carry, torch.as_tensor(starts))
        torch.manual_seed(step)
        found, state = ppo.policy.predict(seen, state, starts)
        np.testing.assert_array_equal(found, expected)
    assert state is not None
    np.testing.assert_allclose(state[0], next(iter(carry.values())), rtol=1e-5, atol=1e-6)


def test_a_loaded_agent_cuts_its_rollouts_into_whole_chunks(tmp_path: Path) -> None:
    agent().save(tmp_path / "agent")
    with pytest.raises(InvalidValueError, match="chunk=8 does not divide n_steps=20"):
        RecurrentPPO.load(tmp_path / "agent", env=masked(), n_steps=20)


@pytest.mark.parametrize(
    ("space", "policy", "wanted"),
    [
        (spaces.Dict(a=VECTOR), "MlpLruPolicy", "MultiInputLruPolicy"),
        (VECTOR, "MultiInputLruPolicy", "MlpLruPolicy"),
        (VECTOR, "CnnLruPolicy", "MlpLruPolicy"),
        (spaces.Box(0, 255, (36, 36, 3), np.uint8), "MultiInputLruPolicy", "CnnLruPolicy"),
    ],
)
def test_a_policy_that_does_not_suit_the_observations_is_refused(
    space: spaces.Space[Any], policy: str, wanted: str
) -> None:
    env = make_vec_env(lambda: Everything(space, spaces.Discrete(2)), 1)
    with pytest.raises(InvalidValueError, match=f"policy is '{wanted}'. Received '{policy}'"):
        agent(env, policy=policy)


def test_images_may_be_normalised_already() -> None:
    env = make_vec_env(
        lambda: Everything(spaces.Box(0, 1, (3, 36, 36), np.float32), spaces.Discrete(2)), 2
    )
    as_they_are = {"normalize_images": False}
    ppo = agent(env, policy="CnnLruPolicy", policy_kwargs=as_they_are)
    assert ppo.learn(64).num_timesteps == 64
    with pytest.raises(InvalidValueError, match="Received 'CnnLruPolicy'"):
        agent(env, policy="CnnLruPolicy")


def test_a_vector_environment_of_gymnasium_is_as_good(tmp_path: Path) -> None:
    def learnt(env: Any) -> torch.Tensor:
        ppo = agent(env)
        ppo.learn(64)
        return torch.cat([each.flatten() for each in ppo.policy.parameters()])

    def make(mode: str) -> Any:
        return make_vec("CartPole-v1", 2, autoreset_mode=mode)

    assert torch.equal(learnt(make("SameStep")), learnt(SB3VecEnv(make("SameStep"))))
    ppo = agent(make("SameStep"))
    ppo.set_env(make("SameStep"))
    ppo.save(tmp_path / "agent")
    loaded = RecurrentPPO.load(tmp_path / "agent", env=make("SameStep"), device="cpu")
    loaded.learn(64)
    with pytest.raises(InvalidValueError, match="SameStep"):
        learnt(make("NextStep"))


def test_a_cell_has_a_rule_of_its_own() -> None:
    assert agent().policy.rule == "online"
    assert agent(policy_kwargs={"cell": "gru"}).policy.rule == "snap1"


def test_an_agent_of_another_package_is_not_loaded(tmp_path: Path) -> None:
    PPO("MlpPolicy", masked(), n_steps=16, device="cpu").save(tmp_path / "other")
    message = (
        r"should be a RecurrentPolicy\. Received a ActorCriticPolicy of stable_baselines3.* fit"
    )
    with pytest.raises(InvalidValueError, match=message):
        RecurrentPPO.load(tmp_path / "other", device="cpu")


def test_a_rollout_that_is_stopped_is_remembered() -> None:
    ppo, seen = agent(n_steps=64), []

    def watch(known: dict[str, Any], _: Any) -> bool:
        seen.append((known["observations"], known["starts"]))
        return len(seen) < 20

    ppo.learn(10_000, callback=watch)
    act, carry = ppo.policy.stepper(), ppo.policy.initial_carry(4, sensitivities=False)
    for observations, starts in seen:
        _, _, _, carry = act(observations, carry, starts)
    assert ppo._carry is not None
    torch.testing.assert_close(ppo._carry["actor.state"], carry["actor.state"])
    assert (ppo._carry["actor.input"] == 0).all()
    ppo.learn(256, reset_num_timesteps=False)


def test_actions_in_the_rollout_are_those_that_the_chunks_evaluate() -> None:
    for cell in ("lru", "linear-rtu", "gru"):
        rule = "snap1" if cell == "gru" else "online"
        ppo = agent(n_epochs=1, learning_rate=0.0, policy_kwargs={"cell": cell, "rule": rule})
        ppo.learn(256)
        chunks = ppo._cut()
        carries, _ = ppo._sweep(chunks)
        everything = torch.arange(len(chunks.starts))
        batch = chunks.rows(everything)
        with torch.no_grad():
            values, log_probs, _ = ppo.policy.evaluate_chunk(
                batch.observations, batch.actions, carries.rows(everything), batch.starts
            )
        torch.testing.assert_close(values, batch.values)
        torch.testing.assert_close(log_probs, batch.log_probs)


def test_methods_that_know_no_past_are_refused() -> None:
    policy = agent().policy
    for method in (policy, policy.predict_values, policy.get_distribution):
        with pytest.raises(InvalidValueError, match="needs to know what came before"):
            method(torch.zeros(1, 4))


@pytest.mark.learning
def test_it_balances_without_seeing_velocities() -> None:
    # Without memory 50 steps are the most; 300 are demanded.
    ppo = RecurrentPPO(
        "MlpLruPolicy",
        masked(n_envs=8),
        learning_rate=1e-3,
        n_steps=128,
        batch_size=256,
        n_epochs=10,
        seed=0,
        device="cpu",
        policy_kwargs={"state_size": 32},
    )
    best = 0.0
    while ppo.num_timesteps < 60_000 and best < 300:
        ppo.learn(10_000, reset_num_timesteps=False)
        best, _ = evaluate_policy(ppo, masked(seed=9), n_eval_episodes=12, warn=False)  # type: ignore[assignment]
    assert best >= 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk": 5}, "chunk=5 does not divide n_steps=32"),
        ({"chunk": 0}, "chunk=0: give a whole number, at least 1"),
        ({"chunk": 8.0}, "chunk=8.0: give a whole number"),
        ({"chunk": "8"}, "chunk='8': give a whole number"),
        ({"n_steps": "32"}, "n_steps='32': give a whole number"),
        ({"batch_size": 60}, "chunk=8 does not divide batch_size=60"),
        ({"refresh": "never"}, "refresh should be one of sweep, first-order, none. Received"),
        ({"refresh": "first-order", "policy_kwargs": {"rule": "truncated"}}, "rule is 'truncated'"),
        ({"policy_kwargs": {"rule": "bptt"}}, "set chunk to n_steps, which is 32. Received 8"),
        ({"use_sde": True}, "takes no use_sde"),
        ({"policy_kwargs": {"cell": "lstm"}}, "cell should be one of linear-rtu, lru"),
        ({"policy_kwargs": {"rule": "snap1"}}, "LinearRTU has no rule 'snap1'"),
        ({"policy_kwargs": {"share_features_extractor": False}}, "share the features extractor"),
        ({"policy_kwargs": {"lstm_hidden_size": 32}}, "it is called 'state_size' here"),
        ({"policy_kwargs": {"enable_critic_lstm": True}}, "sb3-contrib's; leave it out"),
        ({"policy_kwargs": {"encoder": 64}}, "such as (64,) or (). Received 64"),
        ({"policy_kwargs": {"encoder": (0,)}}, "encoder=0"),
        ({"policy_kwargs": {"horizon": 9}}, "of the cell: cell_kwargs={'horizon': …}"),
        (
            {"policy_kwargs": {"state_sise": 9}},
            "'state_sise' (policy_kwargs). Did you mean 'state_",
        ),
        (
            {"policy_kwargs": {"cell": "gru", "cell_kwargs": {"horizon": 9}}},
            "The cell 'gru' has no argument 'horizon' (cell_kwargs). It has none.",
        ),
        (
            {"policy": "MlpLstmPolicy"},
            "sb3-contrib's 'MlpLstmPolicy' is called 'MlpLruPolicy' here",
        ),
        ({"policy": "MlpPolicy"}, "There is no policy 'MlpPolicy'. For observations"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        agent(**changes)
