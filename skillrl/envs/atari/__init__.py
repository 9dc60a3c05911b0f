"""Atari's games: one, many in threads, and many whose states can be saved."""

from skillrl.envs.atari.env import AtariEnv
from skillrl.envs.atari.replay import Replay, replay
from skillrl.envs.atari.vector_env import AtariVectorEnv

__all__ = ["AtariEnv", "AtariVectorEnv", "Replay", "replay"]
