"""The verb that studies networks of different seeds."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import tyro

from skillrl.cli.verb import Parsed, shallow_dict
from skillrl.permutation.recipes import STUDY_RECIPES, NetworkName, StudyRecipe


@dataclass(frozen=True)
class _StudyArguments(StudyRecipe):
    """A recipe whose network is a positional argument."""

    network: Annotated[tyro.conf.Positional[NetworkName], tyro.conf.arg(metavar="NETWORK")]


@dataclass(frozen=True)
class PermutationStudy(Parsed):
    """Train image classifiers from pairs of seeds, align them, and score what lies between.

    Accuracy, negative log-likelihood, and the latter after one tuned temperature, at 11 points
    between the networks as they are and aligned, with and without re-normalised activations
    (REPAIR), means and standard errors over the pairs; and the accuracy of averaged
    initialisations: as they are, aligned as the trained networks are, and aligned as an unrelated
    pair is. The defaults below are those of the NETWORK
    that comes first on the line: the settings of Benzing et al. 2022. Convolutions take hours
    without a GPU.

    Examples:
      skillrl permutation-study dense --data cifar10
      skillrl permutation-study dense --data mnist --width 512 --depth 3 --method both
      skillrl permutation-study convolutional --data cifar10 --learning-rate 3e-3 --device cuda
    """

    recipe: Annotated[_StudyArguments, tyro.conf.arg(name="")]
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: a new one in runs/)"),
    ] = None
    """Folder for result.json and curves.png."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments; what is not given is the recipe's of the network."""
        network = next((word for word in arguments if word in STUDY_RECIPES), "dense")
        parsed = cls._read(arguments, cls._defaults(network))
        if parsed.recipe.network != network:  # The word came after an option, whose value it was.
            parsed = cls._read(arguments, cls._defaults(parsed.recipe.network))
        return parsed

    @classmethod
    def _defaults(cls, network: str) -> Self:
        defaults = _StudyArguments(**shallow_dict(STUDY_RECIPES[network]))
        # The network itself has to be given.
        object.__setattr__(defaults, "network", tyro.MISSING)
        return cls(defaults)

    def execute(self) -> None:
        """Train the pairs; the command shows its progress itself."""
        from skillrl.commands.permutation_study import permutation_study

        recipe = StudyRecipe(**shallow_dict(self.recipe))
        out, outcome = permutation_study(recipe, out=self.out)
        middle = {name: outcome.mean(name, "accuracy")[0] for name in ("plain", "aligned")}
        ends = (middle["plain"][0] + middle["plain"][-1]) / 2
        print(
            f"Of the test images the networks get {ends:.1%} right, their mean "
            f"{middle['plain'][5]:.1%}, and {middle['aligned'][5]:.1%} when aligned."
        )
        averaged = ", ".join(
            f"{name} {mean:.1%} ± {error:.1%}"
            for name, (mean, error) in outcome.averaged_initialisations().items()
        )
        print(f"Averaged initialisations, untrained, get right: {averaged}.")
        print(f"Result and curves, with standard errors over the pairs, are in {out}.")
