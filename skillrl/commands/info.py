"""``skillrl info``: what a bug report needs to say about the machine and the installation."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

# The packages whose versions change what skillrl does, skillrl first.
PACKAGES = (
    "skillrl",
    "gymnasium",
    "mujoco",
    "ale-py",
    "stable-baselines3",
    "torch",
    "numpy",
    "safetensors",
    "imageio",
    "imageio-ffmpeg",
    "tyro",
)


def info(*, as_json: bool = False) -> str:
    """Return a table, or a JSON object, that describes the machine and the installation."""
    sections = describe()
    if as_json:
        return json.dumps(sections, indent=2)
    width = max(len(name) for section in sections.values() for name in section)
    return "\n\n".join(
        "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in section.items())])
        for title, section in sections.items()
    )


def describe() -> dict[str, Mapping[str, str | int]]:
    """Return named facts in three sections: ``versions``, ``machine`` and ``video``.

    A fact that cannot be found out is replaced by the reason: this command has to work where
    others do not.
    """
    return {
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count() or 0,
            "cores_available": _cores_available(),
            "torch_threads": _try(_torch_threads),
            "devices": _try(_devices),
        },
        "video": {
            "mujoco_gl": os.environ.get("MUJOCO_GL", "not set"),
            "rendering": _try(_rendering),
            "ffmpeg": _try(_ffmpeg),
        },
    }


def _try(fact: Callable[[], str | int]) -> str | int:
    """Return the fact, or why there is none."""
    try:
        return fact()
    except Exception as error:
        return f"fails: {type(error).__name__}: {' '.join(str(error).split())}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name; `platform.processor` knows only its family on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores_available() -> int:
    """The cores that this process may use; containers and job schedulers grant fewer than all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def _devices() -> str:
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return ", ".join(["cpu", *devices])


def _ffmpeg() -> str:
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_version()


def _rendering() -> str:
    """Draw one small frame as `skillrl render` does, and name the OpenGL backend that drew it."""
    import gymnasium as gym
    import numpy as np

    from skillrl.envs.opengl import select_opengl_backend

    backend = select_opengl_backend()
    with gym.make("InvertedPendulum-v5", render_mode="rgb_array", width=32, height=32) as env:
        env.reset(seed=0)
        frame = np.asarray(env.render())
    return f"{backend}: {'works' if frame.any() else 'fails: the frame is black'}"
