"""The verbs of ordinary agents: train them, compare them, and take their policies elsewhere."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

import tyro

from skillrl.agents.recipes import TrainRecipe
from skillrl.cli.verb import Imports, Json, Parsed, import_packages, shallow_dict


@dataclass(frozen=True)
class _TrainArguments(TrainRecipe):
    """A recipe whose environment is a positional argument."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    """Id of the environment, as in `gymnasium.make`."""
    env_kwargs: Json = field(default_factory=dict)
    """Keyword arguments of the environment, for example '{"max_episode_steps": 200}'."""
    agent_kwargs: Json = field(default_factory=dict)
    """Keyword arguments of the agent's constructor, for example '{"learning_rate": 1e-3}'. The
    device is the CPU unless given here."""
    policy_kwargs: Json = field(default_factory=dict)
    """Keyword arguments of the policy, for example '{"cell": "gru", "state_size": 32}';
    "activation_fn" is a name of torch.nn, such as "ReLU"."""

    @classmethod
    def defaults(cls, recipe: TrainRecipe) -> Self:
        """The settings of ``recipe``; the environment's id has still to be given."""
        return cls(**{**shallow_dict(recipe), "env": tyro.MISSING})

    def recipe(self) -> TrainRecipe:
        return TrainRecipe(**shallow_dict(self))


@dataclass(frozen=True)
class Train(Parsed):
    """Train an agent on an environment's own reward, with one folder for each seed.

    The policy suits the observations: a convolutional one for images, one for dictionaries, a
    multilayer perceptron for all others. What is not given is the agent's own default, which is
    that of Stable-Baselines3 where it has the argument.

    In a seed's folder are the agent at the end (agent.zip) and at its best evaluation (best.zip),
    in Stable-Baselines3's format, evaluations.json (steps, returns and lengths, without noise),
    progress.csv and TensorBoard's events, a video, with --normalize the statistics
    (normalizer.npz), and, for --resume, checkpoint.zip.

    Ctrl-C stops between two rollouts, and --resume goes on from the last checkpoint, which is at
    most a minute or a rollout old. Kept are parameters, optimisers, counters of steps and the
    normaliser. Not kept are the states of environments and random generators (new episodes begin,
    with other random numbers) and SAC's replay buffer, which is filled with as many steps as at the
    begin, by the trained policy, before learning goes on.

    Examples:
      skillrl train HalfCheetah-v5 --mask-velocity --timesteps 1_000_000 --seeds 3
      skillrl train HalfCheetah-v5 --run runs/halfcheetah-v5-recurrent-ppo --resume
      skillrl train Pendulum-v1 --agent sac --timesteps 20_000 --agent-kwargs '{"gamma": 0.95}'
      skillrl train skillrl/TMaze-v0 --policy-kwargs '{"cell_kwargs": {"horizon": 100}}'
    """

    recipe: Annotated[_TrainArguments, tyro.conf.arg(name="")]
    seeds: int = 1
    """How many seeds to train with, one after another: 0, 1, …"""
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/<env>-<agent>)"),
    ] = None
    """Folder of the run, which must not exist yet, unless with --resume."""
    resume: bool = False
    """Go on from the run's last checkpoint, with more steps or seeds if given; start it where there
    is none."""
    imports: Imports = ()
    """Package to import first, because it registers the environment."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments; what is not given is the default's, or that of the run to resume."""
        parsed = cls._read(arguments, cls(_TrainArguments.defaults(TrainRecipe(""))))
        if parsed.resume:
            from skillrl.commands.train import default_run, read_recipe

            run = parsed.run or default_run(parsed.recipe)
            if (run / "train.json").exists():
                stored, seeds = read_recipe(run)
                parsed = cls._read(arguments, cls(_TrainArguments.defaults(stored), seeds=seeds))
        return parsed

    def execute(self) -> None:
        """Train the agents; the command shows its progress itself."""
        import_packages(self.imports)
        from skillrl.commands.train import summary, train

        recipe = self.recipe.recipe()
        outcomes = train(recipe, run=self.run, seeds=self.seeds, resume=self.resume)
        print(summary(outcomes))


@dataclass(frozen=True)
class Export(Parsed):
    """Write a policy as ONNX, for programs without torch.

    The model takes a batch of raw observations, of any size, and returns actions without noise, as
    the environment takes them: a normaliser, squashing and bounds are part of it. A recurrent
    policy takes and returns what it remembers as real numbers: give it zeros as `state` at first,
    then each `next_state`, and let `episode_start` be true where an episode begins. Images have
    their channels first. The file is compared with torch before it is written.

    Reading an agent runs none of its file's code. Agents whose policy has classes of other packages
    are refused.

    Needs the packages of the extra `export`: onnx, onnxscript and onnxruntime.

    Examples:
      skillrl export runs/cheetah/skills/003 --out skill.onnx
      skillrl export runs/halfcheetah-v5-recurrent-ppo/seed-000 --out policy.onnx
      skillrl export runs/halfcheetah-v5-recurrent-ppo/seed-000/best.zip --out best.onnx
    """

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """Folder of a skill or of a seed, or an agent that Stable-Baselines3 saved (.zip) of ppo, sac,
    recurrent-ppo, recurrent-sac or skill-ppo."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("policy.onnx")
    """The file to write."""
    normalizer: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: the agent's own)")
    ] = None
    """Statistics of the observations (.npz) of an agent whose file holds none."""

    def execute(self) -> None:
        """Write the file and print what it is."""
        from skillrl.commands.export import export_policy

        print(export_policy(self.path, out=self.out, normalizer=self.normalizer))


@dataclass(frozen=True)
class Align(Parsed):
    """Tell whether policies of different seeds found the same solution.

    The units of a network can be exchanged, those behind tanh flipped, and the states of a linear
    recurrence turned, without a change of what it does. Two policies lie in one mode if, once these
    are undone, the straight path between their parameters leads through policies that are as good.
    How far returns fall below the line between the ends, as a share of what the ends are better
    than a random policy, is the barrier. All returns are means over the same episodes without
    noise.

    Normalisers of vectors are folded into the first layers; others are interpolated along with the
    parameters.

    Every two policies are aligned for themselves. Writes modes.json (barriers, modes, distances of
    parameters and of behaviour), barriers.png, curves.png, what brings all policies into shared
    coordinates (alignments.safetensors) and, of three or more, the plane through the first three in
    these (plane.png), for which 49 more networks are scored. Skills of several runs are paired by
    what they see in their episodes, and scored on the mean of their rewards.

    Examples:
      skillrl align runs/pendulum-v1-ppo
      skillrl align runs/a/seed-000 runs/b/seed-003 --method both --episodes 100
      skillrl align one.zip other.zip --env HalfCheetah-v5 --normalizer one.npz other.npz
      skillrl align runs/cheetah-0 runs/cheetah-1
      skillrl align runs/cheetah-0 runs/cheetah-1 --pair runs/cheetah-0:3 runs/cheetah-1:5
    """

    paths: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="PATH [PATH ...]", help_behavior_hint=""),
    ]
    """Runs of `skillrl train` (all seeds) or seeds of them, agents that Stable-Baselines3 saved
    (.zip), runs of `skillrl discover` or single skills of them."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/alignment")
    """Folder for the results."""
    method: Literal["activations", "weights", "both"] = "activations"
    """What tells which units are alike: what they do, the parameters around them, or both."""
    no_signs: bool = False
    """Flip no units, and turn no complex states."""
    scales: bool = False
    """Scale units behind relu and complex states, too, to the size that they have in others."""
    episodes: int = 50
    """Episodes of every return, from the same resets for all policies."""
    points: int = 5
    """Points on every path, its ends included."""
    threshold: float = 0.1
    """Barriers up to this connect two policies."""
    no_plane: bool = False
    """Do not score the plane through the first three policies."""
    env: Annotated[
        str | None, tyro.conf.arg(metavar="ID", help_behavior_hint="(default: as in training)")
    ] = None
    """Id of the environment; needed where no file says it."""
    normalizer: Annotated[
        tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="")
    ] = ()
    """Statistics of the observations (normalizer.npz) of agents whose files hold none: one for all,
    or one for each."""
    pair: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="RUN:N [RUN:N ...]", help_behavior_hint="")
    ] = ()
    """Skills to compare, instead of all that are paired by what they do."""
    seed: int = 0
    """Seed of the episodes' resets."""
    imports: Imports = ()
    """Package to import first, because it registers the environment."""

    def execute(self) -> None:
        """Compare the policies; the command shows its progress itself."""
        import_packages(self.imports)
        from skillrl.commands.align import Settings, align
        from skillrl.commands.alignment_results import report

        settings = Settings(
            method=self.method,
            signs=not self.no_signs,
            scales=self.scales,
            episodes=self.episodes,
            points=self.points,
            threshold=self.threshold,
            plane=not self.no_plane,
            seed=self.seed,
        )
        found = align(
            self.paths,
            out=self.out,
            env=self.env,
            normalizers=self.normalizer,
            pair=self.pair,
            settings=settings,
        )
        print(report(*found))
