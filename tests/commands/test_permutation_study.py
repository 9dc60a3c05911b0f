import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import write_images
from skillrl.cli.study import PermutationStudy
from skillrl.commands.permutation_study import permutation_study
from skillrl.errors import InvalidValueError
from skillrl.permutation.recipes import STUDY_RECIPES, StudyRecipe


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Two classes: bright above and bright below."""
    folder = tmp_path / "data"
    folder.mkdir()
    for start, count in (("train", 40), ("t10k", 20)):
        labels = np.arange(count) % 2
        images = np.random.default_rng(0).integers(0, 50, (count, 4, 4))
        images[labels == 0, :2] += 200
        images[labels == 1, 2:] += 200
        write_images(folder, start, images.astype(np.uint8), labels)
    return str(folder)


def test_it_leaves_a_result_and_curves(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = StudyRecipe(
        "dense", data, width=12, updates=40, batch_size=10, learning_rate=1e-2, pairs=2
    )
    out, outcome = permutation_study(recipe, out=tmp_path / "out")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert StudyRecipe(**result["recipe"]) == recipe
    assert result["alphas"] == pytest.approx(np.linspace(0, 1, 11))
    # Both classes are easily told apart.
    assert result["curves"]["aligned"]["accuracy"]["mean"] == [1.0] * 11
    assert result["curves"]["aligned"]["accuracy"]["error"] == [0.0] * 11
    assert {*result["curves"]} == {"plain", "plain, repaired", "aligned", "aligned, repaired"}
    assert {*result["initial"]} == {"plain", "aligned", "control"}
    assert result["controls"] == [*outcome.controls]
    assert [pair["seeds"] for pair in result["pairs"]] == [[0, 1], [2, 3]]
    assert "permutations" not in result["pairs"][0]
    with Image.open(out / "curves.png") as image:
        assert image.size == (1_440, 408)
    assert "pair 2 of 2: right 100.0% and 100.0%" in capsys.readouterr().err
    with pytest.raises(InvalidValueError, match="holds a result already"):
        permutation_study(recipe, out=out)


def test_no_data_and_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SKILLRL_DATA", raising=False)
    with pytest.raises(InvalidValueError, match="name it with --data, or set SKILLRL_DATA"):
        permutation_study(StudyRecipe("dense"), out=tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidValueError, match="file is a file: name another folder"):
        permutation_study(StudyRecipe("dense"), out=tmp_path / "file/a")
    with pytest.raises(InvalidValueError, match="There is no device 'nonsense'"):
        permutation_study(StudyRecipe("dense", device="nonsense"), out=tmp_path / "b")


def test_the_command_line(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--width", "4", "--updates", "1", "--pairs", "1", "--out", str(tmp_path / "out")]
    PermutationStudy.parse(["dense", "--data", data, *small]).execute()
    assert "Of the test images the networks get" in capsys.readouterr().out
    recipe = PermutationStudy.parse(["convolutional", "--depth", "3"]).recipe
    assert (recipe.width, recipe.depth) == (STUDY_RECIPES["convolutional"].width, 3)
    assert recipe.learning_rate == 1e-3
