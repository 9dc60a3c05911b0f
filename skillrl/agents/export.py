"""Policies as ONNX: files that other programs and languages run, without torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn

from skillrl.agents.normalizer import Normalizer, Observation
from skillrl.agents.policy import SkillPolicy
from skillrl.agents.recurrence import Recurrence
from skillrl.agents.recurrent_policy import RecurrentPolicy
from skillrl.agents.recurrent_sac_policy import RecurrentSACPolicy
from skillrl.agents.squashed_actor import SquashedActor
from skillrl.errors import InvalidValueError, SkillrlError
from skillrl.files import write_atomically
from skillrl.rewards.precision import exact_convolutions

TOLERANCE = 1e-4
"""The largest ``Export.difference`` that is no error."""

# Of the check: observations side by side, and steps of them.
_BATCH, _STEPS = 16, 64
# Share of discrete actions that may differ, by rounding.
_TIES = 0.01


@dataclass(frozen=True)
class Export:
    """What was written, and how it compares with torch."""

    inputs: tuple[str, ...]
    """What the model takes, such as ``"observation (batch, 3) float"``."""
    outputs: tuple[str, ...]
    """What it returns."""
    compared: int
    """Actions that onnxruntime and torch both chose."""
    difference: float
    """The largest difference of bounded actions relative to their range, and of all other real
    numbers x, states among them, relative to 1 + |x|."""
    unequal: int
    """Discrete actions that differ, because two were equally good but for rounding."""


def export(
    policy: BasePolicy,
    path: str | PathLike[str],
    normalizer: Normalizer | None = None,
    hidden: Sequence[int] = (),
) -> Export:
    """Write a policy's deterministic action as a function of the observation, and check it.

    The model takes a batch of raw ``observation`` (of a dictionary, one input
    ``observation.<key>`` for each key), and returns ``action`` as the environment takes it.
    Recurrent policies take ``state``, zeros at first, and ``episode_start``, true where the state
    is to be forgotten, and also return ``next_state``. The batch may have any size. Images are
    taken with the channels first; their convolutions, which a policy may compute in bfloat16, are
    written in float32, and compared with that.

    Args:
        policy: of PPO, SAC, RecurrentPPO or RecurrentSAC, or of a skill.
        path: the file to write.
        normalizer: of the observations that the policy was trained on, if any.
        hidden: components of observations that it never saw, as with ``MaskVelocity``: the model
            ignores them.

    Returns:
        What was written, and how it compares with torch.

    Raises:
        InvalidValueError: if the packages for it are missing, the policy is of another kind, or its
            observations have no such hidden components.
        SkillrlError: if onnxruntime computes something else than torch.
    """
    _check_installed()
    shape = policy.observation_space.shape  # of a dictionary None
    if hidden and not (shape and len(shape) == 1 and {*hidden} <= {*range(shape[0])}):
        raise InvalidValueError(
            f"Components {[*hidden]} cannot be hidden of observations {policy.observation_space}: "
            "they are numbered from 0, in a vector."
        )
    with _put_aside(policy), exact_convolutions():
        return _export(_model(policy, normalizer, hidden).eval(), path)


@contextmanager
def _put_aside(policy: BasePolicy) -> Iterator[None]:
    """Have the policy on the CPU, and leave it as it was: it may be learning."""
    device, training = policy.device, policy.training
    try:
        policy.to("cpu")
        yield
    finally:
        policy.to(device)
        policy.set_training_mode(training)


def _export(model: _Model, path: str | PathLike[str]) -> Export:
    arguments = _arguments(model)
    with _quiet(), torch.no_grad():
        batch = torch.export.Dim("batch")
        program = torch.onnx.export(
            model,
            ([*arguments.values()],),
            dynamo=True,
            input_names=[*arguments],
            output_names=model.outputs,
            dynamic_shapes={"arguments": [{0: batch} for _ in arguments]},
            verbose=False,
        )
    assert program is not None
    result: list[Export] = []

    def write(temporary: Path) -> None:
        program.save(temporary, external_data=False)
        result.append(_compare(temporary, model, arguments))

    write_atomically(Path(path), write)
    return result[0]


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InvalidValueError(
            f"Exporting needs the packages onnx, onnxscript and onnxruntime ({error}). Install "
            "them: pip install 'skillrl[export]', or '.[export]' in a checkout."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what torch's exporter says of itself: none of it is of the policy."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it misses torchvision
    try:
        with warnings.catch_warnings():
            # It copies a structure of torch that is deprecated …
            warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec", FutureWarning)
            # … and tells that inputs share the size of the batch, as they should.
            warnings.filterwarnings("ignore", "# The axis name: batch will not be used")
            yield
    finally:
        logger.setLevel(level)


class _Model(nn.Module):
    """A policy without noise, as a function of tensors."""

    outputs: tuple[str, ...] = ("action",)

    def __init__(
        self, policy: BasePolicy, normalizer: Normalizer | None, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.policy = policy
        self.normalizer = normalizer
        self.hidden = hidden
        space = policy.observation_space
        self.keys = [*space.spaces] if isinstance(space, spaces.Dict) else None

    def forward(self, arguments: list[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Return the action; see ``export``."""
        return self.action(self.scores(self.observation(arguments)))

    def scores(self, observation: PyTorchObs) -> Tensor:
        """Return what the last layer gives: of continuous actions means first."""
        raise NotImplementedError

    def observation(self, arguments: list[Tensor]) -> PyTorchObs:
        """Return the observation as the policy was trained on it."""
        if self.keys is None:
            return self._normalised("observation", arguments[0])
        # More arguments may follow.
        return {
            key: self._normalised(f"observation.{key}", value)
            for key, value in zip(self.keys, arguments, strict=False)
        }

    def _normalised(self, name: str, values: Tensor) -> Tensor:
        normalizer = self.normalizer
        if self.hidden:
            shown = torch.ones(values.shape[-1], dtype=torch.bool)
            shown[[*self.hidden]] = False
            values = torch.where(shown, values, torch.zeros_like(values))
        if normalizer is None or name not in normalizer.keys:
            return values
        arrays = normalizer.arrays
        # In double precision, as VecNormalize.
        centred = values.double() - torch.as_tensor(arrays[f"{name}.mean"])
        scale = torch.as_tensor(np.sqrt(arrays[f"{name}.var"] + arrays["epsilon"]))
        clip = float(arrays["clip"])
        return (centred / scale).clamp(-clip, clip).float()

    def action(self, scores: Tensor) -> Tensor:
        """Return the best action in the environment's units."""
        space = self.policy.action_space
        if isinstance(space, spaces.Box):
            if isinstance(self.policy, SquashedActor):
                scores, _ = scores.chunk(2, -1)  # means and standard deviations
            low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
            actions = scores.reshape(-1, *space.shape)
            if self.policy.squash_output:
                actions = low + 0.5 * (actions.tanh() + 1.0) * (high - low)
            return torch.minimum(torch.maximum(actions, low), high)
        if isinstance(space, spaces.Discrete):
            return scores.argmax(-1) + int(space.start)
        if isinstance(space, spaces.MultiDiscrete):
            parts = scores.split(space.nvec.flatten().tolist(), -1)
            chosen = torch.stack([part.argmax(-1) for part in parts], -1)
            return chosen.reshape(-1, *space.shape)
        assert isinstance(space, spaces.MultiBinary)  # Stable-Baselines3 knows no others
        return (scores > 0).to(torch.int8).reshape(-1, *space.shape)


class _ActorCritic(_Model):
    policy: ActorCriticPolicy

    def scores(self, observation: PyTorchObs) -> Tensor:
        policy = self.policy
        seen = preprocess_obs(
            observation, policy.observation_space, normalize_images=policy.normalize_images
        )
        latent = policy.mlp_extractor.forward_actor(policy.pi_features_extractor(seen))
        return policy.action_net(latent)


class _Skill(_Model):
    policy: SkillPolicy

    def scores(self, observation: PyTorchObs) -> Tensor:
        return self.policy.action_parameters(cast(Tensor, observation))


class _Sac(_Model):
    policy: SACPolicy

    def scores(self, observation: PyTorchObs) -> Tensor:
        return self.policy.actor.get_action_dist_params(observation)[0]


class _Recurrent(_Model):
    """A policy that is given what it remembers."""

    outputs = ("action", "next_state")

    def __init__(
        self, policy: BasePolicy, normalizer: Normalizer | None, hidden: Sequence[int]
    ) -> None:
        super().__init__(policy, normalizer, hidden)
        self._step = self.recurrence().layer.real_stepper()

    def forward(self, arguments: list[Tensor]) -> tuple[Tensor, Tensor]:
        *_, state, starts = arguments
        features = self.recurrence().encoder(self.features(self.observation(arguments)))
        remembered, state = self._step(features, state, starts)
        return self.action(self.scores_of(remembered)), state

    def recurrence(self) -> Recurrence:
        """The actor's."""
        raise NotImplementedError

    def features(self, observation: PyTorchObs) -> Tensor:
        """Return what the recurrence is given."""
        raise NotImplementedError

    def scores_of(self, remembered: Tensor) -> Tensor:
        """Return what the last layer gives."""
        raise NotImplementedError


class _RecurrentActorCritic(_Recurrent):
    policy: RecurrentPolicy

    def recurrence(self) -> Recurrence:
        # Before the critic's, or shared with it.
        return cast(Recurrence, next(iter(self.policy.recurrences.values())))

    def features(self, observation: PyTorchObs) -> Tensor:
        return cast(Tensor, self.policy.extract_features(observation))

    def scores_of(self, remembered: Tensor) -> Tensor:
        return self.policy.action_net(self.policy.mlp_extractor.forward_actor(remembered))


class _RecurrentSac(_Recurrent):
    policy: RecurrentSACPolicy

    def recurrence(self) -> Recurrence:
        return self.policy.actor.recurrence

    def features(self, observation: PyTorchObs) -> Tensor:
        actor = self.policy.actor
        return actor.extract_features(observation, actor.features_extractor)

    def scores_of(self, remembered: Tensor) -> Tensor:
        return self.policy.actor.mu(self.policy.actor.latent_pi(remembered))


# The first that fits counts: recurrent policies and skills are subclasses of the others.
_MODELS: dict[type[BasePolicy], type[_Model]] = {
    RecurrentPolicy: _RecurrentActorCritic,
    RecurrentSACPolicy: _RecurrentSac,
    SkillPolicy: _Skill,
    ActorCriticPolicy: _ActorCritic,
    SACPolicy: _Sac,
}


def _model(policy: BasePolicy, normalizer: Normalizer | None, hidden: Sequence[int] = ()) -> _Model:
    for kind, model in _MODELS.items():
        if isinstance(policy, kind):
            return model(policy, normalizer, hidden)
    raise InvalidValueError(
        "Policies of PPO, SAC, RecurrentPPO, RecurrentSAC and skills can be exported. Received "
        f"a {type(policy).__name__}."
    )


def _arguments(model: _Model) -> dict[str, Tensor]:
    """A batch of two of all that the model takes, by name."""
    observation = _draw(model, 2, np.random.default_rng(0))
    found = {name: torch.as_tensor(values) for name, values in _named(observation).items()}
    if isinstance(model, _Recurrent):
        layer = model.recurrence().layer
        found["state"] = layer.initial_carry(2, sensitivities=False)["state"]
        found["episode_start"] = torch.ones(2, dtype=torch.bool)
    return found


def _named(observation: Observation) -> dict[str, np.ndarray]:
    """Observations by the names of the model's inputs."""
    if isinstance(observation, dict):
        return {f"observation.{key}": values for key, values in observation.items()}
    return {"observation": observation}


def _draw(model: _Model, count: int, rng: np.random.Generator) -> Observation:
    """Raw observations at random, in the types that the model takes."""
    space, normalizer = model.policy.observation_space, model.normalizer

    def draw(name: str, space: spaces.Space[Any]) -> np.ndarray:
        if normalizer is not None and name in normalizer.keys:
            mean, var = normalizer.arrays[f"{name}.mean"], normalizer.arrays[f"{name}.var"]
            drawn = mean + np.sqrt(var) * rng.standard_normal((count, *mean.shape))
            return drawn.astype(np.float32)
        if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
            drawn = rng.standard_normal((count, *space.shape))
            return drawn.clip(space.low, space.high).astype(np.float32)
        space.seed(int(rng.integers(2**31)))
        return np.stack([np.asarray(space.sample()) for _ in range(count)])

    if isinstance(space, spaces.Dict):
        return {key: draw(f"observation.{key}", part) for key, part in space.spaces.items()}
    return draw("observation", space)


def _compare(path: Path, model: _Model, arguments: dict[str, Tensor]) -> Export:
    """Let onnxruntime and torch act side by side, each with its own state.

    Raises:
        SkillrlError: if they differ by more than is allowed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(1)
    policy, space = model.policy, model.policy.action_space
    recurrent = isinstance(model, _Recurrent)
    state: tuple[np.ndarray, ...] | None = None
    if recurrent:
        own = np.zeros((_BATCH, *arguments["state"].shape[1:]), np.float32)
    difference, unequal = 0.0, 0
    for step in range(_STEPS):
        observation = _draw(model, _BATCH, rng)
        starts = rng.random(_BATCH) < (1.0 if step == 0 else 0.05)
        inputs = _named(observation)
        if recurrent:
            inputs |= {"state": own, "episode_start": starts}
        seen = observation
        if model.hidden:
            seen = np.array(observation)
            seen[..., [*model.hidden]] = 0
        if model.normalizer is not None:
            seen = model.normalizer(seen)
        wanted, state = policy.predict(seen, state, starts, deterministic=True)
        try:
            action, *rest = session.run(None, inputs)
        except Exception as error:  # of onnxruntime, which documents no class for them
            raise SkillrlError(
                f"onnxruntime cannot run the exported policy: {' '.join(str(error).split())}. A "
                "part of it, such as a features extractor, may depend on the size of the batch "
                "that it was traced with."
            ) from error
        if recurrent:
            (own,) = rest
            assert state is not None
            (remembered,) = state
            difference = max(difference, _relative(own, remembered, 1 + np.abs(remembered)))
        if isinstance(space, spaces.Box):
            extent = space.high - space.low
            unit = np.where(np.isfinite(extent), extent, 1 + np.abs(wanted))
            difference = max(difference, _relative(action, wanted, unit))
        else:
            unequal += int((action != wanted).reshape(_BATCH, -1).any(-1).sum())
    compared = _BATCH * _STEPS
    if not difference <= TOLERANCE or unequal > _TIES * compared:
        raise SkillrlError(
            f"The exported policy differs from torch's: by {difference:.1e} where {TOLERANCE:.0e} "
            f"is allowed, and in {unequal} of {compared} discrete actions. Nothing was written. "
            "This is a bug, or a version of torch or onnxruntime that skillrl does not know."
        )
    return Export(
        inputs=tuple(_described(each) for each in session.get_inputs()),
        outputs=tuple(_described(each) for each in session.get_outputs()),
        compared=compared,
        difference=difference,
        unequal=unequal,
    )


def _relative(found: np.ndarray, wanted: np.ndarray, unit: np.ndarray) -> float:
    return float((np.abs(found - wanted) / unit).max())


def _described(node: Any) -> str:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    return f"{node.name} ({', '.join(map(str, node.shape))}) {kind}"
