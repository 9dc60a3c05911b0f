"""Recurrent layers as the memory of an actor or a critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs
from torch import Tensor, nn

from skillrl.agents.arguments import check_known, parameters_of
from skillrl.envs.sb3 import SB3VecEnv
from skillrl.errors import InvalidValueError
from skillrl.recurrent import (
    GRU,
    LRU,
    Carry,
    LinearRTU,
    NonlinearRTU,
    RecurrentLayer,
    Rule,
)
from skillrl.recurrent.layer import Step

CELLS: dict[str, type[RecurrentLayer]] = {
    "linear-rtu": LinearRTU,
    "lru": LRU,
    "nonlinear-rtu": NonlinearRTU,
    "gru": GRU,
}

# How long units remember at first, and how fast their states turn, of all cells that have these.
# What an agent has to remember lasts for any time from a step to an episode, and rarely repeats: on
# logarithmic scales there are units for all of it, while of those of the LRU's own beginning hardly
# one counts over tens of steps.
SPREAD: dict[str, Any] = {"horizon": (1, 100), "min_phase": 0.1}
_IN_THEIR_PLACE = {"horizon": {"r_min", "r_max"}, "min_phase": {"max_phase"}}

# What sb3-contrib's recurrent policies call what these have; None for what they have not.
_OTHER_NAMES = {
    "lstm_hidden_size": "state_size",
    "lstm_kwargs": "cell_kwargs",
    "shared_lstm": "shared_recurrence",
    "n_lstm_layers": None,
    "enable_critic_lstm": None,
}


def environment_for(env: Any, verbose: int) -> GymEnv | None:
    """Return an environment that Stable-Baselines3 knows.

    Args:
        env: an id, an environment, Stable-Baselines3's or Gymnasium's vector environment, or None.
        verbose: 1 to say what is made.
    """
    return SB3VecEnv(env) if isinstance(env, VectorEnv) else maybe_make_env(env, verbose)


def check_policy(
    policy: Any,
    aliases: Mapping[str, type],
    observation_space: spaces.Space[Any],
    arguments: Mapping[str, Any] | None,
) -> None:
    """Refuse a policy's name that does not suit the observations, or arguments of another library.

    Args:
        policy: a name, or a class, which is taken as it is.
        aliases: the policies that the agent knows by name.
        observation_space: of the environment.
        arguments: the policy's, if any.

    Raises:
        InvalidValueError: naming the one that does, or what the argument is called here.
    """
    for name in arguments or {}:
        if name in _OTHER_NAMES:
            here = _OTHER_NAMES[name]
            what = f"it is called {here!r} here" if here else "it is sb3-contrib's; leave it out"
            raise InvalidValueError(f"The policy has no argument {name!r}: {what}.")
    wanted = "MlpLruPolicy"
    if isinstance(observation_space, spaces.Dict):
        wanted = "MultiInputLruPolicy"
    elif is_image_space(
        observation_space,
        normalized_image=not (arguments or {}).get("normalize_images", True),
    ):
        wanted = "CnnLruPolicy"
    # Agents of skills have one policy for all observations.
    suited = wanted if wanted in aliases else next(iter(aliases))
    # Images may be flattened, if someone wants that.
    fits = {suited, "MlpLruPolicy"} if suited == "CnnLruPolicy" else {suited}
    if isinstance(policy, str) and policy not in fits:
        renamed = policy.replace("Lstm", "Lru")
        unknown = "" if policy in aliases else f"There is no policy {policy!r}. "
        raise InvalidValueError(
            f"sb3-contrib's {policy!r} is called {renamed!r} here."
            if renamed in fits
            else f"{unknown}For observations {observation_space} the policy is {suited!r}. "
            f"Received {policy!r}."
        )
    known = parameters_of(aliases[policy] if isinstance(policy, str) else policy)
    for name in set(arguments or {}) - known:
        if any(name in parameters_of(cell) for cell in CELLS.values()):
            raise InvalidValueError(
                f"{name!r} is an argument of the cell: cell_kwargs={{{name!r}: …}}."
            )
    check_known(arguments or {}, known, f"The policy {policy}", "policy_kwargs")


def check_kind(policy: type, kind: type) -> None:
    """Refuse the policy of another agent, as a saved file may hold it.

    Raises:
        InvalidValueError: naming both classes.
    """
    if not issubclass(policy, kind):
        raise InvalidValueError(
            f"The policy should be a {kind.__name__}. Received a {policy.__name__} of "
            f"{policy.__module__}, whose weights do not fit: load it with the class that saved it, "
            "or train a new agent."
        )


def chunk_features(
    extract: Callable[[PyTorchObs], Any], observations: PyTorchObs, shape: torch.Size
) -> Tensor:
    """Return features ``(time, batch, size)``, by an extractor that knows one batch dimension.

    Args:
        extract: from observations ``(batch, *shape)`` to features ``(batch, size)``.
        observations: ``(time, batch, *shape)``, or such a tensor for each key.
        shape: time and batch.
    """
    if isinstance(observations, dict):
        features = extract({key: value.flatten(0, 1) for key, value in observations.items()})
    else:
        features = extract(observations.flatten(0, 1))
    return cast(Tensor, features).unflatten(0, shape)


class ForImages:
    """A policy's base that puts Stable-Baselines3's ``NatureCNN`` in front."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("features_extractor_class", NatureCNN)
        super().__init__(*args, **kwargs)


class ForDictionaries:
    """A policy's base that puts Stable-Baselines3's ``CombinedExtractor`` in front."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("features_extractor_class", CombinedExtractor)
        super().__init__(*args, **kwargs)


class Recurrence(nn.Module):
    """An encoder and a recurrent layer.

    Args:
        input_size: features of an observation.
        encoder: units of the encoder's layers; none for features as they are, under which nothing
            that is learnt lies.
        activation: non-linearity of the encoder.
        cell: ``"linear-rtu"``, ``"lru"``, ``"nonlinear-rtu"`` or ``"gru"``.
        state_size: units of the recurrent layer.
        rule: its learning rule; None for the first that it has.
        cell_kwargs: its other arguments, such as ``horizon``, in the place of those in ``SPREAD``.

    Raises:
        InvalidValueError: if an argument is out of range, or the cell does not have the rule.
    """

    def __init__(
        self,
        input_size: int,
        *,
        encoder: tuple[int, ...],
        activation: type[nn.Module],
        cell: str,
        state_size: int,
        rule: Rule | None,
        cell_kwargs: dict[str, Any],
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise InvalidValueError(f"cell should be one of {', '.join(CELLS)}. Received {cell!r}.")
        modules: list[nn.Module] = []
        for units in encoder:
            modules += [nn.Linear(input_size, units), activation()]
            input_size = units
        self.encoder = nn.Sequential(*modules)
        kind = CELLS[cell]
        check_known(
            cell_kwargs,
            parameters_of(kind) - {"input_size", "state_size", "rule"},
            f"The cell {cell!r}",
            "cell_kwargs",
        )
        spread = {
            name: value
            for name, value in SPREAD.items()
            if name in parameters_of(kind) and not cell_kwargs.keys() & _IN_THEIR_PLACE[name]
        }
        self.layer = kind(
            input_size, state_size, rule=rule or kind.rules[0], **{**spread, **cell_kwargs}
        )
        self.output_size = self.layer.output_size

    def forward(
        self, features: Tensor, carry: Carry | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """Process a chunk of features ``(time, batch, input_size)``; as ``RecurrentLayer``."""
        return self.layer(self.encoder(features), carry, starts)

    def outputs(self, features: Tensor, carry: Carry, starts: Tensor) -> Tensor:
        """Return the outputs of a chunk alone; as ``RecurrentLayer.outputs``."""
        return self.layer.outputs(self.encoder(features), carry, starts)

    @torch.no_grad()
    def sweep(self, features: Tensor, carry: Carry, starts: Tensor, chunk: int) -> list[Carry]:
        """Return the carries where chunks begin, and at the end; as ``RecurrentLayer.sweep``."""
        return self.layer.sweep(self.encoder(features), carry, starts, chunk)

    def stepper(self) -> Step:
        """Return a function that acts; see ``RecurrentLayer.stepper``."""
        act = self.layer.stepper()

        def step(
            inputs: Tensor, carry: Carry, starts: Tensor | None = None
        ) -> tuple[Tensor, Carry]:
            return act(self.encoder(inputs), carry, starts)

        return step
