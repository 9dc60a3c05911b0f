"""Environments: wrappers with learned rewards, batched physics, Atari, mazes, adapters."""

import lazy_loader

# What __init__.pyi names is imported when first used: MuJoCo, torch and Stable-Baselines3 take
# seconds to load.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
