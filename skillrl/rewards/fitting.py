"""Fitting a reward function to what the last skill did and what lies beyond it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from skillrl.errors import InvalidValueError
from skillrl.rewards.network import NeuralReward

# Share of the observations that a fit does not see and its separation is measured on.
HELD_OUT = 0.1
# The largest share on the wrong side with which a fit still counts as clear.
CONFUSED = 0.25
# Numbers that are turned into floats at once.
_PIECE = 2**24


@dataclass(frozen=True)
class Separation:
    """How well a fitted reward tells held-out positives from negatives.

    All shares are of observations with a positive activation, in [0, 1]: wanted are many positives
    and few negatives.
    """

    loss: float
    """Mean squared error of the last tenth of the steps; target² is that of a constant zero."""
    positives: float
    """Share of the positives."""
    negatives: float
    """Share of the finished skill's own observations."""
    archive: float | None
    """Share of the archived observations of earlier skills; None where there are none."""

    @property
    def old(self) -> float:
        """Share of the finished skill's observations, or of earlier skills', whichever is more."""
        return max(self.negatives, self.archive or 0.0)

    @property
    def clear(self) -> bool:
        """Whether most positives, and few states of any skill so far, have a positive activation.

        Other ways to go on, which may lie close to the one that is asked for, do not count.

        >>> Separation(loss=3.0, positives=0.9, negatives=0.1, archive=None).clear
        True
        >>> Separation(loss=20.0, positives=0.9, negatives=0.1, archive=0.6).clear
        False
        """
        return self.positives >= 1 - CONFUSED and self.old <= CONFUSED


def fit_reward(
    reward: NeuralReward,
    positives: np.ndarray,
    negatives: np.ndarray,
    archive: np.ndarray,
    others: np.ndarray,
    *,
    steps: int,
    max_fits: int = 1,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    generator: torch.Generator,
) -> Separation:
    """Train ``reward`` on, in place, to ask for the positives and for nothing seen before.

    Adam on the squared error of the activation: positives towards +target, the current negatives
    and the archive of all earlier ones towards −target, in equal shares of a batch. Source: Meier &
    Mujika 2022 (arXiv 2202.08266). Ours are the other ways to go on, towards −target too, where the
    positives are only one of several: the reward then asks for what tells this way from the others.

    Args:
        reward: the network; it goes on from its present weights.
        positives: observations to ask for, ``(n, *shape)``.
        negatives: observations of the finished skill, ``(m, *shape)``.
        archive: observations of all earlier skills, ``(k, *shape)``; k may be 0.
        others: observations of other ways to go on, ``(l, *shape)``; l may be 0.
        steps: gradient steps.
        max_fits: times that these are repeated until the reward separates clearly.
        batch_size: observations of a step.
        learning_rate: Adam's.
        weight_decay: L2 weight.
        generator: source of the batches.

    Returns:
        How well the fitted reward separates observations that were held out.

    Raises:
        InvalidValueError: if there are too few positives or negatives, or some are not finite.
    """
    device = next(reward.parameters()).device
    groups = {
        "positives": positives,
        "negatives": negatives,
        "archive": archive,
        "other ways": others,
    }
    for name, observations in groups.items():
        if len(observations) < 2 and name in ("positives", "negatives"):
            raise InvalidValueError(
                f"A reward needs at least two {name}. Received {len(observations)}: does every "
                "episode end at once?"
            )
        if observations.dtype.kind == "f" and not np.isfinite(observations).all():
            raise InvalidValueError(f"The {name} hold observations that are not finite.")
    # The observations, and the rows of those that are held out and those that are seen.
    known, held_out, seen = {}, {}, {}
    for name, observations in groups.items():
        if len(observations) > 1:
            order = torch.randperm(len(observations), generator=generator)
            values = torch.as_tensor(observations)
            if reward.kind == "vector":
                values, order = (
                    reward.standardised(values[order].to(device)),
                    torch.arange(len(values)),
                )
            # Images, which may be gigabytes, are not copied, unless to another device.
            known[name], order = values.to(device), order.to(device)
            cut = max(1, int(HELD_OUT * len(order)))
            held_out[name], seen[name] = order[:cut], order[cut:]

    share = batch_size // len(seen)
    signs = [1.0 if name == "positives" else -1.0 for name in seen]
    targets = (torch.tensor(signs, device=device) * reward.target).repeat_interleave(share)
    optimizer = torch.optim.Adam(
        reward.parameters(), learning_rate, weight_decay=weight_decay, fused=True
    )
    for _ in range(max_fits):
        # Of each step and group, which of those that are seen are in its batch.
        drawn = [
            torch.randint(len(rows), (steps, share), generator=generator).to(device)
            for rows in seen.values()
        ]
        losses = []
        for chosen in zip(*drawn, strict=True):
            parts = zip(known.values(), seen.values(), chosen, strict=True)
            batch = torch.cat([values[rows[numbers]] for values, rows, numbers in parts])
            loss = (reward.activation(batch) - targets).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        with torch.no_grad():
            shares = {
                name: _positive_share(reward, known[name], rows) for name, rows in held_out.items()
            }
        separation = Separation(
            loss=float(torch.stack(losses[-max(1, steps // 10) :]).mean()),
            positives=shares["positives"],
            negatives=shares["negatives"],
            archive=shares.get("archive"),
        )
        if separation.clear:
            break
    return separation


def _positive_share(reward: NeuralReward, values: torch.Tensor, rows: torch.Tensor) -> float:
    """The share of some rows of standardised observations that has a positive activation."""
    # In pieces: images would take much memory as floats.
    piece = max(1, _PIECE // values[0].numel())
    positive = [reward.activation(values[some]) > 0 for some in rows.split(piece)]
    return float(torch.cat(positive).float().mean())
