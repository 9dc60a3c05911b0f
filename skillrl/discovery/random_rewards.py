"""The baseline without a fit: every skill is trained on a reward network drawn at random."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from skillrl.discovery.loop import Discovery


class RandomRewards(Discovery):
    """``Discovery`` whose rewards ask for anything at all, and so not for anything new.

    Every reward is scaled so that on the samples of its generation its activation has the mean 0
    and the standard deviation of the target: about half of the states are rewarded at first.
    """

    def fit_reward(self, negatives: np.ndarray, positives: np.ndarray, others: np.ndarray) -> None:
        """Draw the reward network's weights anew."""
        for module in self.reward.network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.reset_parameters()
        samples = torch.as_tensor(np.concatenate([negatives, positives, others]))
        with torch.no_grad():
            std, mean = torch.std_mean(self.reward(samples))
            last = [*self.reward.network.children()][-1]
            assert isinstance(last, nn.Linear)  # of every kind of reward
            scale = self.reward.target / std.clamp_min(1e-6)
            last.bias.copy_((last.bias - mean) * scale)
            last.weight.mul_(scale)
