"""The baseline whose rewards are drawn at random."""

from pathlib import Path

import pytest
import torch

from runs import small
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.random_rewards import RandomRewards
from skillrl.discovery.run import discover
from skillrl.discovery.samples import gather_negatives
from skillrl.discovery.settings import Recipe

MAZE = small("skillrl/Maze2D-v0", env_kwargs={"max_episode_steps": 40}, method="random-rewards")
HOPPER = small("Hopper-v5", env_kwargs={"max_episode_steps": 45}, method="random-rewards")


@pytest.mark.parametrize("recipe", [MAZE, HOPPER], ids=lambda recipe: recipe.env)
def test_every_generation_has_another_reward_on_the_scale_of_the_target(
    recipe: Recipe, tmp_path: Path
) -> None:
    library = SkillLibrary.create(tmp_path / "run", recipe, 0)
    method = RandomRewards(library, recipe, lambda event: None, lambda: False)
    seen: list[torch.Tensor] = []
    for seed in (0, 1):
        method.begin(0)
        torch.manual_seed(seed)
        visited = gather_negatives(method.sample_env, method.previous, recipe.samples, 0).visited
        method.reward.standardise(torch.as_tensor(visited))
        method.draw_reward(visited)
        with torch.no_grad():
            seen.append(method.reward(torch.as_tensor(visited)))
    method.close()
    for activations in seen:
        assert float(activations.mean()) == pytest.approx(0.0, abs=1e-3 * recipe.reward.target)
        assert float(activations.std()) == pytest.approx(recipe.reward.target, rel=1e-3)
    assert float(torch.corrcoef(torch.stack(seen))[0, 1].abs()) < 0.99


def test_a_run_fills_a_library(tmp_path: Path) -> None:
    library = discover(HOPPER, tmp_path / "run", seed=1)
    records = [skill.record for skill in library]
    assert len(records) == 2
    assert all(record.separation is None and record.asked is None for record in records)
    first, second = (skill.reward.state_dict()["network.0.weight"] for skill in library)
    assert not torch.equal(first, second)
