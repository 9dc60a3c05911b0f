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
from tables import discovery, memory, permutation

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
    def path(middle: float, end: float) -> dict[str, Any]:
        accuracy = [0.4, *[middle] * 9, end]
        return {"accuracy": accuracy, "loss": [1.0] * 11, "tuned_loss": [1.0] * 11}

    def pair(end: float, middle: float, by_both: float, initial: float) -> dict[str, Any]:
        names = ("plain", "plain, repaired", "aligned", "aligned, repaired")
        curves = {**dict.fromkeys(names, path(middle, end)), "aligned by both": path(by_both, end)}
        return {"curves": curves, "initial": {"plain": 0.1, "aligned": initial}}

    outcomes = [pair(0.5, 0.51, 0.52, 0.2), pair(0.3, 0.43, 0.46, 0.3)]
    found = permutation_supervised.summary(outcomes, [0.1, 0.1])
    assert found["ends"]["mean"] == pytest.approx(0.4)
    # The better ends are 0.5 and 0.4, the midpoints 0.01 and 0.03 above them.
    gain = found["paths"]["aligned"]["middle minus better end"]
    assert (gain["mean"], gain["error"]) == (pytest.approx(0.02), pytest.approx(0.01))
    table = permutation.permutation_supervised({"settings": {"a": found}})
    row = ["a", "45.0% ± 5.0%", *["47.0% ± 4.0%"] * 4, "2.0% ± 1.0%"]
    assert f"| {' | '.join(row)} |" in table
    # By both it is 0.01 and 0.03 above the published matching: less unsure than either mean.
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| a: aligned")]
    assert (rows[0][0], rows[0][1], rows[0][-1]) == ("| a: aligned", "47.0% ± 4.0%", " |")
    assert rows[-1][:2] == ["| a: aligned by both", "49.0% ± 3.0%"]
    assert rows[-1][-1] == "2.0% ± 1.0% |"
    assert "| a | 10.0% ± 0.0% | 25.0% ± 5.0% | 10.0% ± 0.0% | 15.0% ± 5.0% |" in table


def test_what_claims_are_made_of_has_more_pairs() -> None:
    pairs = {name: each.recipe.pairs for name, each in permutation_supervised.settings().items()}
    assert {name for name, count in pairs.items() if count == 10} == {
        *("CIFAR-10, 1 × 1,000", "MNIST, 1 × 1,000")
    }
    assert {*pairs.values()} == {5, 10}


def test_a_pair_is_found_again_when_there_are_more(tmp_path: Path) -> None:
    quick = permutation_supervised.quick_settings()["drawn, 1 × 20"]
    found = []
    for count in (2, 3):
        setting = permutation_supervised.with_pairs(quick, count)
        assert setting.recipe.pairs == count
        task = permutation_supervised.Task(setting, 0, tmp_path, tmp_path)
        found.append(permutation_supervised.run(task))
    assert found[0] == found[1]
    assert len([*tmp_path.iterdir()]) == 1


def test_tables_of_returns_have_a_row_for_each_task() -> None:
    def found(mean: float, low: float, high: float, gamma: float) -> dict[str, Any]:
        training = {"settings": {"gamma": gamma, "gae_lambda": 0.95}}
        return {"mean": mean, "interval": [low, high], "seeds": [0, 1, 2], "training": training}

    ours, chance = found(3.9, 3.8, 4, 0.999), found(1.94, 1.9, 2, 0.999)
    tasks = {
        "CartPole": {"skillrl": found(500, 499.6, 500, 0.99)},
        "T-maze": {"skillrl": ours, "truncated": chance},
    }
    rows = memory.memory_tasks({"tasks": tasks}).splitlines()
    assert rows[0] == "|  | seeds | discount | λ | skillrl | skillrl, truncated |"
    assert rows[2] == "| CartPole | 3 | 0.99 | 0.95 | 500 (500 to 500) |  |"
    assert rows[3] == "| T-maze | 3 | 0.999 | 0.95 | 3.90 (3.80 to 4.00) | 1.94 (1.90 to 2.00) |"
    rows = memory.rules_in_ppo({"tasks": {"T-maze": {"online": ours}}}).splitlines()
    assert rows[0] == "|  | seeds | T-maze (discount 0.999, λ 0.95) |"
    assert rows[2] == "| online | 3 | 3.90 (3.80 to 4.00) |"
    rows = memory.memory_sac({"tasks": {"Pendulum": {"SAC": ours}}}).splitlines()
    assert rows[0] == "|  | seeds | discount | SAC |"
    assert rows[2] == "| Pendulum | 3 | 0.999 | 3.90 (3.80 to 4.00) |"


def test_tables_of_agents_with_memory_say_what_they_are_means_of() -> None:
    shares = ("live", "share of target", "information: position")
    agent = {
        "seeds": [0, 1, 2, 3, 4],
        "recipe": {"agent": {"gamma": 0.99, "gae_lambda": 0.95}},
        "mean": dict.fromkeys(shares, 0.5),
        "interval": {key: [0.25, 1.0] for key in shares},
    }
    rows = discovery.masked({"agents": {"ppo": agent}}).splitlines()
    assert rows[0].startswith("| agent | seeds | discount | λ | live |")
    assert rows[2].startswith("| ppo | 5 | 0.99 | 0.95 | 50% (25% to 100%) |")
    timed = {
        "steps_per_second": {"skillrl": 6_000.0, "sb3_contrib": 1e3, "without_memory": 9e3},
        "raw": {"skillrl": [5_000.0, 6_000.0, 7_000.0], "sb3_contrib": [1_000.0] * 3},
        "vs_sb3_contrib": 6.0,
    }
    rows = memory.recurrent_throughput({"settings": {"CartPole": timed}}).splitlines()
    assert rows[2] == "| CartPole | 3 | 6,000 | 1,000 | 6.0× | 9,000 |"


def test_links_and_pictures_exist() -> None:
    for page in result_tables.PAGES:
        targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert targets
        assert [target for target in targets if not (page.parent / target).exists()] == []
