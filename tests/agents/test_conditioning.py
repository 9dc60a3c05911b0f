"""Fixing a policy's last inputs."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from skillrl.agents import SkillPolicy, fix_inputs
from skillrl.errors import InvalidValueError


def policy(size: int, actions: spaces.Space) -> SkillPolicy:
    space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
    made = SkillPolicy(space, actions, lambda _: 1e-3, hidden=(16, 8), activation="tanh")
    assert made.normalizer is not None
    made.normalizer.update(torch.randn(50, size) * 3 + 1)
    made.noise_scale.fill_(0.3)
    torch.nn.init.normal_(made.action_net.weight)
    return made


@pytest.mark.parametrize(
    "actions", [spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)], ids=["box", "discrete"]
)
def test_the_fixed_policy_acts_as_the_whole_one_with_these_inputs(actions: spaces.Space) -> None:
    torch.manual_seed(0)
    whole = policy(7, actions)
    values = np.array([0.0, 1.0, 0.0])
    fixed = fix_inputs(whole, spaces.Box(-np.inf, np.inf, (4,), np.float64), values)
    observations = torch.randn(20, 4) * 5
    full = torch.cat([observations, torch.as_tensor(values).float().expand(20, 3)], 1)
    with torch.no_grad():
        torch.testing.assert_close(
            fixed.action_parameters(observations), whole.action_parameters(full)
        )
        torch.testing.assert_close(fixed.predict_values(observations), whole.predict_values(full))
    if isinstance(actions, spaces.Box):
        assert float(fixed.noise_scale) == pytest.approx(0.3)
    # Other inputs make another policy.
    other = fix_inputs(whole, spaces.Box(-np.inf, np.inf, (4,), np.float64), 1 - values)
    with torch.no_grad():
        difference = other.action_parameters(observations) - fixed.action_parameters(observations)
    assert float(difference.abs().max()) > 0.1


def test_sizes_that_do_not_add_up_are_refused() -> None:
    whole = policy(7, spaces.Discrete(3))
    with pytest.raises(InvalidValueError, match="4 and 2 fixed inputs"):
        fix_inputs(whole, spaces.Box(-1, 1, (4,), np.float64), np.zeros(2))
