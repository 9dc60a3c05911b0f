"""Running statistics of Stable-Baselines3's ``VecNormalize`` as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import IO, Any, cast
from zipfile import BadZipFile, is_zipfile

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from skillrl.errors import DamagedFileError
from skillrl.files import write_atomically

Observation = np.ndarray | dict[str, np.ndarray]


class Normalizer:
    """What a ``VecNormalize`` has learnt of observations and rewards; it does what that does.

    Its arrays are ``"return.mean"``, ``"return.var"`` and ``"return.count"``, the same of
    ``"observation"``, or of ``"observation.<key>"`` for each normalised key of a dictionary, and
    ``"clip"`` and ``"epsilon"``, of observations.

    Args:
        arrays: these.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = dict(arrays)

    @classmethod
    def of(cls, env: VecNormalize) -> Normalizer:
        """Return the present statistics of ``env``."""
        arrays = {"clip": np.array(env.clip_obs, float), "epsilon": np.array(env.epsilon, float)}
        for name, statistics in _statistics(env).items():
            arrays[f"{name}.mean"] = np.array(statistics.mean)
            arrays[f"{name}.var"] = np.array(statistics.var)
            arrays[f"{name}.count"] = np.array(statistics.count)
        return cls(arrays)

    def restore(self, env: VecNormalize) -> None:
        """Put the statistics back into an environment of the same spaces."""
        for name, statistics in _statistics(env).items():
            statistics.mean = self.arrays[f"{name}.mean"].copy()
            statistics.var = self.arrays[f"{name}.var"].copy()
            statistics.count = float(self.arrays[f"{name}.count"])

    @property
    def keys(self) -> tuple[str, ...]:
        """What is normalised: ``"observation"``, or ``"observation.<key>"`` for some keys."""
        names = (name.removesuffix(".mean") for name in self.arrays if name.endswith(".mean"))
        return tuple(name for name in names if name != "return")

    def __call__(self, observation: Observation) -> Observation:
        """Return a normalised observation, or a batch of them, as ``VecNormalize`` gives it."""
        if isinstance(observation, dict):
            return {
                key: self._normalised(f"observation.{key}", value)
                for key, value in observation.items()
            }
        return self._normalised("observation", observation)

    def _normalised(self, name: str, values: np.ndarray) -> np.ndarray:
        if name not in self.keys:
            return values
        arrays, clip = self.arrays, self.arrays["clip"]
        centred = values - arrays[f"{name}.mean"]
        scaled = centred / np.sqrt(arrays[f"{name}.var"] + arrays["epsilon"])
        return np.clip(scaled, -clip, clip).astype(np.float32)

    def write(self, file: IO[bytes]) -> None:
        """Write the arrays as NumPy's ``.npz``."""
        np.savez(file, **self.arrays)  # type: ignore[arg-type]  # it takes arrays by any name

    def save(self, path: str | PathLike[str]) -> None:
        """Write the arrays to a file, ``*.npz``, atomically."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                self.write(file)

        write_atomically(Path(path), write)

    @classmethod
    def read(cls, file: IO[bytes], name: str) -> Normalizer:
        """Return what ``write`` wrote. Runs no code of the file.

        Args:
            file: to read from.
            name: of the file, for messages.

        Raises:
            DamagedFileError: if it holds no such arrays.
        """
        try:
            if not is_zipfile(file):
                raise ValueError("it is no .npz file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                normalizer = cls({key: arrays[key] for key in arrays.files})
            found = normalizer.arrays
            wanted = {f"{key}.{part}" for key in normalizer.keys for part in ("var", "count")}
            if not {"clip", "epsilon", *wanted} <= found.keys():
                raise ValueError("arrays are missing")
            # Nothing may be clipped.
            if not all(
                value.dtype.kind == "f"
                and (np.isfinite(value).all() or (name == "clip" and np.all(value == np.inf)))
                for name, value in found.items()
            ):
                raise ValueError("an array holds other things than finite numbers")
        except (EOFError, OSError, ValueError, BadZipFile) as error:
            raise DamagedFileError(f"{name} is damaged: {error}.") from None
        return normalizer


def _statistics(env: VecNormalize) -> dict[str, RunningMeanStd]:
    found, observed = {"return": env.ret_rms}, cast(Any, env).obs_rms if env.norm_obs else {}
    if isinstance(observed, dict):
        return found | {f"observation.{key}": value for key, value in observed.items()}
    return found | {"observation": observed}
