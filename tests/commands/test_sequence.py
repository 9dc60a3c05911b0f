import json
from pathlib import Path

import pytest
from PIL import Image

from skillrl.commands.sequence import sequence
from skillrl.errors import InvalidValueError
from skillrl.files import read_tensors
from skillrl.recurrent import SequenceRecipe
from skillrl.recurrent.training import evaluate, make_network, make_task

RECIPE = SequenceRecipe("copy", length=3, width=8, depth=1, state_size=6, updates=4)


def test_it_leaves_a_result_a_plot_and_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, outcome = sequence(RECIPE, out=tmp_path / "run")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert SequenceRecipe(**result["recipe"]) == RECIPE
    assert result["test_loss"] == outcome.test_loss
    assert [point["update"] for point in result["curve"]] == [1, 2, 3, 4]
    with Image.open(out / "curve.png") as image:
        assert image.size == (960, 360)
    assert "update 4: loss" in capsys.readouterr().err
    logged = (out / "progress.csv").read_text(encoding="utf-8").splitlines()
    assert logged[0] == "update,loss,accuracy"
    assert [line.partition(",")[0] for line in logged[1:]] == ["1", "2", "3", "4"]
    # The saved network is the one that was tested.
    task = make_task(RECIPE)
    network = make_network(RECIPE, task)
    network.load_state_dict(read_tensors(out / "network.safetensors")[0])
    assert evaluate(network, task, RECIPE.batch_size)[0] == pytest.approx(outcome.test_loss)


def test_a_result_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InvalidValueError, match="holds a result already"):
        sequence(RECIPE, out=tmp_path)


def test_a_folder_that_cannot_be_written_to_is_found_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        sequence(RECIPE, out=tmp_path / "file" / "run")
    assert "update" not in capsys.readouterr().err


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    recipe = SequenceRecipe("copy", device="nonsense")
    with pytest.raises(InvalidValueError, match="There is no device 'nonsense'"):
        sequence(recipe, out=tmp_path / "run")
