import dataclasses
from pathlib import Path

import pytest

from skillrl.agents.returns import Task
from skillrl.commands.alignment_results import Comparison, report, verdict
from skillrl.permutation import Modes
from skillrl.permutation.connectivity import Matrix

CONNECTED = [[0.0, 0.05, 0.05], [0.05, 0.0, 0.05], [0.05, 0.05, 0.0]]
# The first and the last by way of the second.
CHAIN = [[0.0, 0.05, 0.8], [0.05, 0.0, 0.05], [0.8, 0.05, 0.0]]
# The last with nobody.
APART = [[0.0, 0.05, 0.8], [0.05, 0.0, 0.9], [0.8, 0.9, 0.0]]


def comparison(before: Matrix, clusters: list[int]) -> Comparison:
    nothing: Matrix = [[0.0] * 3] * 3
    modes = Modes(
        scores=[1.0, 2.0, 3.0],
        alphas=[0.0, 0.5, 1.0],
        paths={},
        before=before,
        after=CONNECTED if max(clusters) == 0 else before,
        threshold=0.1,
        clusters=clusters,
        linkage=[],
        functional_distance=nothing,
        parameter_distance=nothing,
        aligned_parameter_distance=nothing,
    )
    names = ["a", "b", "c"]
    return Comparison(
        names=names,
        paths=[Path(name) for name in names],
        task=Task("CartPole-v1"),
        coordinates="raw",
        errors=[0.01, 0.01, 0.01],
        random=0.0,
        modes=modes,
        action_kl={},
        units={"0.weight": 8, "2.weight": 4},
        idle=[{}, {"0.weight": [1, 5], "2.weight": [0]}, {}],
        plane=None,
        folder=Path("out"),
    )


@pytest.mark.parametrize(
    ("before", "when"),
    [
        (CONNECTED, "even before they are"),
        (CHAIN, "even before they are"),
        (APART, "once they are"),
    ],
)
def test_one_mode_may_be_one_already(before: Matrix, when: str) -> None:
    expected = f"One mode: barriers of at most 0.1 connect all policies {when} aligned."
    assert verdict(comparison(before, [0, 0, 0])) == expected


def test_idle_units_and_uncertain_barriers_are_told() -> None:
    found = comparison(APART, [0, 0, 1])
    text = report([found])
    assert "Of the 12 hidden units of b 3 never change" in text
    assert "by their weights: 2 of 0.weight, 1 of 2.weight." in text
    assert "uncertain" not in text
    # The first earns 1 more than a random policy.
    text = report([dataclasses.replace(found, errors=[0.06, 0.01, 0.01])])
    assert "the standard error of what a earns is 6% of what" in text


def test_several_modes_are_told() -> None:
    assert "2 modes" in verdict(comparison(APART, [0, 0, 1]))
    assert "(a, b); (c)" in verdict(comparison(APART, [0, 0, 1]))
