from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from skillrl.agents import SkillPolicy, SkillPPO
from skillrl.discovery.settings import TransferRecipe
from skillrl.discovery.transfer import transfer
from skillrl.envs import MazeVectorEnv, SB3VecEnv

OBSERVATIONS = np.random.default_rng(0).normal(2.0, 3.0, (30, 2)).astype(np.float32)
VALUE = ("value_net", "mlp_extractor.value_net")
FEATURES = "mlp_extractor.policy_net"


def new_agent(lines: Any, seed: int) -> SkillPPO:
    return SkillPPO(
        "SkillPolicy",
        SB3VecEnv(lines(4)),
        n_steps=8,
        batch_size=32,
        seed=seed,
        device="cpu",
        policy_kwargs={"hidden": (8, 8), "hidden_learning_rate": 0.5},
    )


@pytest.fixture
def previous(lines: Any) -> SkillPolicy:
    """A policy that has learnt a little, so that nothing of it is as it was drawn."""
    agent = new_agent(lines, seed=1).learn(200)
    policy = agent.policy
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy


def transferred(
    previous: SkillPolicy, lines: Any, **settings: Any
) -> tuple[SkillPPO, dict[str, torch.Tensor]]:
    """An agent that has taken ``previous`` over, and what ``previous`` was before."""
    before = {name: tensor.clone() for name, tensor in previous.state_dict().items()}
    agent = new_agent(lines, seed=2).learn(100)
    torch.manual_seed(3)
    transfer(previous, agent, TransferRecipe(**settings))
    return agent, before


def kept(agent: SkillPPO, before: dict[str, torch.Tensor], prefix: str | tuple[str, ...]) -> bool:
    """Whether all parameters of one part are those of the last skill; none of them, if not."""
    state = agent.policy.state_dict()
    same = {torch.equal(state[name], before[name]) for name in before if name.startswith(prefix)}
    assert len(same) == 1
    return same.pop()


def test_the_papers_transfer_zeroes_the_head_and_keeps_the_rest(
    previous: SkillPolicy, lines: Any
) -> None:
    agent, before = transferred(previous, lines, head="zero")
    assert all((p == 0).all() for p in agent.policy.action_net.parameters())
    assert kept(agent, before, VALUE)
    assert kept(agent, before, FEATURES)
    actions, _ = agent.policy.predict(OBSERVATIONS, deterministic=True)
    assert (actions == 0.0).all()
    seen = torch.as_tensor(OBSERVATIONS)
    assert torch.equal(agent.policy.predict_values(seen), previous.predict_values(seen))


def test_the_mean_action_may_be_kept_while_its_noise_is_wide_again(
    previous: SkillPolicy, lines: Any
) -> None:
    agent, _ = transferred(previous, lines, head="noise")
    np.testing.assert_array_equal(
        agent.policy.predict(OBSERVATIONS, deterministic=True)[0],
        previous.predict(OBSERVATIONS, deterministic=True)[0],
    )
    with torch.no_grad():
        raw_std = agent.policy.action_parameters(torch.as_tensor(OBSERVATIONS))[:, 1]
    assert (raw_std == 0.0).all()


def test_the_head_may_be_kept(previous: SkillPolicy, lines: Any) -> None:
    agent, before = transferred(previous, lines, head="keep")
    assert kept(agent, before, "action_net")


@pytest.mark.parametrize(("head", "zero"), [("noise", True), ("zero", True), ("keep", False)])
def test_the_logits_of_discrete_actions_are_all_noise(head: Any, zero: bool) -> None:
    env = SB3VecEnv(MazeVectorEnv(4, autoreset_mode="SameStep"))
    agents = [
        SkillPPO("SkillPolicy", env, n_steps=8, batch_size=32, seed=seed, device="cpu")
        for seed in range(2)
    ]
    transfer(agents[0].policy, agents[1], TransferRecipe(head=head))
    assert isinstance(agents[1].action_space, spaces.Discrete)
    assert all((p == 0).all() for p in agents[1].policy.action_net.parameters()) is zero


def test_the_value_function_may_be_learnt_anew(previous: SkillPolicy, lines: Any) -> None:
    agent, before = transferred(previous, lines, reuse_value=False)
    assert not kept(agent, before, ("value_net.weight", f"{VALUE[1]}.0.weight"))
    assert kept(agent, before, FEATURES)


def test_the_hidden_layers_may_be_learnt_anew(previous: SkillPolicy, lines: Any) -> None:
    agent, before = transferred(previous, lines, reuse_features=False)
    assert not kept(agent, before, f"{FEATURES}.0.weight")
    assert not kept(agent, before, f"{FEATURES}.2.weight")
    assert kept(agent, before, VALUE)


def test_old_statistics_fade_but_are_not_lost(previous: SkillPolicy, lines: Any) -> None:
    agent, before = transferred(previous, lines, normalizer_decay=0.1)
    normalizer = agent.policy.normalizer
    assert normalizer is not None
    assert before["features_extractor.count"].item() == 224  # seven rollouts of 32 steps
    assert normalizer.count.item() == pytest.approx(22.4)
    assert torch.equal(normalizer.mean, before["features_extractor.mean"])
    assert torch.equal(normalizer.var, before["features_extractor.var"])


def test_the_optimiser_is_new(previous: SkillPolicy, lines: Any) -> None:
    agent, _ = transferred(previous, lines)
    optimizer = agent.policy.optimizer
    assert not optimizer.state
    assert [group["lr_share"] for group in optimizer.param_groups] == [1.0, 0.5]
    learning = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert learning == {id(p) for p in agent.policy.parameters()}
    # It learns: the parameters that it holds are those that the agent acts with.
    before = [p.clone() for p in agent.policy.parameters()]
    agent.learn(32)
    after = list(agent.policy.parameters())
    assert all(not torch.equal(new, old) for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize("head", ["zero", "noise", "keep"])
def test_the_last_skill_itself_stays_as_it_is(head: str, previous: SkillPolicy, lines: Any) -> None:
    agent, before = transferred(previous, lines, head=head, reuse_value=False)
    agent.learn(64)
    for name, tensor in previous.state_dict().items():
        assert torch.equal(tensor, before[name])
