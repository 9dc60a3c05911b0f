"""``skillrl export``: a policy as ONNX."""

from __future__ import annotations

from pathlib import Path

from skillrl.agents.export import TOLERANCE, export
from skillrl.commands.policies import (
    hidden_components,
    is_told_the_past,
    load,
    read_normalizer_file,
)
from skillrl.errors import InvalidValueError

_TOLD = "  expects  the last action and reward in the observation, zeros where an episode begins"

_PLAIN = (
    "  expects  observations as the policy was trained on them: no normaliser is known\n"
    "           (--normalizer), and no component that it should not see"
)


def export_policy(path: Path, *, out: Path, normalizer: Path | None = None) -> str:
    """Write a policy as ONNX, and compare it with torch.

    Args:
        path: a skill's folder, that of a seed of `skillrl train`, or an agent that
            Stable-Baselines3 saved.
        out: the file to write.
        normalizer: file of the statistics of an agent that Stable-Baselines3 saved; None for those
            in its own file.

    Returns:
        What was written, in words.

    Raises:
        InvalidValueError: if ``path`` is none of these, has a normaliser already, or the packages
            for it are missing.
        DamagedFileError: if a file of it is damaged, or of a policy that is not known.
        SkillrlError: if onnxruntime computes something else than torch.
    """
    policy, statistics = load(path)
    if normalizer is not None:
        if statistics is not None or path.suffix != ".zip":
            raise InvalidValueError(
                f"{path} brings what belongs to its observations: leave out --normalizer."
            )
        statistics = read_normalizer_file(normalizer)
    hidden, told = hidden_components(path), is_told_the_past(path)
    found = export(policy, out, statistics, hidden)
    plain = path.suffix == ".zip" and statistics is None and not hidden
    lines = [
        f"Wrote {out}, the policy of {path} without noise.",
        *([f"  ignores  components {hidden}, velocities that it never saw"] if hidden else []),
        *(f"  takes    {each}" for each in found.inputs),
        *([_TOLD] if told else []),
        *([_PLAIN] if plain else []),
        *(f"  returns  {each}" for each in found.outputs),
        f"Compared with torch in onnxruntime over {found.compared:,} actions: the largest "
        f"difference is {found.difference:.1e} (allowed is {TOLERANCE:.0e})"
        + (f", {found.unequal} actions differ." if found.unequal else "."),
    ]
    return "\n".join(lines)
