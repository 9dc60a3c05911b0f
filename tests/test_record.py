"""How benchmarks keep what long trainings came to."""

import json
from pathlib import Path

import pytest

from record import once


def test_an_outcome_is_found_once_for_each_setting(tmp_path: Path) -> None:
    assert once(tmp_path, "A pole, seed 0", {"seed": 0}, lambda: {"return": 3.5}) == {"return": 3.5}
    known = once(tmp_path, "A pole, seed 0", {"seed": 0}, lambda: pytest.fail("found again"))
    assert known == {"return": 3.5}
    other = once(tmp_path, "A pole, seed 0", {"seed": 1}, lambda: {"return": 4.5})
    assert other == {"return": 4.5}
    files = sorted(tmp_path.glob("a-pole--seed-0-*.json"))
    assert len(files) == 2
    kept = [json.loads(file.read_text()) for file in files]
    assert sorted(each["settings"]["seed"] for each in kept) == [0, 1]
    assert all(each["versions"]["python"] and each["machine"]["cores"] for each in kept)


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    def fail() -> dict[str, float]:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        once(tmp_path, "a pole", {}, fail)
    assert once(tmp_path, "a pole", {}, lambda: {"return": 1.0}) == {"return": 1.0}
