"""Files that are never half written and never run code when they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from skillrl.errors import DamagedFileError, InvalidValueError

# The key of the safetensors header under which the JSON description is stored.
DESCRIPTION = "skillrl"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)`` beside ``path``, then rename the result to ``path``.

    A reader sees the old file or the new one, never a part of either. Where writing fails (a full
    disk, an interrupt) the temporary file is removed and the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers of videos choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # A failing write, unlike a failing open, does not say of which file.
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(path: Path) -> None:
    """Refuse a folder whose place a file has taken, before the work that is to fill it.

    Raises:
        InvalidValueError: naming the file.
    """
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir():
        raise InvalidValueError(f"{there} is a file: name another folder.")


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``.

    Raises:
        DamagedFileError: if the file is missing, unreadable, or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedFileError(f"{path} does not exist.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise DamagedFileError(f"{path} should hold a JSON object, not {type(value).__name__}.")
    return value


def write_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor | np.ndarray],
    description: Mapping[str, Any] | None = None,
) -> None:
    """Write named tensors and a JSON description into one safetensors file, atomically."""
    plain: dict[str, torch.Tensor] = {}
    owned: set[int] = set()
    for name, values in tensors.items():
        tensor = torch.as_tensor(values).detach().cpu().contiguous()
        memory = tensor.untyped_storage()
        # Safetensors refuses tensors that share memory, and views of larger ones. Others are not
        # copied: an archive of images is large.
        if memory.data_ptr() in owned or memory.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        owned.add(memory.data_ptr())
        plain[name] = tensor
    metadata = {DESCRIPTION: json.dumps(description or {})}
    # Not `save_file`, whose error on a full disk is no OSError.
    content = save(plain, metadata)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the named tensors and the JSON description in a safetensors file.

    Reading such a file runs none of its content as code.

    Raises:
        DamagedFileError: if the file is missing, incomplete, or not one written by skillrl.
    """
    if path.is_dir():
        raise DamagedFileError(
            f"{path} is a folder. Give a file in it, such as a skill's reward.safetensors."
        )
    if not path.is_file():
        raise DamagedFileError(
            f"{path} does not exist. Files like it are in the folders that skillrl writes."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Cloned: in the file's own memory tensors are not aligned, so that sums over them are
            # rounded otherwise than before they were saved.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        description = json.loads(metadata[DESCRIPTION])
    except KeyError:
        raise DamagedFileError(
            f"{path} has no {DESCRIPTION!r} description: it was not written by skillrl."
        ) from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}.") from None
    if not isinstance(description, dict):
        raise DamagedFileError(f"{path} is damaged: its description is not a JSON object.")
    return tensors, description


def load_state(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Make ``tensors`` the state of ``module`` (which may lie on the meta device), strictly.

    Raises:
        DamagedFileError: if a tensor is missing, superfluous, of another shape or type, or not
            finite.
    """
    wanted = module.state_dict()
    for name, tensor in tensors.items():
        if name not in wanted:
            continue  # load_state_dict lists all that are superfluous
        if tensor.dtype != wanted[name].dtype:
            raise DamagedFileError(
                f"{path} is damaged: {name} has the type {tensor.dtype}, not {wanted[name].dtype}."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise DamagedFileError(f"{path} is damaged: {name} holds values that are not finite.")
    try:
        # Without memory of its own a module takes the tensors as they are; otherwise they are
        # copied, so that an optimiser still knows its parameters.
        empty = any(tensor.is_meta for tensor in wanted.values())
        module.load_state_dict(dict(tensors), strict=True, assign=empty)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DamagedFileError(f"{path} does not fit its own description: {reason}") from None


def moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return what Adam keeps of each parameter, such as "0.exp_avg", for ``load_moments``."""
    return {
        f"{number}.{name}": tensor
        for number, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an optimiser of the Adam family the moments that ``moments`` returned, or none.

    Raises:
        ValueError: if not every parameter has its moments, or their shapes are others.
    """
    found: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        found.setdefault(int(number), {})[key] = tensor
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if found and found.keys() != set(range(len(parameters))):
        raise ValueError("the optimiser's moments are those of other parameters")
    for index, state in found.items():
        shapes = {name: tensor.shape for name, tensor in state.items()}
        shape = parameters[index].shape
        if shapes != {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}:
            raise ValueError(f"the optimiser's moments have the shapes {shapes}")
        # In the parameter's own order of memory, which of convolutions is another than a file's:
        # fused Adam goes through all of them side by side.
        found[index] = {
            name: torch.empty_like(parameters[index]).copy_(tensor) if tensor.ndim else tensor
            for name, tensor in state.items()
        }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": found})
