import csv
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from skillrl.discovery.logs import COLUMNS, run_logger

STEPS, REWARD = COLUMNS.index("time/total_timesteps"), COLUMNS.index("rollout/mean_reward")


def write(path: Path, steps: int, logged: list[int]) -> None:
    logger = run_logger(path, steps)
    for step in logged:
        logger.record("time/total_timesteps", step)
        logger.record("rollout/mean_reward", step / 1_000)
        logger.record("something/else", 1.0)
        logger.dump(step)
    logger.close()


def rows(path: Path) -> list[list[str]]:
    with (path / "progress.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_progress_is_a_table(tmp_path: Path) -> None:
    write(tmp_path, 0, [100, 200])
    header, *body = rows(tmp_path)
    assert header == list(COLUMNS)
    assert [(row[STEPS], row[REWARD]) for row in body] == [("100", "0.1"), ("200", "0.2")]
    # What is not known yet is empty.
    assert body[0][COLUMNS.index("train/entropy")] == ""


def test_a_resumed_run_goes_on_in_its_table(tmp_path: Path) -> None:
    write(tmp_path, 0, [100, 200, 300])
    # The last checkpoint was made after 200 steps: the rest is trained again.
    write(tmp_path, 200, [300, 400])
    header, *body = rows(tmp_path)
    assert header == list(COLUMNS)
    assert [row[STEPS] for row in body] == ["100", "200", "300", "400"]


def test_a_table_that_was_cut_is_mended(tmp_path: Path) -> None:
    write(tmp_path, 0, [100, 200])
    path = tmp_path / "progress.csv"
    path.write_text(path.read_text()[:-3] + "\n\nrubbish\n")
    write(tmp_path, 1_000, [300])
    header, *body = rows(tmp_path)
    assert header == list(COLUMNS)
    assert [row[STEPS] for row in body] == ["100", "200", "300"]
    path.write_text("")
    write(tmp_path, 1_000, [500])
    assert [row[STEPS] for row in rows(tmp_path)] == ["time/total_timesteps", "500"]


def test_tensorboard_shows_the_same(tmp_path: Path) -> None:
    write(tmp_path, 0, [100, 200])
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = events.Scalars("rollout/mean_reward")
    assert [event.step for event in scalars] == [100, 200]
    assert [round(event.value, 6) for event in scalars] == [0.1, 0.2]
