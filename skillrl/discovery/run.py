"""A discovery run: a folder, and the method that fills it with skills."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from os import PathLike
from pathlib import Path

from skillrl.discovery.diayn import Diayn
from skillrl.discovery.events import OnEvent
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.loop import Discovery
from skillrl.discovery.metra import Metra
from skillrl.discovery.random_rewards import RandomRewards
from skillrl.discovery.settings import Recipe
from skillrl.discovery.training import check_environment, device_for, own_torch_threads
from skillrl.errors import InvalidValueError

METHODS: dict[str, type[Discovery] | type[Diayn]] = {
    "neural-rewards": Discovery,
    "random-rewards": RandomRewards,
    "diayn": Diayn,
    "metra": Metra,
}


def discover(
    recipe: Recipe,
    run: str | PathLike[str],
    *,
    seed: int = 0,
    resume: bool = False,
    num_threads: int | None = None,
    device: str = "cpu",
    on_event: OnEvent = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SkillLibrary:
    """Discover skills and save them to the folder ``run``.

    A run that is stopped at any moment resumes from its last checkpoint and ends with the same
    skills as one that never was (on the same kind of CPU; with images, with the same number of
    torch threads). Meanwhile torch runs on one thread unless observations are images: smaller
    networks wait for threads longer than they gain by them.

    Args:
        recipe: every setting, the method among them.
        run: folder of the skill library; it should not exist unless ``resume``.
        seed: of everything random.
        resume: go on with the run in the folder; its own recipe should equal ``recipe``, up to
            the number of generations.
        num_threads: threads that step environments, or None for one on each usable CPU; skills
            do not depend on it.
        device: where networks are and learn, for neural rewards with ppo: ``"cpu"``, or
            ``"cuda"``, which pays for images; there a seed finds only similar skills.
        on_event: called when a reward was fitted, after each update, and with each new skill.
        should_stop: asked before each rollout; where it says so, a checkpoint is written and
            ``RunStopped`` raised.

    Returns:
        The library of all skills of the run.

    Raises:
        InvalidValueError: if the folder, the recipe, the environment or the device cannot be used.
        RunStopped: if ``should_stop`` said so.
    """
    if seed < 0:
        raise InvalidValueError(f"A seed is a whole number from 0. Received {seed}.")
    place = device_for(recipe, device)
    library = open_library(run, recipe, seed, resume)
    if len(library) >= recipe.generations:
        return library
    kind = METHODS[recipe.method]
    with (
        library.locked(),
        own_torch_threads(),
        closing(
            kind(library, recipe, on_event, should_stop, num_threads, place)
            if issubclass(kind, Discovery)
            else kind(library, recipe, on_event, should_stop, num_threads)
        ) as method,
    ):
        method.run()
    return library


def open_library(run: str | PathLike[str], recipe: Recipe, seed: int, resume: bool) -> SkillLibrary:
    """Create the run's library, or open it to resume."""
    if not (resume and (Path(run) / "run.json").exists()):
        # Before a folder is made that a corrected command would find in its way.
        check_environment(recipe)
        return SkillLibrary.create(run, recipe, seed)
    library = SkillLibrary(run)
    library.check_resumable(recipe, seed)
    return library
