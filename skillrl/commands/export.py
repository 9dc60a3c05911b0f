"""``skillrl export``: a policy as ONNX."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.policies import BasePolicy

from skillrl.agents.export import TOLERANCE, export
from skillrl.agents.normalizer import Normalizer
from skillrl.agents.zip_files import read_normalizer, read_zip_policy
from skillrl.discovery.library import load_skill
from skillrl.errors import DamagedFileError, InvalidValueError


def export_policy(path: Path, *, out: Path) -> str:
    """Write a policy as ONNX, and compare it with torch.

    Args:
        path: a skill's folder, that of a seed of `skillrl train`, or an agent that
            Stable-Baselines3 saved.
        out: the file to write.

    Returns:
        What was written, in words.

    Raises:
        InvalidValueError: if ``path`` is none of these, or the packages for it are missing.
        DamagedFileError: if a file of it is damaged, or of a policy that is not known.
        SkillrlError: if onnxruntime computes something else than torch.
    """
    policy, normalizer = _load(path)
    found = export(policy, out, normalizer)
    lines = [
        f"Wrote {out}, the policy of {path} without noise.",
        *(f"  takes    {each}" for each in found.inputs),
        *(f"  returns  {each}" for each in found.outputs),
        f"Compared with torch in onnxruntime over {found.compared:,} actions: the largest "
        f"difference is {found.difference:.1e} (allowed is {TOLERANCE:.0e})"
        + (f", {found.unequal} actions differ." if found.unequal else "."),
    ]
    return "\n".join(lines)


def _load(path: Path) -> tuple[BasePolicy, Normalizer | None]:
    if (path / "skill.json").is_file():
        return load_skill(path).policy, None
    if path.is_dir():
        found = path / "agent.zip"
        if not found.is_file():
            hint = _hint(path)
            raise InvalidValueError(
                f"{path} is no skill's folder, which has a skill.json, and no seed's, which has an "
                f"agent.zip.{hint}"
            )
        path = found
    if not path.exists():
        raise DamagedFileError(f"{path} does not exist.")
    if path.suffix == ".safetensors":
        raise InvalidValueError(
            f"{path} is not an agent's .zip, but a part of a skill.{_hint(path)}"
        )
    return read_zip_policy(path), read_normalizer(path)


def _hint(path: Path) -> str:
    """What in the folder, or around the file, may have been meant."""
    if (path.parent / "skill.json").is_file():
        return f" Did you mean {path.parent}?"
    for pattern in ("seed-*/agent.zip", "skills/*/skill.json", "best.zip", "checkpoint.zip"):
        for found in sorted(path.glob(pattern)):
            meant = found if found.suffix == ".zip" and found.parent == path else found.parent
            return f" Did you mean {meant}?"
    return ""
