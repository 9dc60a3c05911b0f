"""The baseline without a fit: every skill is trained on a reward network drawn at random."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from skillrl.discovery.loop import Discovery
from skillrl.discovery.samples import gather_negatives


class RandomRewards(Discovery):
    """``Discovery`` whose rewards ask for anything at all, and so not for anything new.

    Every reward is scaled so that on what the last skill does its activation has the mean 0 and the
    standard deviation of the target: about half of these states are rewarded.
    """

    def ask_for_something_new(self) -> None:
        """Draw a reward at random, and let the agent begin to train on it."""
        samples = self.recipe.samples
        seen = gather_negatives(
            self.sample_env, self.previous, samples, self._seed("negatives")
        ).visited
        if self.generation == 0:
            self.reward.standardise(torch.as_tensor(seen))
        self.draw_reward(seen)
        self.transfer()

    def recall(self, generation: int) -> None:
        """Nothing: no reward depends on what was seen before."""

    def draw_reward(self, observations: np.ndarray) -> None:
        """Draw the reward network's weights anew.

        Args:
            observations: ``(n, *shape)``, on which the activation is to have the mean 0 and the
                standard deviation of the target.
        """
        for module in self.reward.network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.reset_parameters()
        with torch.no_grad():
            # In pieces: images would take much memory as floats.
            pieces = torch.as_tensor(observations).split(4_096)
            activations = [self.reward(piece.to(self.device)) for piece in pieces]
            std, mean = torch.std_mean(torch.cat(activations))
            last = [*self.reward.network.children()][-1]
            assert isinstance(last, nn.Linear)  # of every kind of reward
            scale = self.reward.target / std.clamp_min(1e-6)
            last.bias.copy_((last.bias - mean) * scale)
            last.weight.mul_(scale)
