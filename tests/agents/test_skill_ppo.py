import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from skillrl.agents.policy import SkillPolicy
from skillrl.agents.skill_ppo import SkillPPO
from skillrl.errors import InvalidValueError
from skillrl.rewards.precision import exact_convolutions

BOX = spaces.Box(np.array([-1.0], np.float32), np.array([3.0], np.float32))


class Toy(gym.Env[np.ndarray, Any]):
    """Counts its steps; ``reward(step, action)``, an end by ``dies`` or by the time limit.

    Observations are the count in this episode, one-hot or (where ``vector``) with noise.
    """

    def __init__(
        self,
        limit: int = 5,
        dies: bool = False,
        reward: Callable[[int, Any], float] = lambda step, action: 1.0,
        actions: spaces.Space[Any] = BOX,
        vector: bool = True,
        offset: float = 0.0,
    ) -> None:
        self.observation_space: spaces.Space[Any] = (
            spaces.Box(-np.inf, np.inf, (2,)) if vector else spaces.Box(0, limit, (1,), np.int64)
        )
        self.action_space = actions
        self.limit, self.dies, self.reward, self.offset = limit, dies, reward, offset
        self.vector = vector

    def _observe(self) -> np.ndarray:
        if not self.vector:
            return np.array([self.step_count])
        noise = self.np_random.normal()
        return np.array([self.step_count + self.offset, noise], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_count = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        reward = self.reward(self.step_count, action)
        self.step_count += 1
        over = self.step_count == self.limit
        return self._observe(), reward, over and self.dies, over and not self.dies, {}


def toys(n_envs: int = 1, **kwargs: Any) -> VecEnv:
    return DummyVecEnv([partial(Toy, **kwargs) for _ in range(n_envs)])


def make_agent(env: VecEnv, hidden: tuple[int, ...] = (16,), **kwargs: Any) -> SkillPPO:
    settings = {"n_steps": 16, "batch_size": 16 * env.num_envs, "n_epochs": 2, "seed": 0}
    policy_kwargs = {"hidden": hidden, **kwargs.pop("policy_kwargs", {})}
    return SkillPPO(
        "SkillPolicy",
        env,
        policy_kwargs=policy_kwargs,
        device="cpu",
        **{**settings, **kwargs},
    )


def weights(agent: SkillPPO) -> dict[str, torch.Tensor]:
    """Everything that was learnt, the normaliser's statistics too."""
    return {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def with_value(agent: SkillPPO, value: float) -> SkillPPO:
    with torch.no_grad():
        agent.policy.value_net.weight.zero_()
        agent.policy.value_net.bias.fill_(value)
    return agent


class Recorder(BaseCallback):
    """Keeps what ``names`` are at every step."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        self.steps: list[tuple[Any, ...]] = []

    def _on_step(self) -> bool:
        self.steps.append(tuple(copy.copy(self.locals[name]) for name in self.names))
        return True

    def column(self, name: str) -> np.ndarray:
        index = self.names.index(name)
        return np.stack([step[index] for step in self.steps])


# Returns and advantages.


def test_an_episode_cut_by_its_time_limit_goes_on() -> None:
    # A reward of 1 for ever is worth 1 / (1 − γ). A critic who knows is never surprised.
    gamma = 0.75
    agent = with_value(make_agent(toys(2), gamma=gamma, gae_lambda=0.9), 1 / (1 - gamma))
    agent.learn(32)
    buffer = agent.rollout_buffer
    np.testing.assert_allclose(buffer.advantages, 0.0, atol=1e-5)
    np.testing.assert_allclose(buffer.returns, 4.0, rtol=1e-5)


def test_a_death_is_the_end() -> None:
    # The same critic is surprised by a death, by 1 − 4 = −3; k steps before it by (γλ)ᵏ of that.
    gamma, lambda_ = 0.75, 0.8
    agent = make_agent(
        toys(2, dies=True), gamma=gamma, gae_lambda=lambda_, n_steps=13, batch_size=26
    )
    with_value(agent, 1 / (1 - gamma)).learn(26)
    # Two episodes of five steps, then three steps of one that goes on after the rollout.
    episode = [-3 * (gamma * lambda_) ** k for k in (4, 3, 2, 1, 0)]
    expected = np.array([*episode, *episode, 0.0, 0.0, 0.0])
    buffer = agent.rollout_buffer
    for column in range(2):
        np.testing.assert_allclose(buffer.advantages[:, column], expected, atol=1e-5)
        np.testing.assert_allclose(buffer.returns[:, column], 4.0 + expected, rtol=1e-5)


def test_a_critic_who_expects_nothing_learns_the_discounted_sums() -> None:
    agent = make_agent(
        toys(dies=True, reward=lambda step, action: float(step)),
        gamma=0.5,
        gae_lambda=1.0,
        n_steps=7,
        batch_size=7,
    )
    with_value(agent, 0.0).learn(7)
    # Rewards 0 1 2 3 4 | 0 1 …
    expected = [0.5 * 3.25, 3.25, 4.5, 5.0, 4.0, 0.5, 1.0]
    np.testing.assert_allclose(agent.rollout_buffer.returns[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_returns_equal_stable_baselines_with_a_critic_of_any_kind(scale: float) -> None:
    # Deaths after 5 steps and time limits after 4, in the same rollout.
    env = DummyVecEnv(
        [
            partial(Toy, limit, dies, lambda step, action: float(step * action[0]))
            for limit, dies in ((5, True), (4, False), (7, False))
        ]
    )
    agent = make_agent(env, gamma=0.9, gae_lambda=0.8, reward_scale=scale, n_epochs=1)
    recorder = Recorder("last_obs", "rewards", "dones", "infos", "new_obs")
    agent.learn(48)  # so that the normaliser and the critic are no longer the first ones
    policy_before = weights(agent)
    agent.learn(48, callback=recorder, reset_num_timesteps=False)
    ours = agent.rollout_buffer
    agent.policy.load_state_dict(policy_before)

    def value(observations: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return agent.policy.predict_values(torch.as_tensor(observations).float())

    theirs = RolloutBuffer(
        16, env.observation_space, env.action_space, "cpu", gae_lambda=0.8, gamma=0.9, n_envs=3
    )
    starts = ours.episode_starts[0]
    for last_obs, rewards, dones, infos, _ in recorder.steps:
        rewards = scale * rewards
        for index, info in enumerate(infos):
            if dones[index] and info["TimeLimit.truncated"]:
                rewards[index] += 0.9 * value(info["terminal_observation"][None]).item()
        values = value(last_obs).flatten()
        theirs.add(last_obs, np.zeros((3, 1)), rewards, starts, values, torch.zeros(3))
        starts = dones
    last_values = value(recorder.steps[-1][4])
    theirs.compute_returns_and_advantage(last_values, recorder.steps[-1][2])
    assert 0 < recorder.column("dones").sum() < 16 * 3
    for name in ("observations", "episode_starts"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    for name in ("rewards", "values", "advantages", "returns"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-5, err_msg=name
        )


class FlatPolicy(SkillPolicy):
    """For Stable-Baselines3's PPO, which flattens discrete actions before it evaluates them."""

    def evaluate_actions(  # type: ignore[override]
        self, obs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return super().evaluate_actions(obs, actions.reshape(-1, 1))


class Scalar(gym.ActionWrapper[np.ndarray, Any, Any]):
    """Takes the arrays of one action that Stable-Baselines3's PPO gets from ``SkillPolicy``."""

    def action(self, action: Any) -> Any:
        return np.asarray(action).reshape(-1)[0]


class Picture(gym.ObservationWrapper[np.ndarray, Any, Any]):
    """Shows the count as an image whose rows up to it are white."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)

    def observation(self, observation: Any) -> np.ndarray:
        image = np.zeros((36, 36, 1), np.uint8)
        image[: 6 * int(observation[0])] = 255
        return image


class Seed(BaseCallback):
    """Seeds torch before every rollout: updates draw their batches from other generators."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        torch.manual_seed(self.num_timesteps)


@pytest.mark.parametrize("images", [False, True])
def test_unguided_learning_equals_stable_baselines_ppo(images: bool) -> None:
    # Without a normaliser (one-hot observations or images, whose convolutions actor and critic
    # share) and with one batch an epoch nothing differs.
    def make() -> gym.Env[Any, Any]:
        actions = spaces.Discrete(3)
        toy = Toy(6, reward=lambda step, a: float(a == step % 3), actions=actions, vector=False)
        return Scalar(Picture(toy) if images else toy)

    settings: dict[str, Any] = {
        "learning_rate": lambda remaining: 3e-3 * remaining,
        "n_steps": 16,
        "batch_size": 64,
        "n_epochs": 3,
        "gamma": 0.9,
        "gae_lambda": 0.8,
        "clip_range": 0.1,
        "ent_coef": 0.02,
        "vf_coef": 0.7,
        "max_grad_norm": 0.3,
        "policy_kwargs": {"hidden": (16,)},
        "seed": 0,
        "device": "cpu",
    }
    with exact_convolutions():
        ours = SkillPPO("SkillPolicy", make_vec_env(make, 4, seed=0), **settings)
        ours.learn(256, callback=Seed())
        theirs = PPO(FlatPolicy, make_vec_env(make, 4, seed=0), **settings)
        theirs.learn(256, callback=Seed())
    actions = ours.rollout_buffer.swap_and_flatten(ours.rollout_buffer.actions)
    np.testing.assert_array_equal(actions, theirs.rollout_buffer.actions)
    expected = theirs.policy.state_dict()
    start = SkillPPO("SkillPolicy", make_vec_env(make, 4, seed=0), **settings).policy.state_dict()
    for name, tensor in ours.policy.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
        fixed = name.endswith(("offsets", "noise_scale"))
        assert fixed or not torch.equal(tensor, start[name])


# Noise.


def test_the_noise_shrinks_between_two_time_steps() -> None:
    agent = make_agent(toys(2))  # rollouts of 32 steps
    scales = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            scales.append(agent.policy.noise_scale.item())

    assert agent.policy.noise_scale == 1.0
    agent.set_noise(begin=32, end=96, final=0.2)
    agent.learn(160, callback=Watch())
    assert scales == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
    # It is the policy's own from then on: sampled actions vary by a fifth of what they would.
    observations = torch.zeros(20_000, 2)
    before_tanh = agent.policy.act(observations).detach()
    raw = agent.policy.action_parameters(observations[:1])[0, 1]
    std = torch.nn.functional.softplus(raw).item() + 1e-3
    assert before_tanh.std().item() == pytest.approx(0.2 * std, rel=0.03)
    # Another skill begins with all of it.
    agent.set_noise(begin=160, end=200, final=0.2)
    assert agent.policy.noise_scale == 1.0


@pytest.mark.parametrize(
    ("begin", "end", "final"), [(0, 10, 0.0), (0, 10, 1.5), (10, 10, 0.5), (20, 10, 0.5)]
)
def test_noise_that_cannot_shrink_so_is_refused(begin: int, end: int, final: float) -> None:
    with pytest.raises(InvalidValueError, match=f"final={final}, begin={begin}, end={end}"):
        make_agent(toys(2)).set_noise(begin, end, final)


# The guide.

AT_BOUND = float(BOX.high[0])


def make_guide(env: VecEnv) -> SkillPolicy:
    """A policy whose action is the upper bound, which an untrained agent never reaches."""
    guide = SkillPolicy(env.observation_space, env.action_space, lambda _: 0.0, hidden=(4,))
    with torch.no_grad():
        guide.action_net.weight.zero_()
        guide.action_net.bias.copy_(torch.tensor([100.0, -5.0]))
    return guide


def test_the_guide_acts_first_and_only_where_it_may() -> None:
    limit, max_steps, n_envs, episodes = 10, 6, 20, 12
    env = toys(n_envs, limit=limit)
    # Rollouts of 16 steps cut episodes of 10 anywhere. The last guided episodes begin before
    # step 8 · 10 · n_envs, the next begin at it.
    agent = make_agent(env, n_epochs=1)
    agent.set_guide(make_guide(env), max_steps, until=8 * limit * n_envs)
    recorder = Recorder("environment_actions")
    agent.learn(128 * n_envs, callback=recorder)
    guided = recorder.column("environment_actions")[..., 0] == AT_BOUND
    guided = guided[: episodes * limit].reshape(episodes, limit, n_envs)
    steps = guided.sum(1)
    # At the start of an episode without a gap.
    np.testing.assert_array_equal(guided, np.arange(limit)[:, None] < steps[:, None])
    assert not steps[:, 0].any()
    assert not steps[8:].any()
    # U[0, 6): 8 · 19 draws, of each value about 25 (± 4.6).
    counts = np.bincount(steps[:8, 1:].flat, minlength=max_steps)
    assert len(counts) == max_steps
    assert (np.abs(counts - 8 * 19 / 6) < 20).all()


@pytest.mark.parametrize("kwargs", [{"max_steps": 0}, {"until": 0}, {"guide": None}])
def test_no_guide_where_there_are_no_guided_steps(kwargs: dict[str, Any]) -> None:
    env = toys(3)
    agent = make_agent(env)
    settings: dict[str, Any] = {"guide": make_guide(env), "max_steps": 9, "until": 10**9, **kwargs}
    agent.set_guide(**settings)
    recorder = Recorder("environment_actions")
    agent.learn(96, callback=recorder)
    assert (recorder.column("environment_actions") < AT_BOUND).all()


def guided_agent(stranger: dict[str, Any], guided: bool, **kwargs: Any) -> SkillPPO:
    """An agent in environment 0 and two ``stranger``s, in which a guide acts (nearly) always."""
    env = DummyVecEnv([Toy, partial(Toy, **stranger), partial(Toy, **stranger)])
    env.seed(0)
    agent = make_agent(env, **kwargs)
    if guided:
        agent.set_guide(make_guide(env), 10**9, until=10**9)
    return agent


STRANGE: list[dict[str, Any]] = [
    {"reward": lambda step, action: 1e4 * step, "offset": 50.0},
    {"reward": lambda step, action: float("nan"), "dies": True},
]


@pytest.mark.parametrize("stranger", STRANGE)
def test_guided_transitions_are_not_learnt_from(stranger: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"ent_coef": 0.01, "ent_coef_rewarded": 0.1, "batch_size": 6}
    learnt = guided_agent({}, guided=True, **settings).learn(144)
    strange = guided_agent(stranger, guided=True, **settings).learn(144)
    # Not to the last bit: what time-outs lead to is valued in batches of other sizes.
    torch.testing.assert_close(weights(strange), weights(learnt), rtol=0, atol=1e-7)
    assert strange.mean_reward == learnt.mean_reward == 1.0
    # The normaliser counted environment 0 only: its 48 steps.
    assert strange.policy.normalizer is not None
    assert strange.policy.normalizer.count.item() == 48
    if np.isfinite(stranger["reward"](1, None)):
        unguided = guided_agent(stranger, guided=False, **settings).learn(144)
        assert not same(weights(unguided), weights(learnt))


def test_learning_beside_guided_environments_equals_learning_alone() -> None:
    guided = guided_agent(STRANGE[0], guided=True, batch_size=4)
    env = toys()
    env.seed(0)
    alone = make_agent(env, batch_size=4)
    assert same(weights(alone), weights(guided))
    for agent in (guided, alone):
        assert agent.env is not None
        _, callback = agent._setup_learn(16, Recorder())
        agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, 16)
    # Both saw the same environment 0, and now both did the same in it.
    np.testing.assert_array_equal(
        alone.rollout_buffer.observations, guided.rollout_buffer.observations[:, :1]
    )
    for name in ("actions", "log_probs", "advantages", "returns"):
        getattr(alone.rollout_buffer, name)[:] = getattr(guided.rollout_buffer, name)[:, :1]
    for agent in (guided, alone):
        torch.manual_seed(3)
        agent.train()
    assert same(weights(guided), weights(alone))


def test_the_mean_reward_is_of_the_agents_own_actions_and_unscaled() -> None:
    # Guided steps earn 100, the agent's own 0.5.
    env = toys(4, reward=lambda step, action: 100.0 if action[0] == AT_BOUND else 0.5)
    agent = make_agent(env, reward_scale=8.0)
    agent.set_guide(make_guide(env), 4, until=10**9)
    recorder = Recorder("rewards")
    agent.learn(64, callback=recorder)
    assert (recorder.column("rewards") == 100.0).any()
    assert agent.mean_reward == 0.5


def test_a_batch_of_one_transition_is_left_out() -> None:
    # 16 own steps in batches of 3: the last one alone has no spread to normalise by.
    agent = guided_agent({}, guided=True, batch_size=3).learn(48)
    assert all(tensor.isfinite().all() for tensor in weights(agent).values())


# Rewards and entropy.


def test_scaling_equals_scaled_rewards() -> None:
    def run(factor: float, scale: float) -> SkillPPO:
        env = toys(2, reward=lambda step, action: factor * float(action[0]))
        env.seed(0)
        return make_agent(env, reward_scale=scale).learn(96)

    # Powers of two: the products are exact.
    assert same(weights(run(4.0, 0.25)), weights(run(1.0, 1.0)))
    assert not same(weights(run(4.0, 1.0)), weights(run(1.0, 1.0)))


@pytest.mark.parametrize(("ent_coef", "rewarded"), [(0.1, 0.0), (0.0, 0.1), (0.1, 0.1)])
def test_the_entropy_bonus_depends_on_the_reward(ent_coef: float, rewarded: float) -> None:
    # Two states, the second rewarded by 1, and a critic who knows it: the advantages are exactly
    # zero, so that only the bonus moves the actor's weights, and those of a state by its own.
    env = toys(
        2,
        limit=2,
        dies=True,
        reward=lambda step, action: float(step),
        actions=spaces.Discrete(3),
        vector=False,
    )
    agent = make_agent(
        env,
        hidden=(),
        gamma=0.0,
        normalize_advantage=False,
        ent_coef=ent_coef,
        ent_coef_rewarded=rewarded,
    )
    with torch.no_grad():
        # The space has three positions; no reward is given in the last, where episodes end.
        agent.policy.value_net.weight.copy_(torch.tensor([[0.0, 1.0, 0.0]]))
        agent.policy.value_net.bias.zero_()
        agent.policy.action_net.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    before = weights(agent)["action_net.weight"]
    agent.learn(32)
    assert np.abs(agent.rollout_buffer.advantages).max() == 0.0
    moved = weights(agent)["action_net.weight"] != before
    assert moved[:, 0].all() if ent_coef else not moved[:, 0].any()
    assert moved[:, 1].all() if rewarded else not moved[:, 1].any()
    assert not moved[:, 2].any()


def test_the_entropy_bonus_is_the_same_for_all_by_default() -> None:
    def run(**kwargs: Any) -> dict[str, torch.Tensor]:
        env = toys(2, reward=lambda step, action: float(step % 2))
        env.seed(0)
        return weights(make_agent(env, **kwargs).learn(64))

    default = run(ent_coef=0.05)
    assert same(default, run(ent_coef=0.05, ent_coef_rewarded=0.05))
    assert not same(default, run(ent_coef=0.05, ent_coef_rewarded=0.0))


def test_negative_rewards_are_not_rewarded_even_where_the_critic_hopes() -> None:
    # At its time limit an episode of reward −1 is credited with γ · 50.
    def run(rewarded: float) -> dict[str, torch.Tensor]:
        env = toys(2, reward=lambda step, action: -1.0)
        env.seed(0)
        return weights(with_value(make_agent(env, ent_coef_rewarded=rewarded), 50.0).learn(64))

    assert same(run(0.0), run(10.0))


# Learning.


def test_hidden_layers_of_the_actor_learn_at_their_share() -> None:
    # Adam's first step is the learning rate in every weight whose gradient is not tiny.
    agent = make_agent(
        toys(2, reward=lambda step, action: float(action[0])),
        policy_kwargs={"hidden_learning_rate": 0.25},
        learning_rate=1e-3,
        n_epochs=1,
        max_grad_norm=1e9,
    )
    before = weights(agent)
    agent.learn(32)
    after = weights(agent)
    for name, share in [
        ("mlp_extractor.policy_net.0.weight", 0.25),
        ("mlp_extractor.value_net.0.weight", 1.0),
        ("action_net.weight", 1.0),
        ("value_net.weight", 1.0),
    ]:
        largest = (after[name] - before[name]).abs().max().item()
        assert largest == pytest.approx(1e-3 * share, rel=0.03), name


def test_the_learning_rate_follows_its_schedule() -> None:
    agent = make_agent(toys(), learning_rate=lambda remaining: remaining, n_epochs=1)
    rates: list[float] = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            rates.append(agent.policy.optimizer.param_groups[0]["lr"])

    agent.learn(64, callback=Watch())
    # Set before every update: after 16 of 64 steps 3/4 of the training remain, and so on.
    assert rates[1:] == [0.75, 0.5, 0.25]


@pytest.mark.learning
def test_a_bandit_in_a_box_finds_the_best_arm() -> None:
    # One step an episode, the best action 2 between the bounds −1 and 3.
    env = toys(16, limit=1, dies=True, reward=lambda step, action: -float((action[0] - 2) ** 2))
    agent = make_agent(env, learning_rate=1e-2, batch_size=128, n_epochs=4).learn(16 * 16 * 30)
    actions, _ = agent.predict(np.zeros((1, 2), np.float32), deterministic=True)
    assert actions[0, 0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.learning
def test_a_discrete_bandit_finds_the_best_arm_counted_from_its_start() -> None:
    arms = spaces.Discrete(4, start=10)
    env = toys(8, limit=1, dies=True, reward=lambda step, arm: float(arm == 12), actions=arms)
    agent = make_agent(env, learning_rate=1e-2).learn(16 * 8 * 20)
    assert agent.predict(np.zeros(2, np.float32), deterministic=True)[0] == 12


@pytest.mark.learning
def test_cartpole_is_balanced() -> None:
    agent = SkillPPO(
        "SkillPolicy",
        make_vec_env("CartPole-v1", 8, seed=0),
        2e-3,
        n_steps=128,
        batch_size=256,
        gamma=0.98,
        policy_kwargs={"hidden": (64, 64)},
        seed=0,
        device="cpu",
    ).learn(25_000)
    env = make_vec_env("CartPole-v1", 10, seed=1)
    observations = np.asarray(env.reset())
    lengths = np.zeros(10)
    alive = np.ones(10, bool)
    while alive.any():
        actions, _ = agent.predict(observations, deterministic=True)
        new_observations, _, dones, _ = env.step(actions)
        observations = np.asarray(new_observations)
        lengths += alive
        alive &= ~dones
    assert lengths.mean() >= 400


# Reproducing, saving and Stable-Baselines3's interface.


def test_a_seed_decides_every_bit() -> None:
    def run(seed: int) -> dict[str, torch.Tensor]:
        env = toys(3, reward=lambda step, action: float(action[0]))
        agent = make_agent(env, seed=seed, batch_size=16, ent_coef=0.01)
        agent.set_guide(make_guide(env), 4, until=10**9)
        return weights(agent.learn(144))

    first = run(7)
    torch.rand(5)
    assert same(run(7), first)
    assert not same(run(8), first)


def test_the_rollout_goes_on_from_its_saved_state() -> None:
    env = toys(3)
    agent = make_agent(env)
    agent.set_guide(make_guide(env), 4, until=10**9)
    agent.learn(48)
    saved = {name: array.copy() for name, array in agent.rollout_state().items()}
    # Sixteen steps are three episodes of five and one step.
    assert (saved["last_obs"][:, 0] == 1.0).all()
    assert not saved["last_episode_starts"].any()
    agent.start_from_reset(seed=5)
    first = np.asarray(agent.rollout_state()["last_obs"]).copy()
    assert (first[:, 0] == 0.0).all()
    assert agent.rollout_state()["last_episode_starts"].all()
    assert not agent.rollout_state()["guided_steps"].any()
    agent.start_from_reset(seed=5)
    np.testing.assert_array_equal(agent.rollout_state()["last_obs"], first)
    agent.learn(48, reset_num_timesteps=False)
    np.testing.assert_array_equal(agent.rollout_buffer.observations[0], first)
    agent.set_rollout_state(saved)
    agent.learn(48, reset_num_timesteps=False)
    np.testing.assert_array_equal(agent.rollout_buffer.observations[0], saved["last_obs"])


def test_a_saved_agent_predicts_and_learns_on(tmp_path: Path) -> None:
    def make() -> VecEnv:
        env = toys(2, reward=lambda step, action: float(action[0]))
        env.seed(0)
        return env

    agent = make_agent(make(), ent_coef=0.01, ent_coef_rewarded=0.1, reward_scale=0.5)
    agent.set_guide(make_guide(make()), 3, until=10**9)
    agent.learn(64)
    agent.save(tmp_path / "agent.zip")
    loaded = SkillPPO.load(tmp_path / "agent.zip", env=make(), device="cpu")
    assert same(weights(loaded), weights(agent))
    assert (loaded.ent_coef, loaded.ent_coef_rewarded, loaded.reward_scale) == (0.01, 0.1, 0.5)
    observations = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    expected, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    # Both learn on alike, the optimiser's moments included; the guide is not part of the file.
    agent.set_guide(None, 0, 0)
    for learner in (agent, loaded):
        learner.set_env(make())
        learner.set_random_seed(3)
        learner.learn(64)
    assert same(weights(loaded), weights(agent))


def test_an_agent_without_an_environment_cannot_be_reset_or_trained(tmp_path: Path) -> None:
    make_agent(toys(2)).save(tmp_path / "agent.zip")
    agent = SkillPPO.load(tmp_path / "agent.zip", device="cpu")
    with pytest.raises(InvalidValueError, match="set_env"):
        agent.start_from_reset(0)
    with pytest.raises(InvalidValueError, match="set_env"):
        next(agent.updates(100))


def test_parameters_can_be_copied_with_the_optimiser() -> None:
    def make(seed: int) -> SkillPPO:
        env = toys(2, reward=lambda step, action: float(action[0]))
        kwargs = {"hidden_learning_rate": 0.5}
        return make_agent(env, seed=seed, policy_kwargs=kwargs)

    source = make(0).learn(64)
    target = make(1)
    assert not same(weights(target), weights(source))
    # A copy: torch's optimisers would share the moments.
    parameters: Any = copy.deepcopy(source.get_parameters())
    target.set_parameters(parameters)
    assert same(weights(target), weights(source))
    for agent in (source, target):
        agent.set_random_seed(3)
        agent.learn(64)
    assert same(weights(target), weights(source))
    shares = [group["lr_share"] for group in target.policy.optimizer.param_groups]
    assert shares == [1.0, 0.5]


def test_a_callback_may_stop_the_training() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps < 20

    agent = make_agent(toys(2))
    before = weights(agent)
    agent.learn(1_000, callback=Stop())
    assert agent.num_timesteps == 20
    assert same(weights(agent), before)


def test_episodes_returns_are_reported() -> None:
    agent = make_agent(make_vec_env(partial(Toy, 4), 2)).learn(32)
    assert agent.ep_info_buffer is not None
    assert len(agent.ep_info_buffer) == 8
    assert all((info["r"], info["l"]) == (4.0, 4) for info in agent.ep_info_buffer)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"use_sde": True}, "use_sde"),
        ({"clip_range_vf": 0.2}, "clip_range_vf"),
        ({"target_kl": 0.1, "use_sde": True}, "target_kl, use_sde"),
    ],
)
def test_unsupported_arguments_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        SkillPPO("SkillPolicy", toys(), device="cpu", **kwargs)


def test_unsupported_spaces_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="bounded"):
        make_agent(toys(actions=spaces.Box(-np.inf, np.inf, (1,))))
