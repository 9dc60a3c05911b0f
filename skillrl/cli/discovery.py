"""The verbs of discovery: find skills, and look at them."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

import tyro

from skillrl.cli.verb import Imports, Json, Parsed, import_packages, shallow_dict
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.settings import AgentName, Recipe


@dataclass(frozen=True)
class _RecipeArguments(Recipe):
    """A recipe whose environment is a positional argument."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ID")]
    """Id of the environment, as in `gymnasium.make`: HalfCheetah-v5, skillrl/Maze2D-v0, or any
    other with Box observations and Box or Discrete actions; of those with a recipe, the first
    letters in any case, such as montezuma."""
    env_kwargs: Json = field(default_factory=dict)
    """Keyword arguments of the environment, for example '{"forward_reward_weight": 0}'."""
    algorithm: Annotated[AgentName, tyro.conf.arg(name="agent")] = "ppo"
    """What learns a skill: SkillPPO, PPO with a memory, SAC, or SAC with a memory. SAC is for
    continuous actions; "diayn" and "metra" are on "ppo" alone."""

    @classmethod
    def defaults(cls, recipe: Recipe) -> Self:
        """The settings of ``recipe``; the environment's id has still to be given."""
        return cls(**{**shallow_dict(recipe), "env": tyro.MISSING})

    def recipe(self) -> Recipe:
        """The recipe, with the environment's full id."""
        return Recipe(**{**shallow_dict(self), "env": recipe_for(self.env).env})


@dataclass(frozen=True)
class Discover(Parsed):
    """Discover skills in an environment, without using its reward.

    Skills are found one after another: each one learns to reach what the ones before it do not.
    They are saved in the run's folder as soon as they are finished. The defaults below are the
    recipe of the environment ID that comes first on the line (a generic recipe if none does).

    Examples:
      skillrl discover HalfCheetah-v5
      skillrl discover HalfCheetah-v5 --generations 20 --seed 3 --run runs/cheetah-3
      skillrl discover HalfCheetah-v5 --run runs/cheetah-3 --resume
      skillrl discover montezuma
      skillrl discover MyRobot-v0 --import my_package --agent.learning-rate 1e-4
      skillrl discover MyRobot-v0 --import my_package --agent recurrent-ppo --memory.state-size 32
      skillrl discover Ant-v5 --help      (the recipe of Ant-v5)
    """

    recipe: Annotated[_RecipeArguments, tyro.conf.arg(name="")]
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: a new one in runs/)"),
    ] = None
    """Folder of the run, which must not exist yet, unless with --resume."""
    seed: int = 0
    """Seed of everything random: the same seed finds the same skills."""
    resume: bool = False
    """Go on from the run's last checkpoint; start it where there is none."""
    device: str = "cpu"
    """Where networks are and learn: cpu, or cuda, which pays for images."""
    imports: Imports = ()
    """Package to import first, because it registers the environment."""

    @classmethod
    def parse(cls, arguments: abc.Sequence[str]) -> Self:
        """Read the arguments; what is not given is the recipe's, or that of the run to resume."""
        env = next((word for word in arguments if not word.startswith("-")), "")
        parsed = cls._read(arguments, cls(_RecipeArguments.defaults(recipe_for(env))))
        if parsed.recipe.env != env:  # The id came after an option, whose value was taken for it.
            env = parsed.recipe.env
            parsed = cls._read(arguments, cls(_RecipeArguments.defaults(recipe_for(env))))
        if parsed.resume:
            from skillrl.commands.discover import default_run
            from skillrl.discovery.library import SkillLibrary

            run = parsed.run or default_run(recipe_for(env).env, parsed.seed)
            if (run / "run.json").exists():
                stored = SkillLibrary(run)
                defaults = cls(_RecipeArguments.defaults(stored.recipe), seed=stored.seed)
                parsed = cls._read(arguments, defaults)
        return parsed

    def execute(self) -> None:
        """Discover skills; the command shows its progress itself."""
        import_packages(self.imports)
        from skillrl.commands.discover import command_to_look, discover

        recipe = self.recipe.recipe()
        run = discover(recipe, run=self.run, seed=self.seed, resume=self.resume, device=self.device)
        print(f"The skills are in {run}. Look at them: {command_to_look(recipe, run)}")


@dataclass(frozen=True)
class List(Parsed):
    """List the skills of a run, or the runs in a folder.

    Of each skill:
      live         whether it earns a fifth of the target, and at least twice as much as previous;
                   - for skills learnt together, whose rewards ask for nothing new
      reward       what it earns a step in episodes from ordinary resets
      previous     what the skill before it, or the one that it started from, earns on the same
                   reward, whichever is more
      fresh        what the agent earned on it before training
      positives    share of the states to ask for that the fitted reward is positive at
      negatives    the same of states of earlier skills, which are not to be asked for again
      task return  what it earns of the environment's own reward, which it was not trained on
      from         the skill that it started from; - for the untrained policy
    A skill that is not live is often one whose reward the fresh agent never met.

    Examples:
      skillrl list
      skillrl list runs/cheetah
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")] = Path("runs")
    """Folder of a run, or of runs."""

    def execute(self) -> None:
        """Print a table of the skills."""
        from skillrl.commands.list_skills import list_skills

        print(list_skills(self.run))


@dataclass(frozen=True)
class Render(Parsed):
    """Film the skills of a run: one video a skill, and a labelled grid of all of them.

    Needs no display and no settings. Where no OpenGL is found, the message says what to install.

    Examples:
      skillrl render runs/cheetah
      skillrl render runs/cheetah --skills 0 3 --gif --out animations
      skillrl render runs/cheetah --skills 3 --live
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("videos")
    """Folder that the videos are written to."""
    skills: Annotated[
        tuple[int, ...] | None,
        tyro.conf.arg(metavar="N [N ...]", help_behavior_hint="(default: all)"),
    ] = None
    """Numbers of the skills to film."""
    gif: bool = False
    """Write animated GIFs as well as H.264 videos (MP4)."""
    live: bool = False
    """Open a window and show the skills in it instead of writing files."""
    steps: Annotated[
        int | None,
        tyro.conf.arg(metavar="N", help_behavior_hint="(default: up to 500 steps, or 15 s)"),
    ] = None
    """Environment steps to show of each skill."""
    seed: int = 0
    """Seed of the reset that every video starts from."""
    imports: Imports = ()
    """Package to import first, because it registers the environment."""

    def execute(self) -> None:
        """Render the skills and print the files written."""
        import_packages(self.imports)
        from skillrl.commands.render import render

        videos = render(
            self.run,
            out=self.out,
            skills=self.skills,
            gif=self.gif,
            live=self.live,
            steps=self.steps,
            seed=self.seed,
        )
        for video in videos:
            print(video)


@dataclass(frozen=True)
class Gallery(Parsed):
    """Write one page with every skill of a run: video, behaviour, rewards, where it came from.

    The page, gallery.html in the run's folder, works without a network and without a server.

    Examples:
      skillrl gallery runs/cheetah
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    seed: int = 0
    """Seed of the reset that every video starts from."""
    imports: Imports = ()
    """Package to import first, because it registers the environment."""

    def execute(self) -> None:
        """Write the page and print where it is."""
        import_packages(self.imports)
        from skillrl.commands.gallery import gallery

        print(gallery(self.run, seed=self.seed))


@dataclass(frozen=True)
class Map(Parsed):
    """Draw where the skills of a game go: rooms, positions, what they pick up.

    The untrained policy plays as well: its luck is no skill. All play as they were trained, drawing
    their actions. All of it is read from the console's memory, which agents never see. Written are
    map.png and map.json, into the run's folder; in the latter a step is room, x, y, and how often
    they were there. For Montezuma's Revenge, Private Eye and Pitfall.

    Examples:
      skillrl map runs/montezumarevenge-v5-seed0
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    episodes: int = 10
    """Episodes that each skill plays."""
    seed: int | None = None
    """Seed of the first one's reset; by default another one for each skill of each run."""

    def execute(self) -> None:
        """Write the map, and print what each skill did."""
        from skillrl.commands.map_places import map_places, table

        path, visited = map_places(self.run, episodes=self.episodes, seed=self.seed)
        print(table(visited))
        print(path)
