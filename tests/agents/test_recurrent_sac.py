import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from skillrl.agents import RecurrentPPO, RecurrentSAC, sequence_replay
from skillrl.agents.sequence_replay import SequenceReplayBuffer
from skillrl.errors import InvalidValueError
from skillrl.recurrent import Carry

UNIT = spaces.Box(-1, 1, (2,), np.float32)


class Echo(gym.Env[np.ndarray, np.ndarray]):
    """The first observation shows a number, which every action of the episode should be."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.number = 0.7 if self.np_random.random() < 0.5 else -0.7
        self.taken = 0
        return np.array([self.number, 1], np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        reward = -float((action[0] - self.number) ** 2)
        return np.zeros(2, np.float32), reward, False, self.taken == 4, {}


def echo(seed: int = 0, n_envs: int = 2) -> VecEnv:
    return make_vec_env(Echo, n_envs, seed=seed)


def agent(env: Any = None, **changes: Any) -> RecurrentSAC:
    settings: dict[str, Any] = {
        "buffer_size": 2_000,
        "learning_starts": 50,
        "batch_size": 8,
        "chunk": 4,
        "burn_in": 4,
        "seed": 0,
        "device": "cpu",
        **changes,
    }
    memory = settings.pop("policy_kwargs", {})
    policy = settings.pop("policy", "MlpLruPolicy")
    memory = {"state_size": 6, "encoder": (8,), "net_arch": [16], **memory}
    return RecurrentSAC(policy, echo() if env is None else env, policy_kwargs=memory, **settings)


def buffer_of(steps: int, size: int = 24) -> SequenceReplayBuffer:
    """A buffer whose observations, actions and states tell the step they belong to."""
    space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    buffer = SequenceReplayBuffer(
        *(2 * size, space, spaces.Box(-1, 1, (1,), np.float32), "cpu"),
        n_envs=2,
        stride=4,
        length=6,
        states={"state": (1,)},
    )
    for step in range(steps):
        numbers = np.array([[step], [1_000 + step]], np.float32)
        starts = np.full(2, step % 10 == 0)
        buffer.add_state(Carry({"state": torch.as_tensor(numbers)}), starts)
        cut = step % 10 == 9
        infos = [{"TimeLimit.truncated": cut}, {}]
        done = np.full(2, cut)
        buffer.add(numbers, numbers + 0.5, numbers / 2_000, numbers[:, 0], done, infos)
    return buffer


@pytest.mark.parametrize(
    ("steps", "oldest"), [(7, 0), (8, 0), (23, 0), (24, 0), (25, 1), (30, 6), (95, 71), (96, 72)]
)
def test_sequences_begin_where_a_state_is_kept_and_end_before_the_newest_step(
    steps: int, oldest: int
) -> None:
    buffer = buffer_of(steps)
    expected = {begin for begin in range(0, steps, 4) if begin >= oldest and begin + 7 <= steps}
    torch.manual_seed(0)
    batch = buffer.sample_sequences(200)
    first = batch.seen.observations[0, :, 0]  # type: ignore[index]
    assert {int(value) % 1_000 for value in first} == expected
    assert {int(value) // 1_000 for value in first} == {0, 1}
    # All of a sequence is of one environment and one stream.
    observations = batch.seen.observations[..., 0]  # type: ignore[index]
    assert torch.equal(observations, first + torch.arange(7.0)[:, None])
    assert torch.equal(batch.seen.carry["state"][:, 0], first)
    assert torch.equal(batch.rewards, observations[:-1])
    torch.testing.assert_close(batch.actions[..., 0], observations[:-1] / 2_000)
    assert torch.equal(batch.seen.starts, observations % 1_000 % 10 == 0)
    ends = observations[:-1] % 1_000 % 10 == 9
    # The first environment's episodes have a time limit, the second's end by themselves.
    limits = torch.zeros_like(ends)
    limits[tuple(batch.limits)] = True
    assert torch.equal(limits, ends & (first < 1_000))
    assert torch.equal(batch.terminations == 1, ends & (first >= 1_000))
    assert (batch.counts == 1).all()
    finals = batch.finals[:, 0]  # type: ignore[index]
    assert torch.equal(finals, observations[:-1][tuple(batch.limits)] + 0.5)


def test_beyond_a_time_limit_the_episode_goes_on() -> None:
    batch = buffer_of(24).sample_sequences(50)
    steps, rows, seen = batch.beyond_limits(2)
    assert (steps >= 2).all() and len(steps) == int((batch.limits[0] >= 2).sum()) > 0
    assert len(steps) < len(batch.limits[0])
    whole, copies = batch.seen.observations, seen.observations
    assert isinstance(whole, torch.Tensor) and isinstance(copies, torch.Tensor)
    for number, (step, row) in enumerate(zip(steps, rows, strict=True)):
        expected, starts = whole[:, row].clone(), batch.seen.starts[:, row].clone()
        assert starts[step + 1] and expected[step] % 10 == 9
        expected[step + 1], starts[step + 1] = expected[step] + 0.5, False
        assert torch.equal(copies[:, number], expected)
        assert torch.equal(seen.starts[:, number], starts)
        assert torch.equal(seen.carry["state"][number], batch.seen.carry["state"][row])


def test_before_the_first_sequence_there_is_none() -> None:
    with pytest.raises(InvalidValueError, match=r"learning_starts=14 steps"):
        buffer_of(6).sample_sequences(1)


def test_too_large_and_too_small_buffers_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"GiB are free: make buffer_size smaller"):
        agent(buffer_size=10**12)
    with pytest.raises(InvalidValueError, match=r"buffer_size=20 holds 8 steps of each of 2"):
        agent(buffer_size=20)


def test_learning_twice_with_one_seed_gives_equal_parameters() -> None:
    first, second = (agent(echo()).learn(120).policy.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_loaded_agent_acts_and_learns(tmp_path: Path) -> None:
    sac = agent().learn(120)
    sac.save(tmp_path / "agent")
    loaded = RecurrentSAC.load(tmp_path / "agent", env=echo(), device="cpu")
    observation = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    expected, state = sac.predict(observation, deterministic=True)
    found, other = loaded.predict(observation, deterministic=True)
    np.testing.assert_array_equal(found, expected)
    assert state is not None and other is not None
    assert all(np.array_equal(a, b) for a, b in zip(state, other, strict=True))
    # The actor alone is carried when it acts.
    assert len(state) == 1 and state[0].shape == (3, 6, 2)
    before = {name: value.clone() for name, value in loaded.policy.state_dict().items()}
    loaded.learn(120, reset_num_timesteps=False)
    after = loaded.policy.state_dict()
    for part in ("actor.recurrence.layer.nu_log", "critic.recurrences.1.layer.nu_log"):
        assert not torch.equal(before[part], after[part])
    assert not torch.equal(
        before["critic_target.qf0.0.weight"], after["critic_target.qf0.0.weight"]
    )


def test_saving_loading_and_going_on_equals_never_having_stopped(tmp_path: Path) -> None:
    sac = agent().learn(120)
    sac.save(tmp_path / "agent")
    sac.save_replay_buffer(tmp_path / "buffer")
    random = torch.get_rng_state()
    loaded = RecurrentSAC.load(tmp_path / "agent", device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    # On a copy of the environments in the same state.
    ends = []
    for each in (sac, loaded):
        env = echo(seed=5)
        each.set_env(env, force_reset=False)
        each._last_obs = env.reset()  # type: ignore[assignment]
        # In the middle of episodes: what was carried before counts.
        each._last_episode_starts = np.zeros(2, bool)
        assert each._carry is not None and bool(each._carry["actor.state"].any())
        torch.set_rng_state(random)
        ends.append(each.learn(60, reset_num_timesteps=False).policy.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_after_a_stop_new_episodes_begin() -> None:
    sac, seen = agent(learning_starts=1_000), []

    def watch(known: dict[str, Any], _: Any) -> bool:
        seen.append(known["new_obs"])
        return len(seen) != 4  # in the last step of an episode, which is not stored

    sac.learn(1_000, callback=watch)
    sac.learn(8, callback=watch, reset_num_timesteps=False)
    buffer = sac.replay_buffer
    assert buffer is not None and buffer.pos == 3 + 4
    assert buffer._data["starts"][:7, 0].tolist() == [True, False, False, True] + 3 * [False]
    assert np.flatnonzero(buffer._data["cuts"][:7, 0]).tolist() == [2]
    assert np.flatnonzero(buffer._data["limits"][:7, 0]).tolist() == [6]


class Ending(Echo):
    """Some episodes end by themselves, others are cut."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, _, cut, info = super().step(action)
        return observation, reward, self.number > 0 and self.taken == 3, cut, info


def test_the_critics_loss_is_that_of_a_walk_along_each_sequence() -> None:
    sac = agent(make_vec_env(Ending, 2, seed=0), ent_coef=0.0, gamma=0.9, chunk=6).learn(200)
    buffer, policy = sac.replay_buffer, sac.policy
    assert buffer is not None
    with torch.no_grad():  # without noise
        sac.actor.log_std.weight.zero_()  # type: ignore[attr-defined]
        sac.actor.log_std.bias.fill_(-100.0)  # type: ignore[attr-defined]
    random = torch.get_rng_state()
    batch = buffer.sample_sequences(8)
    assert isinstance(batch.seen.observations, torch.Tensor)
    starts = batch.seen.starts
    assert batch.terminations[4:].any() and (batch.limits[0] >= 4).any()

    def walk(recurrence: Any, name: str, row: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What one network remembers of one sequence, and what if nothing was seen instead."""
        assert isinstance(batch.seen.observations, torch.Tensor)
        state, step, found = batch.seen.carry.part(name).rows(row), recurrence.stepper(), []
        ends = []
        for seen, start in zip(batch.seen.observations[:, row], starts[:, row], strict=True):
            # Every episode ends with nothing to be seen.
            ends.append(step(torch.zeros(1, 2), state)[0])
            if start:
                state = Carry({"state": torch.zeros_like(state["state"])})
            output, state = step(seen[None], state)
            found.append(output)
        return found, ends

    errors, count = torch.zeros(()), 0
    with torch.no_grad():
        for row in range(8):
            actor = walk(policy.actor.recurrence, "actor", row)
            known, expected = (
                [walk(part, name, row) for name, part in critic.each().items()]
                for critic in (policy.critic, policy.critic_target)
            )
            for t in range(4, 10):
                count += 1
                # With what the episode goes on.
                which = int(starts[t + 1, row])
                hidden = policy.actor.latent_pi(actor[which][t + 1])
                following = policy.actor.mu(hidden).tanh()
                goes_on = min(
                    float(network(torch.cat([latent[which][t + 1], following], 1)))
                    for network, latent in zip(
                        policy.critic_target.q_networks, expected, strict=True
                    )
                )
                target = batch.rewards[t, row]
                if not batch.terminations[t, row]:
                    target = target + 0.9 * goes_on
                for network, latent in zip(policy.critic.q_networks, known, strict=True):
                    inputs = torch.cat([latent[0][t], batch.actions[t, row][None]], 1)
                    errors += 0.5 * (network(inputs).squeeze() - target).square()
    torch.set_rng_state(random)
    _, _, loss, _ = sac._update(8)
    assert loss == pytest.approx(float(errors) / count, rel=1e-4)


def test_target_critics_burn_in_with_their_own_weights() -> None:
    sac = agent(chunk=2, burn_in=3).learn(60)
    assert sac.replay_buffer is not None
    batch = sac.replay_buffer.sample_sequences(5)
    known = sac.critic.remember(batch.seen, 3)
    for own, target in zip(sac.critic.parameters(), sac.critic_target.parameters(), strict=True):
        target.data.copy_(own.data)
    same = sac.critic_target.remember(batch.seen, 3)
    with torch.no_grad():
        sac.critic_target.recurrences[0].layer.nu_log.add_(0.5)  # type: ignore[union-attr, operator]
    other = sac.critic_target.remember(batch.seen, 3)
    torch.testing.assert_close(known, same)
    assert not torch.allclose(known[0], other[0])
    torch.testing.assert_close(known[1], other[1])


@pytest.mark.parametrize("rule", ["online", "truncated"])
def test_credit_reaches_into_the_burn_in_by_the_rule_online(rule: str) -> None:
    torch.manual_seed(0)
    sac = agent(burn_in=6, policy_kwargs={"rule": rule, "encoder": ()}).learn(100)
    assert sac.replay_buffer is not None
    batch = sac.replay_buffer.sample_sequences(16)
    layer = sac.actor.recurrence.layer
    # As if one episode took all of a sequence.
    starts = torch.zeros_like(batch.seen.starts)

    def gradient(burn_in: int) -> torch.Tensor:
        layer.zero_grad()
        remembered = sac.actor.remember(batch.seen._replace(starts=starts), burn_in)
        remembered[-2:].square().sum().backward()
        return layer.nu_log.grad.clone()  # type: ignore[union-attr, operator]

    # As if all of the sequence were learnt from, or not.
    assert torch.allclose(gradient(6), gradient(0), rtol=1e-4, atol=1e-6) == (rule == "online")


def test_learning_anew_begins_with_new_episodes_and_cuts_the_old_ones() -> None:
    sac = agent(learning_starts=10_000).learn(6)  # three steps of two environments
    buffer = sac.replay_buffer
    assert buffer is not None and sac._carry is not None
    sac.learn(6)  # which resets the environments in the middle of their episodes
    assert buffer._data["starts"][:6, 0].tolist() == [True, False, False, True, False, False]
    assert buffer._data["cuts"][:6, 0].tolist() == [False, False, True, False, False, False]
    # Nothing of the old episodes is remembered.
    carry = sac.policy.initial_carry(2, sensitivities=False)
    for step in range(3, 6):
        seen = torch.as_tensor(buffer._data["observations."][step])
        starts = torch.as_tensor(buffer._data["starts"][step])
        _, carry = sac.policy.act(seen, carry, starts)
    torch.testing.assert_close(sac._carry["actor.state"], carry["actor.state"])


def test_observations_and_rewards_are_learnt_from_as_they_are_acted_on() -> None:
    envs = VecNormalize(echo())
    sac = agent(envs).learn(60)
    assert sac.replay_buffer is not None
    torch.manual_seed(0)
    raw = sac.replay_buffer.sample_sequences(5)
    torch.manual_seed(0)
    normal = sac.replay_buffer.sample_sequences(5, envs)
    expected = envs.normalize_obs(raw.seen.observations.numpy())  # type: ignore[union-attr]
    np.testing.assert_allclose(normal.seen.observations, expected, rtol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        normal.rewards, envs.normalize_reward(raw.rewards.numpy()), rtol=1e-6
    )
    assert not torch.allclose(normal.rewards, raw.rewards)


def test_a_replay_buffer_of_another_agent_is_refused(tmp_path: Path) -> None:
    sac = agent().learn(60)
    sac.save_replay_buffer(tmp_path / "buffer")
    for message, other in {
        "of an agent with chunk=4, and this one has 2": agent(chunk=2),
        "with burn_in=4, and this one has 6": agent(burn_in=6),
        "with n_envs=2, and this one has 3": agent(echo(n_envs=3)),
        "with states={'actor.state'": agent(policy_kwargs={"state_size": 5}),
    }.items():
        own = other.replay_buffer
        with pytest.raises(InvalidValueError, match=message):
            other.load_replay_buffer(tmp_path / "buffer")
        assert other.replay_buffer is own
    SAC("MlpPolicy", echo(), device="cpu").save_replay_buffer(tmp_path / "buffer")
    with pytest.raises(InvalidValueError, match=r"SequenceReplayBuffer\. Received a ReplayBuffer"):
        sac.load_replay_buffer(tmp_path / "buffer")


def test_what_load_changes_is_checked(tmp_path: Path) -> None:
    agent().save(tmp_path / "agent")
    with pytest.raises(InvalidValueError, match=r"takes no n_steps\."):
        RecurrentSAC.load(tmp_path / "agent", n_steps=3)
    with pytest.raises(InvalidValueError, match="Received a RecurrentSACPolicy of"):
        RecurrentPPO.load(tmp_path / "agent")
    RecurrentPPO("MlpLruPolicy", "Pendulum-v1").save(tmp_path / "ppo")
    with pytest.raises(InvalidValueError, match="Received a RecurrentPolicy of"):
        RecurrentSAC.load(tmp_path / "ppo")
    with pytest.raises(InvalidValueError, match=r"refresh should be one of .* Received 'sweeps'"):
        RecurrentPPO.load(tmp_path / "ppo", refresh="sweeps")


def test_discrete_actions_and_unsupported_arguments() -> None:
    with pytest.raises(InvalidValueError, match="use RecurrentPPO"):
        RecurrentSAC("MlpLruPolicy", make_vec_env("CartPole-v1"))
    with pytest.raises(InvalidValueError, match="use RecurrentPPO"):
        RecurrentSAC("MlpLruPolicy", "CartPole-v1")
    with pytest.raises(InvalidValueError, match=r"policy is 'MlpLruPolicy'\. Received 'MlpPolicy'"):
        RecurrentSAC("MlpPolicy", "Pendulum-v1")
    with pytest.raises(InvalidValueError, match="what came before"):
        agent().policy(torch.zeros(1, 2))
    with pytest.raises(InvalidValueError, match=r"takes no n_steps, use_sde\."):
        agent(use_sde=True, n_steps=3, optimize_memory_usage=False)
    refused: list[tuple[str, Any]] = [
        *(("chunk", 0), ("chunk", 4.0), ("chunk", "4")),
        *(("burn_in", -1), ("burn_in", 1.5), ("batch_size", 0)),
    ]
    for name, value in refused:
        with pytest.raises(InvalidValueError, match=rf"{name}={value!r}: give a whole number"):
            agent(**{name: value})
    with pytest.raises(InvalidValueError, match="cell should be one of"):
        agent(policy_kwargs={"cell": "lstm"})
    with pytest.raises(InvalidValueError, match="share_features_extractor is not supported"):
        agent(policy_kwargs={"share_features_extractor": True})


def test_defaults_of_stable_baselines3_ask_for_nothing() -> None:
    usual = {"use_sde": False, "action_noise": None, "optimize_memory_usage": False, "n_steps": 1}
    classes = {"replay_buffer_class": None, "replay_buffer_kwargs": None}
    assert agent(burn_in=0, **usual, **classes).learn(60).num_timesteps == 60


class Grid(Echo):
    """Actions have two dimensions; which of their numbers is which can be told."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-1, 1, (2, 3), np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return super().step(action[0])


def test_actions_may_have_several_dimensions() -> None:
    sac = agent(make_vec_env(Grid, 2, seed=0), learning_starts=40).learn(120)
    assert sac.replay_buffer is not None
    # Of the first steps at random, and of those that the actor chose.
    assert sac.replay_buffer._data["actions"].shape[2:] == (6,)
    action, _ = sac.predict(np.zeros((5, 2), np.float32), deterministic=True)
    assert action.shape == (5, 2, 3)
    # As the actor gives them, row by row: the box is that of the squashed actions.
    carry = sac.policy.initial_carry(5, sensitivities=False)
    starts = torch.zeros(5, dtype=torch.bool)
    flat, _ = sac.policy.act(torch.zeros(5, 2), carry, starts, deterministic=True)
    np.testing.assert_allclose(action.reshape(5, 6), flat, rtol=1e-6, atol=1e-6)


class Fixed(gym.Env[Any, Any]):
    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]):
        self.observation_space, self.action_space = observation_space, action_space


@pytest.mark.parametrize("kind", [RecurrentPPO, RecurrentSAC])
@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (spaces.Tuple([UNIT, UNIT]), UNIT, "Observations should be a Box, Discrete"),
        (spaces.Dict(a=spaces.Dict(b=UNIT)), UNIT, "or a Dict of such. Received Dict"),
        (UNIT, spaces.Box(-np.inf, np.inf, (2,)), "Actions should be bounded. Received Box"),
        (UNIT, spaces.Box(0, 3, (2,), np.int64), "Actions should be a Box of floats. Received Box"),
        (UNIT, spaces.Dict(a=UNIT), "Received Dict"),
    ],
)
def test_unsupported_spaces(
    kind: type[RecurrentPPO | RecurrentSAC], observations: Any, actions: Any, message: str
) -> None:
    name = "MultiInputLruPolicy" if isinstance(observations, spaces.Dict) else "MlpLruPolicy"
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        kind(name, Fixed(observations, actions))


@pytest.mark.parametrize(
    ("kind", "env"), [(RecurrentPPO, "CartPole-v1"), (RecurrentSAC, "Pendulum-v1")]
)
def test_callbacks_and_helpers_of_stable_baselines(
    kind: type[RecurrentPPO | RecurrentSAC], env: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "policy_kwargs": {"state_size": 4, "encoder": (8,), "net_arch": [8]},
        **({"n_steps": 16, "batch_size": 32, "n_epochs": 1} if kind is RecurrentPPO else {}),
        **({"buffer_size": 400, "batch_size": 4} if kind is RecurrentSAC else {}),
    }
    envs = VecNormalize(make_vec_env(env, 2, seed=0))
    others = VecNormalize(make_vec_env(env, 1, seed=1), training=False, norm_reward=False)
    saves = CheckpointCallback(32, str(tmp_path), save_replay_buffer=True, save_vecnormalize=True)
    evaluates = EvalCallback(
        others, n_eval_episodes=1, eval_freq=32, best_model_save_path=str(tmp_path), verbose=0
    )
    made = kind("MlpLruPolicy", envs, seed=0, device="cpu", **settings)
    made.learn(160, callback=[saves, evaluates])
    other = kind("MlpLruPolicy", envs, seed=1, device="cpu", **settings)
    other.set_parameters(made.get_parameters())  # type: ignore[arg-type]
    observations = np.ones((2, *envs.observation_space.shape), np.float32)  # type: ignore[misc]
    best = kind.load(tmp_path / "best_model", env=envs, device="cpu")
    late = kind.load(tmp_path / "rl_model_128_steps", env=envs, device="cpu")
    for each in (other, best.learn(32), late.learn(32)):
        action, _ = each.predict(observations, deterministic=True)
        assert envs.action_space.contains(action[0])
    expected, _ = made.predict(observations, deterministic=True)
    found, _ = other.predict(observations, deterministic=True)
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(evaluate_policy(made, others, 1)[0])


@pytest.mark.learning
def test_it_repeats_what_it_no_longer_sees() -> None:
    sac = agent(
        echo(n_envs=4),
        buffer_size=20_000,
        learning_starts=200,
        batch_size=32,
        learning_rate=2e-3,
        gamma=0.5,
        policy_kwargs={"state_size": 8, "encoder": (16,), "net_arch": [32, 32]},
    )
    best = -10.0
    while sac.num_timesteps < 12_000 and best < -0.3:
        sac.learn(1_000, reset_num_timesteps=False)
        best, _ = evaluate_policy(sac, echo(seed=9), n_eval_episodes=20, warn=False)  # type: ignore[assignment]
    # Without memory the last three actions can do no better than 0: −0.49 each.
    assert best >= -0.3


def test_free_memory_is_that_of_the_container(tmp_path: Path) -> None:
    assert sequence_replay._free_in_group(tmp_path) is None
    (tmp_path / "memory.current").write_text("400\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert sequence_replay._free_in_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert sequence_replay._free_in_group(tmp_path) == 600
