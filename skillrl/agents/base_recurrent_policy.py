"""What Stable-Baselines3's policies with memory have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from skillrl.agents.normalizer import Observation
from skillrl.agents.recurrence import Recurrence
from skillrl.envs.arguments import positive_int
from skillrl.errors import InvalidValueError
from skillrl.recurrent import Carry, Rule


class BaseRecurrentPolicy(BasePolicy):
    """Base of policies that remember: features → encoder → recurrent layer → networks.

    Args:
        args: those of the Stable-Baselines3 policy that a subclass names as its next base.
        cell: ``"linear-rtu"``, ``"lru"``, ``"nonlinear-rtu"`` or ``"gru"``. The first two have
            linear recurrences of one kind. The networks behind the first see its states, through
            relu, where those behind an LRU see mixtures of them: agents learn faster. An LRU
            takes in as much as its ``gain`` says, which helps where something lasts for very long.
        state_size: units of each recurrent layer.
        rule: their learning rule, as described at ``skillrl.recurrent.RecurrentLayer``:
            ``"online"``, ``"truncated"``, ``"one_step"``, ``"spatial"`` or ``"bptt"``; of a GRU
            ``"snap1"``, ``"truncated"`` or ``"bptt"``. None for the first of these.
        encoder: units of the layers in front of each recurrence; may be none.
        cell_kwargs: other arguments of the recurrent layers: of all but the GRU ``horizon``
            or ``r_min`` and ``r_max`` (horizons from 1 to 100 steps if none is given), and
            ``min_phase`` and ``max_phase`` (from 0.1 if none is given); ``gain`` of the LRU,
            ``activation`` of trace units.
        kwargs: as ``args``.

    Raises:
        InvalidValueError: if an argument is out of range, or the cell does not have the rule.
    """

    # Of Adam: one kernel for all parameters.
    adam_kwargs: ClassVar[dict[str, Any]] = {"fused": True}

    def __init__(
        self,
        *args: Any,
        cell: str = "linear-rtu",
        state_size: int = 64,
        rule: Rule | None = None,
        encoder: tuple[int, ...] = (64,),
        cell_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("use_sde"):
            raise InvalidValueError("use_sde is not supported by recurrent policies.")
        self._memory: dict[str, Any] = {
            "cell": cell,
            "state_size": state_size,
            "rule": rule,
            "encoder": _units(encoder),
            "cell_kwargs": dict(cell_kwargs or {}),
        }
        if kwargs.get("optimizer_class", torch.optim.Adam) is torch.optim.Adam:
            kwargs.setdefault("optimizer_kwargs", dict(self.adam_kwargs))
        super().__init__(*args, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._memory}

    @abstractmethod
    def _each(self) -> dict[str, Recurrence]:
        """The recurrences by the names of what they carry, the actor's first."""

    @abstractmethod
    def act(
        self, observations: PyTorchObs, carry: Carry, starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Carry]:
        """Return actions, and what is carried on, without gradients.

        Of the carry the actor's part is enough: it can act alone.

        Args:
            observations: ``(batch, *shape)``, or such a tensor for each key.
            carry: before this step.
            starts: where episodes begin, ``(batch,)``, bool.
            deterministic: whether to act without noise.
        """

    @abstractmethod
    def environment_actions(self, actions: Tensor) -> np.ndarray:
        """Return what an environment is given for actions ``(batch, …)`` of ``act``."""

    def initial_carry(self, batch_size: int, *, sensitivities: bool | None = None) -> Carry:
        """Return the carry at the begin of episodes; see ``RecurrentLayer.initial_carry``."""
        return _initial_carry(self._each(), batch_size, sensitivities)

    def predict(
        self,
        observation: Observation,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return actions, and the actor's state to give back with the next observation.

        Args:
            observation: one, or a batch.
            state: what the last call returned; None where episodes begin.
            episode_start: where episodes begin, ``(batch,)`` or one value.
            deterministic: whether to act without noise.

        Raises:
            InvalidValueError: if the state is that of another batch or network, or the observation
                a tuple.
        """
        self.set_training_mode(False)
        given: object = observation
        if isinstance(given, tuple):
            raise InvalidValueError(
                "predict takes observations alone. Received a tuple: a Gymnasium environment's "
                "reset returns observation and info."
            )
        observations, vectorised = self.obs_to_tensor(observation)
        seen = next(iter(observations.values())) if isinstance(observations, dict) else observations
        carry = self._actor_carry(state, len(seen), seen.device)
        starts = _starts(episode_start, len(seen), seen.device)
        actions, carry = self.act(observations, carry, starts, deterministic)
        chosen = self.environment_actions(actions)
        after = tuple(value.cpu().numpy() for value in carry.values())
        return chosen if vectorised else chosen[0], after

    def _actor_carry(
        self, state: tuple[np.ndarray, ...] | None, batch_size: int, device: torch.device
    ) -> Carry:
        """The state that ``predict`` was given as what the actor carries."""
        name, recurrence = next(iter(self._each().items()))
        carry = _initial_carry({name: recurrence}, batch_size, sensitivities=False)
        if state is None:
            return carry
        shapes = [tuple(value.shape) for value in carry.values()]
        given: object = state
        if not isinstance(given, list | tuple):
            raise InvalidValueError(
                f"The state is a tuple of arrays of the shapes {shapes}. Received a "
                f"{type(given).__name__}: give back what predict last returned, or None."
            )
        received = [tuple(np.shape(value)) for value in state]
        if shapes != received:
            raise InvalidValueError(
                f"For {batch_size} observation(s) the state has the shapes {shapes}. Received "
                f"{received}: give back what the last call of predict returned, or None."
            )
        return Carry(
            {
                key: torch.as_tensor(value, dtype=carry[key].dtype, device=device)
                for key, value in zip(carry, state, strict=True)
            }
        )


def _units(encoder: tuple[int, ...]) -> tuple[int, ...]:
    """Units of layers, of which there may be none."""
    given: object = encoder
    if not isinstance(given, list | tuple):
        raise InvalidValueError(
            f"encoder takes the units of each layer, such as (64,) or (). Received {given!r}."
        )
    return tuple(positive_int("encoder", units) for units in given)


def _initial_carry(
    recurrences: dict[str, Recurrence], batch_size: int, sensitivities: bool | None
) -> Carry:
    """The carry of some recurrences at the begin of episodes, under their names."""
    return Carry.stack(
        {
            name: recurrence.layer.initial_carry(batch_size, sensitivities=sensitivities)
            for name, recurrence in recurrences.items()
        }
    )


def _starts(episode_start: np.ndarray | None, batch_size: int, device: torch.device) -> Tensor:
    """Where episodes begin, ``(batch,)``, bool."""
    begins = np.zeros(batch_size, bool) if episode_start is None else np.asarray(episode_start)
    if begins.size != batch_size:
        raise InvalidValueError(
            f"episode_start should tell of {batch_size} observation(s). Received {begins.size}."
        )
    return torch.as_tensor(begins.reshape(-1).astype(bool), device=device)
