"""The verb that trains networks on sequence tasks."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import tyro

from skillrl.cli.verb import Parsed, shallow_dict
from skillrl.recurrent.recipes import SEQUENCE_RECIPES, SequenceRecipe, TaskName


@dataclass(frozen=True)
class _SequenceArguments(SequenceRecipe):
    """A recipe whose task is a positional argument."""

    task: Annotated[tyro.conf.Positional[TaskName], tyro.conf.arg(metavar="TASK")]


@dataclass(frozen=True)
class Sequence(Parsed):
    """Train a recurrent network on a sequence task, chunk after chunk.

    Memory does not grow with the length of the sequences, except with the rule "bptt". The defaults
    below are the recipe of the TASK that comes first on the line. Those of copy, listops, images
    and reviews are the sizes of Zucchet et al. 2023: copy takes two hours on one core, the others a
    GPU days. Ctrl-C stops a training, and --resume resumes it.

    Tasks:
      copy      repeat a pattern of bits
      recall    say at the end what the first step showed
      listops   evaluate nested lists
      images    classify images pixel by pixel, from the folder --data
      reviews   tell positive from negative texts byte by byte, from the folder --data

    Examples:
      skillrl sequence recall
      skillrl sequence recall --rule truncated
      skillrl sequence copy --rule online --depth 4 --chunk 16 --updates 500
      skillrl sequence images --data cifar10 --sequences 100 --chunk 32 --width 64
        --batch-size 20 --updates 200
    """

    recipe: Annotated[_SequenceArguments, tyro.conf.arg(name="")]
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="DIR", help_behavior_hint="(default: runs/sequence-TASK-LAYER-RULE-seedSEED)"
        ),
    ] = None
    """Folder for result.json, curve.png and network.safetensors."""
    resume: bool = False
    """Go on with a training in the folder that was stopped; the settings are named again."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments; what is not given is the recipe's of the task."""
        task = next((word for word in arguments if word in SEQUENCE_RECIPES), "copy")
        parsed = cls._read(arguments, cls._defaults(task))
        if parsed.recipe.task != task:  # The word came after an option, whose value it was.
            parsed = cls._read(arguments, cls._defaults(parsed.recipe.task))
        return parsed

    @classmethod
    def _defaults(cls, task: str) -> Self:
        defaults = _SequenceArguments(**shallow_dict(SEQUENCE_RECIPES[task]))
        # The task itself has to be given.
        object.__setattr__(defaults, "task", tyro.MISSING)
        return cls(defaults)

    def execute(self) -> None:
        """Train the network; the command shows its progress itself."""
        import torch

        from skillrl.commands.sequence import sequence

        # Units that saturate pass on less than a normal number, with which CPUs are slow.
        torch.set_flush_denormal(True)
        recipe = SequenceRecipe(**shallow_dict(self.recipe))
        out, outcome = sequence(recipe, out=self.out, resume=self.resume)
        print(
            f"Of the test set {outcome.test_accuracy:.1%} is right, with a loss of "
            f"{outcome.test_loss:.3f}. Result, plot and network are in {out}."
        )
