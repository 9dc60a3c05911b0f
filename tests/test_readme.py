"""The README does what it says: its snippets run, its figures are those measured."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import permutation_supervised
import result_tables
from records import new_record
from skillrl.discovery.library import SkillLibrary
from skillrl.discovery.recipes import recipe_for
from skillrl.discovery.training import make_agent, make_envs
from skillrl.envs import reward_for

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_snippets_run(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_skills(Path("runs/demo"), 4)
    # As written, but for the length of the training.
    exec(re.sub(r"\.learn\([\d_]+\)", ".learn(1)", snippet), {})


def make_skills(run: Path, count: int) -> None:
    """Write a run of untrained skills."""
    recipe = recipe_for("HalfCheetah-v5")
    library = SkillLibrary.create(run, recipe, seed=0)
    env = make_envs(recipe, 16)
    for index in range(count):
        record = new_record(index, env=recipe.env)
        reward = reward_for(env.single_observation_space)
        library.add(make_agent(recipe, env).policy, reward, record)


def test_wrapping_and_training_takes_five_lines() -> None:
    snippet = next(each for each in SNIPPETS if "NeuralRewardWrapper" in each)
    assert len(snippet.split("\n\n")) == 2
    assert len([line for line in snippet.splitlines() if line]) == 5


@pytest.mark.parametrize("page", result_tables.PAGES)
def test_tables_show_the_recorded_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert result_tables.fill(text, result_tables.RESULTS) == text, "run `make tables`"


def test_every_table_is_shown() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"<!-- table: (\w+) -->", text)) == sorted(result_tables.TABLES)


def test_a_table_is_made_from_its_results(tmp_path: Path) -> None:
    text = "a\n<!-- table: discovery_throughput -->\nold\n<!-- end -->\nb"
    assert "Not measured yet" in result_tables.fill(text, tmp_path)
    results = {
        "vs_sb3": 1.5,
        "steps_per_second": {"skillrl": 15_000.4, "stable_baselines3": 1e4},
        "shares": {"physics": 0.41},
    }
    (tmp_path / "discovery_throughput.json").write_text(json.dumps(results))
    filled = result_tables.fill(text, tmp_path)
    assert "| 15,000 | 10,000 | 1.50× | 41% |" in filled
    assert "old" not in filled
    assert result_tables.fill(filled, tmp_path) == filled


def test_pairs_of_seeds_are_summed_up() -> None:
    def pair(end: float, middle: float, initial: float) -> dict[str, Any]:
        accuracy = [0.4, *[middle] * 9, end]
        path = {"accuracy": accuracy, "loss": [1.0] * 11, "tuned_loss": [1.0] * 11}
        names = ("plain", "plain, repaired", "aligned", "aligned, repaired")
        initials = {"plain": 0.1, "aligned": initial}
        return {"curves": dict.fromkeys(names, path), "initial": initials}

    outcomes = [pair(0.5, 0.51, 0.2), pair(0.3, 0.43, 0.3)]
    found = permutation_supervised.summary(outcomes, [0.1, 0.1])
    assert found["ends"]["mean"] == pytest.approx(0.4)
    # The better ends are 0.5 and 0.4, the midpoints 0.01 and 0.03 above them.
    gain = found["paths"]["aligned"]["middle minus better end"]
    assert (gain["mean"], gain["error"]) == (pytest.approx(0.02), pytest.approx(0.01))
    table = result_tables.permutation_supervised({"settings": {"a": found}})
    row = ["a", "45.0% ± 5.0%", *["47.0% ± 4.0%"] * 4, "2.0% ± 1.0%"]
    assert f"| {' | '.join(row)} |" in table
    assert "| a | 10.0% ± 0.0% | 25.0% ± 5.0% | 10.0% ± 0.0% | 15.0% ± 5.0% |" in table


def test_tables_of_returns_have_a_row_for_each_task() -> None:
    ours, chance = {"mean": 3.9, "interval": [3.8, 4]}, {"mean": 1.94, "interval": [1.9, 2.0]}
    tasks = {
        "CartPole": {"skillrl": {"mean": 500, "interval": [499.6, 500]}},
        "T-maze": {"skillrl": ours, "truncated": chance},
    }
    rows = result_tables.memory_tasks({"tasks": tasks}).splitlines()
    assert rows[0] == "|  | skillrl | skillrl, truncated |"
    assert rows[2] == "| CartPole | 500 (500 to 500) |  |"
    assert rows[3] == "| T-maze | 3.90 (3.80 to 4.00) | 1.94 (1.90 to 2.00) |"
    rows = result_tables.rules_in_ppo({"tasks": {"T-maze": {"online": ours}}}).splitlines()
    assert rows[0] == "|  | T-maze |" and rows[2] == "| online | 3.90 (3.80 to 4.00) |"


def test_links_and_pictures_exist() -> None:
    for page in result_tables.PAGES:
        targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert targets
        assert [target for target in targets if not (page.parent / target).exists()] == []
