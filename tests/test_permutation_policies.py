"""Figures of pairs of policies, and intervals where pairs share seeds."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from barriers import SIDES, barrier_figures, interquartile_mean, scalable, summary, weighted_mean
from permutation_policies import PROBLEMS, barrier_matrix, draw, figures
from permutation_skills import skill_figures
from policies import network
from tables import permutation


def test_the_middle_half_of_weighted_values() -> None:
    values = np.random.default_rng(0).normal(size=28)
    weights = np.stack([np.ones(28), np.arange(28), np.zeros(28)])
    weights[2, :3] = 1, 2, 1
    found = interquartile_mean(values, weights)
    assert found[0] == pytest.approx(stats.trim_mean(values, 0.25))
    # A weight is how often a value is there: 378 values, of which 94.5 are left out on each side.
    repeated = np.repeat(values, 2 * np.arange(28))
    assert found[1] == pytest.approx(stats.trim_mean(repeated, 0.25))
    # The lowest and the highest quarter are one value each.
    middle = {0: values[0], 1: values[1], 2: values[2]}
    order = sorted(middle, key=lambda number: middle[number])
    if order[1] == 1:
        assert found[2] == pytest.approx(values[1])
    else:
        assert found[2] == pytest.approx((values[1] + middle[order[1]]) / 2)


def test_intervals_are_over_what_is_drawn() -> None:
    generator = np.random.default_rng(0)
    pairs = [*combinations(range(8), 2)]
    of_seeds = generator.normal(size=8)
    values = [float(of_seeds[i] + of_seeds[j]) for i, j in pairs]
    low, high = summary(values, pairs)["interval"]
    alone_low, alone_high = summary(values, [[number] for number in range(28)])["interval"]
    # Eight seeds say less than 28 pairs of seeds of their own would.
    assert high - low > 1.5 * (alone_high - alone_low)
    assert low < summary(values, pairs)["mean"] < high
    assert summary([0.25] * 28, pairs) == {"mean": 0.25, "interval": [0.25, 0.25]}
    assert summary([1.0, 3.0], [[0, 1], [1, 2]]) == {"mean": 2.0, "interval": None}


# Of networks of tanh units.
UNSCALED = [side for side in SIDES if side != "scales"]


def pair(
    i: int,
    j: int,
    lowest: dict[str, float],
    returns: dict[int, float],
    sides: Sequence[str] = UNSCALED,
) -> dict[str, Any]:
    paths = {side: [returns[i], 90.0, lowest.get(side, 90.0), 90.0, returns[j]] for side in sides}
    averaged = dict.fromkeys([*sides, "drawn"], 10.0)
    untrained = {"ends": [10.0, 30.0], "averaged": {**averaged, "signs and phases": 30.0}}
    return {"seeds": [i, j], "random": 10.0, "paths": paths, "untrained": untrained}


def test_figures_of_policies_by_hand() -> None:
    # The last seed earns less than random actions do.
    returns = {0: 90.0, 1: 90.0, 2: 90.0, 3: 90.0, 4: 5.0}
    pairs = [
        pair(i, j, {"plain": 10.0, "permutations": 50.0}, returns)
        for i, j in combinations(range(5), 2)
    ]
    found = figures(PROBLEMS["PPO, CartPole"], pairs)
    assert (found["seeds"], found["left out"]) == ([0, 1, 2, 3], [4])
    means = {side: each["mean"] for side, each in found["barriers"].items()}
    # The path is 80 or 40 below its ends, which are 80 better than random actions.
    assert means == {"plain": 1, "permutations": 0.5, "signs and phases": 0, "by both": 0}
    assert found["connected"]["permutations"] == 0 and found["connected"]["by both"] == 1
    assert found["permutations minus signs and phases"]["interval"] == [0.5, 0.5]
    assert found["untrained"]["ends"]["mean"] == pytest.approx(10 / 80)
    assert found["untrained, signs and phases minus drawn"]["mean"] == pytest.approx(20 / 80)
    nothing = figures(PROBLEMS["PPO, CartPole"], pairs[3:4])
    assert (nothing["seeds"], "barriers" in nothing) == ([0], False)
    table = permutation.permutation_policies({"tasks": {"a": found, "b": nothing}})
    row = ["a", "90 (90 to 90)", "1.00 (1.00 to 1.00)", "0.50 (0.50 to 0.50)"]
    assert f"| {' | '.join(row)} | 0.00" in table
    assert "| b | no better than chance |" in table
    # Where no unit can be scaled, nothing is said of it.
    assert "signs and phases minus scales" not in found
    shares = ["a", *["0% (0% to 0%)"] * 2, "100% (100% to 100%)", "", "100% (100% to 100%)"]
    assert f"| {' | '.join(shares)} |" in table
    scaled = [
        pair(i, j, {"signs and phases": 50.0}, returns, [*SIDES])
        for i, j in combinations(range(4), 2)
    ]
    found = figures(PROBLEMS["SAC, Pendulum"], scaled)
    assert found["barriers"]["scales"]["mean"] == 0
    assert found["signs and phases minus scales"]["mean"] == 0.5


def test_robots_are_described_beside_the_closest_other(tmp_path: Path) -> None:
    returns = dict.fromkeys(range(4), 90.0)
    # 0 and 2 are connected, and so are 1 and 3.
    pairs = [
        pair(i, j, {"plain": 10.0, "by both": 90.0 if (j - i) == 2 else 50.0}, returns)
        for i, j in combinations(range(4), 2)
    ]
    does = [
        {"name": f"{way} {seed}", "upside_down": seed / 4, "forward_velocity": 1.0}
        for seed, way in enumerate(["runs", "hops"] * 2)
    ]
    found = figures(PROBLEMS["PPO, HalfCheetah"], pairs, does)
    closest = [(each["seed"], each["closest"], each["barrier"]) for each in found["behaviours"]]
    assert closest == [(0, 2, 0.0), (1, 3, 0.0), (2, 0, 0.0), (3, 1, 0.0)]
    assert barrier_matrix(pairs, "by both")[1].tolist() == [0.5, 0, 0.5, 0]
    table = permutation.permutation_policies({"tasks": {"cheetah": found}})
    assert "| cheetah, seed 1 | 90 | hops 1 | seed 3 | 0.00 |" in table
    # Without robots there is no such table.
    alone = figures(PROBLEMS["PPO, CartPole"], pairs)
    none = permutation.permutation_policies({"tasks": {"a": alone}})
    assert "what it does" not in none
    draw(found, tmp_path / "barriers.png")
    assert (tmp_path / "barriers.png").read_bytes().startswith(b"\x89PNG")


def test_units_behind_relu_can_be_scaled() -> None:
    inputs = torch.randn(20, 3)
    assert scalable(network("sac", 0), inputs)
    assert not scalable(network("ppo", 0), inputs)


def test_the_share_of_connected_pairs_has_an_interval() -> None:
    pairs = [*combinations(range(8), 2)]
    # Seeds 0 to 3 are connected with one another, and so are the others: 12 of 28 pairs.
    heights = [0.1 if (i < 4) == (j < 4) else 0.5 for i, j in pairs]
    found = barrier_figures({"plain": heights, "signs and phases": heights}, pairs)
    assert found["connected"]["plain"] == pytest.approx(12 / 28)
    low, high = found["connected interval"]["plain"]
    assert 0 < low < 12 / 28 < high < 1
    # It is a share, of which no quarter is left out.
    weights = np.array([[1.0] * 12 + [3.0] * 4])
    assert weighted_mean(np.array([1.0] * 12 + [0.0] * 4), weights).tolist() == [0.5]
    few = barrier_figures({"plain": [0.0, 0.5]}, [[0, 1], [1, 2]])
    assert few["connected"] == {"plain": 0.5} and few["connected interval"] == {"plain": None}
    kinds = {
        "lineage": {"left out": 0, "pairs": pairs, **found},
        # As it was recorded before there were intervals.
        "across": {"left out": 0, "pairs": pairs, **found, "connected interval": {}},
    }
    lineage, across = permutation.permutation_skills({"kinds": kinds}).splitlines()[2:]
    assert lineage.endswith(f"| {' | '.join([f'43% ({low:.0%} to {high:.0%})'] * 2)} |")
    assert across.endswith("| 43% | 43% |")


def test_figures_of_skills_by_hand() -> None:
    returns = {0: 90.0, 1: 90.0, 2: 5.0}
    good, chance = (pair(0, j, {"plain": 10.0}, returns) for j in (1, 2))
    refused = {"refused": "a skill that sees one thing"}
    kinds = {
        "lineage": skill_figures([[0], [0], [1]], [good, chance, refused]),
        "across": skill_figures([[0, 1]], [refused]),
    }
    assert (kinds["lineage"]["left out"], kinds["across"]["left out"]) == (2, 1)
    table = permutation.permutation_skills({"kinds": kinds})
    assert "| a skill and its parent | 1 | 1.00 | 0.00 | 0% | 100% |" in table
    assert "of two runs" not in table
