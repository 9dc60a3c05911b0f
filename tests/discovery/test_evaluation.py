import dataclasses

import torch
from gymnasium import spaces

from skillrl.agents import SkillPolicy
from skillrl.discovery.evaluation import Evaluation
from skillrl.discovery.recipes import recipe_for
from skillrl.rewards import NeuralReward
from walkers import maze_policy


def test_skills_of_discrete_actions_are_judged_with_the_noise_that_they_learnt_with() -> None:
    recipe = dataclasses.replace(recipe_for("Maze"), evaluation_steps=30)
    evaluation = Evaluation(recipe, NeuralReward((2,), "vector", hidden=4), num_threads=1)
    policy = maze_policy()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = evaluation.rewards(policy, seed=1)
    assert torch.equal(torch.rand(1), expected)  # nothing was drawn from what others draw from
    assert first == evaluation.rewards(policy, seed=1) == evaluation.rewards(policy, 1, noise=True)
    assert first != evaluation.rewards(policy, seed=2)
    evaluation.close()


def test_skills_of_continuous_actions_are_judged_without_noise() -> None:
    recipe = dataclasses.replace(recipe_for("HalfCheetah"), evaluation_steps=30)
    evaluation = Evaluation(recipe, NeuralReward((17,), "vector", hidden=4), num_threads=1)
    box = spaces.Box(-1.0, 1.0, (17,)), spaces.Box(-1.0, 1.0, (6,))
    policy = SkillPolicy(*box, lambda _: 0.0, hidden=(4,))
    quiet = SkillPolicy(*box, lambda _: 0.0, hidden=(4,))
    quiet.load_state_dict(policy.state_dict())
    with torch.no_grad():
        quiet.action_net.weight[6:] = 0.0
        quiet.action_net.bias[6:] = -50.0  # hardly any noise
    noiseless = evaluation.rewards(policy, seed=1)
    assert noiseless == evaluation.rewards(quiet, seed=1)
    assert noiseless != evaluation.rewards(policy, seed=1, noise=True)
    evaluation.close()
