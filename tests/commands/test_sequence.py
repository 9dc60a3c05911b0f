import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from skillrl.commands.sequence import sequence
from skillrl.errors import DamagedFileError, DivergedError, InvalidValueError
from skillrl.files import write_tensors
from skillrl.recurrent import SequenceRecipe, load_network
from skillrl.recurrent.training import Outcome, evaluate, make_task, train

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
    network = load_network(out / "network.safetensors")
    found = evaluate(network, make_task(RECIPE), RECIPE.batch_size)[0]
    assert found == pytest.approx(outcome.test_loss)
    assert result["parameters"] == sum(each.numel() for each in network.parameters())
    assert not (out / "checkpoint.safetensors").exists()


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


def test_a_training_that_was_stopped_goes_on_when_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(RECIPE, dropout=0.5)
    _, never_stopped = sequence(recipe, out=tmp_path / "whole")

    def interrupted(network, task, recipe, on_point, checkpoint) -> Outcome:  # type: ignore[no-untyped-def]
        def stop(point: object) -> None:
            on_point(point)
            if point.update == 2:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

        return train(network, task, recipe, stop, checkpoint)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("skillrl.commands.sequence.train", interrupted)
        sequence(recipe, out=tmp_path / "run")
    assert "--resume goes on" in capsys.readouterr().err
    with pytest.raises(InvalidValueError, match="go on with --resume"):
        sequence(recipe, out=tmp_path / "run")
    other = dataclasses.replace(recipe, learning_rate=0.5)
    with pytest.raises(InvalidValueError, match=r"has learning_rate=0\.003.* learning_rate=0\.5"):
        sequence(other, out=tmp_path / "run", resume=True)
    # As if it was stopped between the checkpoint and its line.
    (tmp_path / "run" / "progress.csv").write_text("update,loss,accuracy\n", encoding="utf-8")
    out, resumed = sequence(recipe, out=tmp_path / "run", resume=True)
    assert resumed.curve == never_stopped.curve
    assert resumed.test_loss == never_stopped.test_loss
    names = ("progress.csv", "network.safetensors")
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="holds no training that was stopped"):
        sequence(RECIPE, out=tmp_path / "run", resume=True)


def test_a_training_that_diverged_leaves_its_folder_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(network, task, recipe, on_point, checkpoint) -> Outcome:  # type: ignore[no-untyped-def]
        def diverge(point: object) -> None:
            raise DivergedError("The loss is nan.")

        return train(network, task, recipe, diverge, checkpoint)

    with monkeypatch.context() as patched, pytest.raises(DivergedError):
        patched.setattr("skillrl.commands.sequence.train", diverging)
        sequence(RECIPE, out=tmp_path)
    sequence(RECIPE, out=tmp_path)


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    description = {"format": "sequence checkpoint", "recipe": dataclasses.asdict(RECIPE)}
    write_tensors(tmp_path / "checkpoint.safetensors", {}, description)
    with pytest.raises(DamagedFileError, match=r"is damaged|does not fit"):
        sequence(RECIPE, out=tmp_path, resume=True)
