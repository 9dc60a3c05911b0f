"""Reads a skill's policy of any kind."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch

from skillrl.agents.base_skill_policy import BaseSkillPolicy
from skillrl.agents.policy import SkillPolicy
from skillrl.agents.recurrent_skill_policy import RecurrentSkillPolicy
from skillrl.agents.skill_sac_policies import RecurrentSkillSACPolicy, SkillSACPolicy
from skillrl.files import read_tensors

KINDS: dict[str, type[BaseSkillPolicy]] = {
    kind.format: kind
    for kind in (SkillPolicy, RecurrentSkillPolicy, SkillSACPolicy, RecurrentSkillSACPolicy)
}


def load_policy(path: str | PathLike[str], device: torch.device | str = "cpu") -> BaseSkillPolicy:
    """Return the policy saved in ``path``, of whichever kind it is. Runs no code of the file.

    Raises:
        DamagedFileError: if the file is missing, damaged, or no policy of a skill.
    """
    path = Path(path)
    tensors, description = read_tensors(path)
    # What is of no known kind is refused by any of them.
    kind = KINDS.get(str(description.get("format")), SkillPolicy)
    return kind.from_file(path, tensors, description).to(device)
