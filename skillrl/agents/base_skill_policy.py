"""What discovery needs of a policy, whichever algorithm trains it."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from skillrl.agents.features import NormalizedVector
from skillrl.agents.spaces import check_spaces, space_from_json, space_to_json
from skillrl.errors import DamagedFileError, InvalidValueError
from skillrl.files import load_state, read_tensors, write_tensors

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "tanh": nn.Tanh, "relu": nn.ReLU}


def check_network(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    hidden: tuple[int, ...],
    activation: str,
) -> None:
    """Refuse what no policy of a skill can be made for.

    Raises:
        InvalidValueError: naming the space or the value.
    """
    check_spaces(observation_space, action_space)
    if activation not in ACTIVATIONS:
        raise InvalidValueError(
            f"activation should be one of {', '.join(ACTIVATIONS)}. Received {activation!r}."
        )
    if not all(isinstance(units, int) and units >= 1 for units in hidden):
        raise InvalidValueError(
            f"hidden should be integers of at least 1. Received {tuple(hidden)}."
        )


class BaseSkillPolicy(BasePolicy):
    """Base of the policies of skills: they are explored around, passed on, and saved.

    ``predict`` is Stable-Baselines3's, with a state where the policy remembers.
    """

    format: ClassVar[str]
    """Names the kind of policy in its files."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments besides the spaces, as JSON values."""

    @property
    @abstractmethod
    def mean_layer(self) -> nn.Linear:
        """The layer whose first outputs are mean actions before the tanh."""

    @abstractmethod
    def widened(self, std: float) -> AbstractContextManager[None]:
        """Let ``predict`` act with the policy's own noise, widened, in a ``with`` block.

        The raw standard deviations are shifted until the largest of each observation is ``std``.
        Source: Meier & Mujika 2022 (arXiv 2202.08266).

        Raises:
            InvalidValueError: if actions are not continuous.
        """

    @abstractmethod
    def reset_actor(self) -> None:
        """Draw the actor's weights anew."""

    @abstractmethod
    def reset_critic(self) -> None:
        """Draw the critic's weights anew."""

    @abstractmethod
    def reset_head(self, *, keep_mean: bool) -> None:
        """Set the actor's last layer to zero: noise is wide, and means are zero unless kept."""

    @abstractmethod
    def reset_optimizer(self) -> None:
        """Forget the moments of the optimisers."""

    @property
    def device(self) -> torch.device:
        """Where the policy is; before it has parameters, where they will be."""
        # Not BasePolicy's: `load` builds policies on the meta device.
        parameter = next(self.parameters(), None)
        return torch.empty(0).device if parameter is None else parameter.device

    @property
    def noiseless(self) -> bool:
        """Whether the skill is what the policy does without its noise.

        So it is with continuous actions, whose noise shrinks while a skill is learnt. Discrete ones
        are drawn as in training: the likeliest may be hardly likelier than others, and always
        taking it is something else that nobody has trained.
        """
        return isinstance(self.action_space, spaces.Box)

    @property
    def normalizers(self) -> list[NormalizedVector]:
        """The observation normalisers; none where observations are one-hot or images."""
        return [module for module in self.modules() if isinstance(module, NormalizedVector)]

    def unscale_action(self, scaled_action: np.ndarray) -> np.ndarray:
        """Return actions in [-1, 1] scaled to the bounds of the Box."""
        assert isinstance(self.action_space, spaces.Box)  # other actions are not scaled
        unscaled = super().unscale_action(scaled_action)
        # Rounding can leave the bounds by the last bit.
        return np.clip(unscaled, self.action_space.low, self.action_space.high)

    def save(self, path: str | PathLike[str]) -> None:
        """Write actor, critic and normaliser to a safetensors file that describes them fully."""
        description = {
            "format": self.format,
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            **self.settings(),
        }
        aliases = _aliases(self)
        tensors = {name: value for name, value in self.state_dict().items() if name not in aliases}
        write_tensors(Path(path), tensors, description)

    @classmethod
    def load(cls, path: str | PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Return the policy saved in ``path``. Runs no code of the file.

        Raises:
            DamagedFileError: if the file is missing, damaged, or no policy of this kind.
        """
        path = Path(path)
        return cls.from_file(path, *read_tensors(path)).to(device)

    @classmethod
    def from_file(cls, path: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> Self:
        """Return the policy that a file describes; see ``load``."""
        if description.get("format") != cls.format:
            raise DamagedFileError(
                f"{path} holds no policy but {description.get('format')!r}. "
                "Give the policy.safetensors of a skill."
            )
        fields = {"format", "observation_space", "action_space"}
        try:
            settings = {n: value for n, value in description.items() if n not in fields}
            if any(isinstance(v, list) and len(v) > len(tensors) for v in settings.values()):
                raise ValueError("more layers than tensors")
            with torch.device("meta"):
                policy = cls(
                    space_from_json(description["observation_space"]),
                    space_from_json(description["action_space"]),
                    lambda _: 0.0,
                    **settings,
                )
            if policy.settings() != settings:
                raise ValueError(f"its settings are {settings}")
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path} describes no valid policy: {error}") from None
        shared = {
            alias: tensors[name] for alias, name in _aliases(policy).items() if name in tensors
        }
        load_state(policy, {**tensors, **shared}, path)
        if any(bool((normalizer.var < 0).any()) for normalizer in policy.normalizers):
            raise DamagedFileError(f"{path} is damaged: a variance is negative.")
        policy.set_training_mode(False)
        # As convolutions are made.
        return policy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _aliases(module: nn.Module) -> dict[str, str]:
    """Further names of tensors that a module has under several, with the first of them."""
    first: dict[int, str] = {}
    found: dict[str, str] = {}
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in named:
        if first.setdefault(id(tensor), name) != name:
            found[name] = first[id(tensor)]
    return found
