"""The fastest vector environment for any id."""

import difflib
import importlib
import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, find_highest_version, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv

from skillrl.envs import arguments
from skillrl.envs.opengl import select_opengl_backend
from skillrl.envs.registration import MUJOCO_IDS, register_envs
from skillrl.errors import InvalidValueError


def check_arguments(env_kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments of an environment that are not for a recipe to choose.

    Raises:
        InvalidValueError: if there is one.
    """
    reserved = {"num_envs", "num_threads", "autoreset_mode", "render_mode", "saves_states"}
    if found := reserved & set(env_kwargs):
        raise InvalidValueError(
            f"env_kwargs cannot hold {', '.join(sorted(found))}: skillrl sets that itself."
        )


def make_vec(
    id: str,
    num_envs: int = 1,
    *,
    num_threads: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    saves_states: bool = False,
    **kwargs: Any,
) -> VectorEnv[Any, Any, Any]:
    """Make a vector environment, in the fastest implementation there is for ``id``.

    MuJoCo tasks (``"HalfCheetah-v5"`` as well as ``"skillrl/HalfCheetah-v5"``) come on batched
    physics, equal to Gymnasium's to the last bit; other environments as their registered
    ``vector_entry_point`` if it has the autoreset mode, and pictures where they are asked for, or
    in a :class:`gymnasium.vector.SyncVectorEnv`.

    Args:
        id: an id registered with Gymnasium; without a version the highest one is taken, and
            ``"package:Name-v0"`` imports ``package`` first.
        num_envs: number of environments.
        num_threads: threads that step, or None for one on each usable CPU; for implementations
            that step in threads.
        autoreset_mode: when environments whose episode has ended are reset.
        saves_states: whether states are to be saved and restored (``get_state``, ``set_state``),
            for implementations that are faster without, those of Atari's games; MuJoCo's and the
            maze always can, Gymnasium's never.
        **kwargs: arguments of the environment, ``max_episode_steps`` and ``render_mode`` among
            them.

    Raises:
        InvalidValueError: if no such id is registered, or an argument cannot be used.

    Example:
        >>> make_vec("HalfCheetah-v5", num_envs=2)
        MujocoVectorEnv(skillrl/HalfCheetah-v5, num_envs=2)
        >>> make_vec("Acrobot-v1", num_envs=2)
        SyncVectorEnv(Acrobot-v1, num_envs=2)
    """
    num_envs = arguments.positive_int("num_envs", num_envs)
    mode = arguments.autoreset_mode(autoreset_mode)
    spec = find_spec(id)
    if spec.id in MUJOCO_IDS:
        spec = gym.spec(f"skillrl/{spec.id}")

    accepted = frozenset() if spec.vector_entry_point is None else _parameters(spec)
    draws = "render_mode" in accepted or kwargs.get("render_mode") is None
    if spec.vector_entry_point is not None and draws:
        own = dict(kwargs)
        if "num_threads" in accepted and num_threads is not None:
            own["num_threads"] = num_threads
        if "autoreset_mode" in accepted:
            own["autoreset_mode"] = mode
        if "saves_states" in accepted:
            own["saves_states"] = saves_states
        with _arguments_named(spec, kwargs):
            envs = gym.make_vec(spec, num_envs, **own)
        if envs.metadata.get("autoreset_mode") is mode:
            return envs
        envs.close()
    with _quiet_loading(spec), _arguments_named(spec, kwargs):
        return gym.make_vec(
            spec,
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": mode},
            **kwargs,
        )


@contextmanager
def _arguments_named(spec: EnvSpec, kwargs: dict[str, Any]) -> Iterator[None]:
    """Name the arguments in the error of an environment that does not take them."""
    try:
        yield
    except TypeError as error:
        reason = " ".join(str(error).split()).partition(" was raised from the environment")[0]
        creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else None
        known = [] if creator is None else inspect.signature(creator).parameters
        known = [name for name in known if name not in spec.kwargs]
        raise InvalidValueError(
            f"{spec.id} cannot be made with the arguments {kwargs}: {reason}"
            + (f". It takes {', '.join(known)}." if known else "")
        ) from error


def find_spec(id: str) -> EnvSpec:
    """Look up an environment that is registered with Gymnasium.

    Args:
        id: as in :func:`make_vec`.

    Raises:
        InvalidValueError: if it is not registered; names the ids that resemble it.

    Example:
        >>> find_spec("HalfCheetah").id
        'HalfCheetah-v5'
        >>> find_spec("HalfCheeta-v5")
        Traceback (most recent call last):
        ...
        skillrl.errors.InvalidValueError: There is no environment 'HalfCheeta-v5'. Did you mean
        'HalfCheetah-v5'?
    """
    register_envs()
    module, _, name = id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InvalidValueError(
                f"{id!r}: the package {module!r} cannot be imported ({error})."
            ) from error
    if name in gym.registry:
        return gym.registry[name]
    namespace, _, bare = name.rpartition("/")
    if namespace == "ALE" and module != "ale_py":
        # A dependency of ours, so its environments are there without being asked for.
        return find_spec(f"ale_py:{name}")
    highest = find_highest_version(namespace or None, bare)
    if highest is not None:
        return gym.registry[f"{name}-v{highest}"]
    near = _nearest(name)
    raise InvalidValueError(
        f"There is no environment {name!r}. "
        + (
            f"Did you mean {' or '.join(map(repr, near))}?"
            if near
            else "Import the package that registers it first (on the command line: --import "
            "<package>), or give '<package>:<id>'; gymnasium.pprint_registry() lists all ids."
        )
    )


def _nearest(name: str) -> list[str]:
    """Registered ids that resemble ``name``, each environment in its highest version only.

    Whatever stands before the slash: games that are registered twice must not hide others.
    """
    latest: dict[str, list[str]] = {}
    for spec in gym.registry.values():
        # Under Gymnasium's names MuJoCo's tasks come on batched physics, too.
        twice = spec.namespace == "skillrl" and f"{spec.name}-v{spec.version}" in MUJOCO_IDS
        if not twice and spec.version == find_highest_version(spec.namespace, spec.name):
            latest.setdefault(_bare(spec.id), []).append(spec.id)
    sought = _bare(name)
    close = difflib.get_close_matches(sought, latest, n=3, cutoff=0.75)
    # The version counts little where the rest is short, or is not the whole name.
    close = close or [each for each in latest if len(sought) > 3 and each.startswith(sought)]
    return [id for each in close for id in latest[each]][:3]


def _bare(id: str) -> str:
    return id.rpartition("/")[2].lower()


def _parameters(spec: EnvSpec) -> frozenset[str]:
    """Names of the arguments that the environment's vector entry point takes."""
    creator: Any = spec.vector_entry_point
    if isinstance(creator, str):
        creator = load_env_creator(creator)
    return frozenset(inspect.signature(creator).parameters)


def make_single(id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """Make one environment, as ``gymnasium.make`` does, without MuJoCo's noise.

    Where it is to be drawn, a rendering backend is chosen that works without a display.

    Args:
        id: as in :func:`make_vec`.
        **kwargs: passed on to ``gymnasium.make``.

    Raises:
        InvalidValueError: if no such id is registered.
    """
    spec = find_spec(id)
    if kwargs.get("render_mode") not in (None, "human"):
        if _is_mujoco(spec):
            select_opengl_backend()
        elif not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            # Otherwise pygame looks for a display, and complains that there is none.
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    with _quiet_loading(spec):
        return gym.make(spec, **kwargs)


@contextmanager
def _quiet_loading(spec: EnvSpec) -> Iterator[None]:
    if not _is_mujoco(spec):
        yield  # nothing to silence, and no need to import MuJoCo
        return
    from skillrl.envs.mujoco.model import quiet_loading

    with quiet_loading():
        yield


def _is_mujoco(spec: EnvSpec) -> bool:
    """Whether the environment is one of Gymnasium's own MuJoCo tasks."""
    return str(spec.entry_point).startswith("gymnasium.envs.mujoco")
