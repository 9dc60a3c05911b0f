"""Stable-Baselines3's ``.zip`` files: written whole or not at all, read without running code.

Such a file holds weights and, as JSON, the agent's attributes, some of them pickled. Whole agents
are made anew from a recipe and take the weights alone; of a policy to be used on its own the spaces
and the names of its classes are unpickled, and nothing else is.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.save_util import load_from_zip_file, recursive_setattr
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.sac import policies as sac

from skillrl.agents.loading import KINDS
from skillrl.agents.normalizer import Normalizer
from skillrl.agents.recurrent_policy import CnnLruPolicy, MultiInputLruPolicy, RecurrentPolicy
from skillrl.agents.recurrent_sac_policy import (
    CnnLruSACPolicy,
    MultiInputLruSACPolicy,
    RecurrentSACPolicy,
)
from skillrl.errors import DamagedFileError
from skillrl.files import write_atomically

# Stable-Baselines3 reads past this file in its archive.
_NORMALIZER = "normalizer.npz"

POLICIES: tuple[type[BasePolicy], ...] = (
    *(ActorCriticPolicy, ActorCriticCnnPolicy, MultiInputActorCriticPolicy),
    *(sac.SACPolicy, sac.CnnPolicy, sac.MultiInputPolicy),
    *(RecurrentPolicy, CnnLruPolicy, MultiInputLruPolicy),
    *(RecurrentSACPolicy, CnnLruSACPolicy, MultiInputLruSACPolicy),
    *KINDS.values(),
)
"""The policies that are read from files."""

_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")


def save_agent(agent: BaseAlgorithm, path: Path) -> None:
    """Write an agent in Stable-Baselines3's format, with the statistics of its normaliser, if any.

    Replay buffers and environments are not part of it.
    """
    normalizer = agent.get_vec_normalize_env()

    def write(temporary: Path) -> None:
        # What is remembered of the present episode, with its sensitivities, outweighs all else.
        agent.save(temporary, exclude=["_carry"])
        if normalizer is not None:
            with (
                zipfile.ZipFile(temporary, "a") as archive,
                archive.open(_NORMALIZER, "w") as file,
            ):
                Normalizer.of(normalizer).write(file)

    write_atomically(path, write)


def restore_agent(agent: BaseAlgorithm, path: Path) -> None:
    """Give an agent what ``save_agent`` saved of one with the same settings.

    Parameters, optimisers, counters of steps and updates, and the normaliser's statistics come
    back; the environments begin new episodes, and a replay buffer stays as it is.

    Raises:
        DamagedFileError: if the file is damaged, or of an agent with other settings.
    """
    data, parameters, variables = _read(path)
    try:
        agent.set_parameters(parameters)
        for name, value in variables.items():
            recursive_setattr(agent, f"{name}.data", value.data.to(agent.device))
        for name in _COUNTERS:
            if name in data:
                setattr(agent, name, int(data[name]))
        env, normalizer = agent.get_vec_normalize_env(), read_normalizer(path)
        if env is not None:
            if normalizer is None:
                raise ValueError("it has no statistics of a normaliser")
            normalizer.restore(env)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DamagedFileError(
            f"{path} is damaged, or of an agent with other settings: {reason}"
        ) from None


def read_zip_policy(path: str | PathLike[str]) -> BasePolicy:
    """Return the policy of an agent that Stable-Baselines3 or ``save_agent`` saved.

    Its spaces and the names of its classes are unpickled; where the file holds anything else in
    their place, it is refused. A normaliser in front of it is read by ``read_normalizer``.

    Raises:
        DamagedFileError: if the file is missing, damaged or of a policy that is not known.
    """
    path = Path(path)
    data, parameters, _ = _read(path)
    try:
        found = {
            name: _unpickled(data[name])
            for name in ("policy_class", "observation_space", "action_space", "policy_kwargs")
        }
        kind, arguments = found["policy_class"], dict(found["policy_kwargs"])
        if kind not in POLICIES:
            raise pickle.UnpicklingError(f"{kind} is no policy")
        if data.get("use_sde"):
            arguments["use_sde"] = True
        policy = kind(found["observation_space"], found["action_space"], lambda _: 0.0, **arguments)
        policy.load_state_dict(parameters["policy"])
    except pickle.UnpicklingError as error:
        raise DamagedFileError(
            f"{path} holds what is not read from files: {error}. Read are policies of "
            "Stable-Baselines3's PPO, A2C and SAC and of skillrl's agents, with classes of "
            "Stable-Baselines3, Gymnasium and torch."
        ) from None
    except Exception as error:  # whatever a damaged description leads to
        reason = " ".join(str(error).split())
        raise DamagedFileError(f"{path} describes no valid policy: {reason}") from None
    policy.set_training_mode(False)
    return policy


def read_normalizer(path: str | PathLike[str]) -> Normalizer | None:
    """Return the normaliser that ``skillrl train`` saved with an agent, or None.

    Its policy has learnt from ``normalizer(observation)``.

    Raises:
        DamagedFileError: if it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        if _NORMALIZER not in archive.namelist():
            return None
        file = io.BytesIO(archive.read(_NORMALIZER))
        return Normalizer.read(file, f"{_NORMALIZER} in {path}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """The attributes as JSON, the state dictionaries, and other tensors."""
    if not path.is_file():
        raise DamagedFileError(f"{path} does not exist.")
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        if not isinstance(data, dict):
            raise ValueError("its attributes are no JSON object")
        _, parameters, variables = load_from_zip_file(path, load_data=False, device="cpu")
    except (
        *(EOFError, LookupError, OSError, RecursionError, RuntimeError, ValueError),
        *(zipfile.BadZipFile, pickle.UnpicklingError),
    ) as error:
        reason = " ".join(str(error).split())
        raise DamagedFileError(
            f"{path} is not an agent that Stable-Baselines3 saved, or is damaged: {reason}"
        ) from None
    return data, parameters, dict(variables or {})


class _Ignored:
    """Stands for what is of no use here, such as a space's random generator."""

    def __new__(cls, *_: Any) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Knows spaces, and the names of policies, networks and optimisers; refuses all else."""

    _SAFE = frozenset(
        {
            *(("gymnasium.spaces." + name.lower(), name) for name in ("Box", "Discrete", "Dict")),
            ("gymnasium.spaces.multi_discrete", "MultiDiscrete"),
            ("gymnasium.spaces.multi_binary", "MultiBinary"),
            ("collections", "OrderedDict"),
            *(("numpy", name) for name in ("dtype", "ndarray")),
            ("numpy._core.numeric", "_frombuffer"),
            *(("numpy._core.multiarray", name) for name in ("_reconstruct", "scalar")),
            *(
                (each.__module__, each.__name__)
                for each in (*POLICIES, FlattenExtractor, NatureCNN, CombinedExtractor)
            ),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that is known, or a stand-in of what is of no use."""
        if module.startswith("numpy.random"):
            return _Ignored
        # As NumPy 1 called it.
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) in self._SAFE:
            return super().find_class(module, name)
        if module == "torch.nn.modules.activation" or module.startswith("torch.optim."):
            found = super().find_class(module, name)
            if isinstance(found, type) and issubclass(
                found, torch.nn.Module | torch.optim.Optimizer
            ):
                return found
        raise pickle.UnpicklingError(f"{module}.{name}")


def _unpickled(value: Any) -> Any:
    """An attribute, which is JSON itself or a pickle within."""
    if not (isinstance(value, dict) and ":serialized:" in value):
        return value
    found = _Unpickler(io.BytesIO(base64.b64decode(value[":serialized:"]))).load()
    if isinstance(found, spaces.Space):
        found.seed(0)  # in the place of a stand-in
    return found
