"""Policies whose last inputs are fixed: one skill of a policy for many."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from skillrl.agents.policy import SkillPolicy
from skillrl.errors import InvalidValueError


def fix_inputs(policy: SkillPolicy, space: spaces.Box, values: np.ndarray) -> SkillPolicy:
    """Return a policy for ``space`` that acts as ``policy`` where ``values`` end its observations.

    What the fixed inputs contribute goes into the biases of the first layers of actor and critic.

    Args:
        policy: for observations that are vectors, with a normaliser.
        space: the observations without the fixed inputs, vectors.
        values: the fixed inputs, raw, ``(n,)``.

    Raises:
        InvalidValueError: if the sizes do not add up, or the policy has no normaliser
            or no hidden layer.
    """
    size = int(np.prod(space.shape))
    normalizer = policy.normalizer
    if normalizer is None or normalizer.mean.shape != (size + len(values),):
        raise InvalidValueError(
            f"Observations of {size} and {len(values)} fixed inputs do not make those of the "
            f"policy, {policy.observation_space}."
        )
    if not policy.hidden:
        raise InvalidValueError("Inputs can be fixed of a policy with hidden layers only.")
    fixed = SkillPolicy(
        space,
        policy.action_space,
        lambda _: 0.0,
        hidden=policy.hidden,
        activation=policy.activation,
        hidden_learning_rate=policy.hidden_learning_rate,
    )
    padding = torch.zeros(1, size)
    raw = torch.cat([padding, torch.as_tensor(values, dtype=torch.float32)[None]], 1)
    with torch.no_grad():
        inputs = normalizer(raw)[0, size:]
        state = policy.state_dict()
        for network in ("policy_net", "value_net"):
            first = f"mlp_extractor.{network}.0"
            weight = state[f"{first}.weight"]
            state[f"{first}.bias"] = state[f"{first}.bias"] + weight[:, size:] @ inputs
            state[f"{first}.weight"] = weight[:, :size]
        for name, tensor in state.items():
            if name.endswith(("features_extractor.mean", "features_extractor.var")):
                state[name] = tensor[:size]
    fixed.load_state_dict(state)
    fixed.set_training_mode(False)
    return fixed
