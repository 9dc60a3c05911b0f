"""Neural reward functions: the network, how it is fitted, its files."""

from skillrl.rewards.fitting import Separation, fit_reward
from skillrl.rewards.network import NeuralReward

__all__ = ["NeuralReward", "Separation", "fit_reward"]
