"""What the package's vector wrappers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper


class TransparentVectorWrapper(VectorWrapper[Any, Any, Any, Any, np.ndarray]):
    """A wrapper that has whatever the wrapped environment has, such as ``get_state``."""

    def __getattr__(self, name: str) -> Any:
        """Whatever the wrapper does not have, the wrapped environment may."""
        if name.startswith("_") or name == "env":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.env, name)


def seeds_of(seed: Any, num_envs: int) -> Sequence[int | None]:
    """Return the seed of each environment that ``reset(seed=seed)`` means, None where none is.

    >>> list(seeds_of(7, 3)), list(seeds_of([1, None], 2)), list(seeds_of(None, 2))
    ([7, 8, 9], [1, None], [None, None])
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return range(int(seed), int(seed) + num_envs)
    return list(seed)
