import json
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from skillrl.agents.spaces import (
    check_observations,
    check_spaces,
    space_from_json,
    space_to_json,
)
from skillrl.errors import InvalidValueError

VECTOR = spaces.Box(-np.inf, np.inf, (3,))


@pytest.mark.parametrize(
    "actions",
    [
        spaces.Box(-1.0, 1.0, (2,)),
        spaces.Box(np.array([-3.0, 0.0]), np.array([1.0, 5.0]), dtype=np.float64),
        spaces.Box(0.0, 1.0, (2, 3)),
        spaces.Discrete(4),
        spaces.Discrete(4, start=-1),
    ],
)
def test_spaces_that_can_be_learnt_in(actions: spaces.Space[Any]) -> None:
    check_spaces(VECTOR, actions)
    check_spaces(spaces.Box(0, 31, (2,), np.int64), actions)
    check_spaces(spaces.Box(0, 255, (84, 84, 3), np.uint8), actions)


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (spaces.Discrete(5), spaces.Discrete(2), r"a Box. Received Discrete\(5\).*Flatten"),
        (spaces.Dict(a=VECTOR), spaces.Discrete(2), "a Box. Received Dict.*FlattenObservation"),
        (VECTOR, spaces.MultiDiscrete([2, 2]), "a Box or Discrete. Received MultiDiscrete"),
        (VECTOR, spaces.MultiBinary(3), "a Box or Discrete. Received MultiBinary"),
        (VECTOR, spaces.Box(-np.inf, np.inf, (2,)), "bounded. Received Box.*RescaleAction"),
        (VECTOR, spaces.Box(0.0, np.inf, (2,)), "bounded"),
        (VECTOR, spaces.Box(0, 10, (2,), np.int64), "int64"),
        (spaces.Box(0, 255, (35, 84, 3), np.uint8), spaces.Discrete(2), "36x36.*35x84.*Resize"),
        (spaces.Box(0, 255, (3, 84, 35), np.uint8), spaces.Discrete(2), "Received 84x35"),
    ],
)
def test_other_spaces_are_named_with_the_remedy(
    observations: spaces.Space[Any], actions: spaces.Space[Any], message: str
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        check_spaces(observations, actions)


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        (spaces.Text(3), "should be a Box, Discrete, .* Received Text"),
        (spaces.Dict(), r"or a Dict of such. Received Dict\(\)"),
        (spaces.Box(-1, 1, ()), "should have a shape.*ReshapeObservation"),
        (spaces.Discrete(4, start=2), r"numbered from 0. Received Discrete\(4, start=2\)"),
        (spaces.Dict(a=VECTOR, b=spaces.MultiDiscrete([2, 3], start=[0, 1])), "numbered from 0"),
        (spaces.MultiDiscrete(np.array([[2, 3]])), "should be a vector.*FlattenObservation"),
    ],
)
def test_what_no_features_extractor_knows_is_named_with_the_remedy(
    observations: spaces.Space[Any], message: str
) -> None:
    check_observations(VECTOR)
    check_observations(spaces.Dict(a=spaces.Discrete(3), b=spaces.MultiBinary([2, 2])))
    with pytest.raises(InvalidValueError, match=message):
        check_observations(observations)


@pytest.mark.parametrize(
    "space",
    [
        VECTOR,
        spaces.Box(-1.0, 1.0, (2,), np.float64),
        spaces.Box(
            np.array([-0.1, -np.inf, 0.3], np.float32), np.array([0.7, 1 / 3, np.inf], np.float32)
        ),
        spaces.Box(np.array([-0.1, 0.3]), np.array([0.7, 1 / 3]), dtype=np.float64),
        spaces.Box(np.arange(6, dtype=np.float32).reshape(2, 3), 10.0, (2, 3)),
        spaces.Box(0, 255, (4, 84, 84), np.uint8),
        spaces.Box(0, 31, (2,), np.int64),
        spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64),
        spaces.Box(np.array([-(2**62) - 1, 0]), np.array([5, 2**62 + 1]), dtype=np.int64),
        spaces.Box(-1.0, 1.0, ()),
        spaces.Discrete(4),
        spaces.Discrete(4, start=-1),
    ],
    ids=str,
)
def test_a_space_survives_json(space: spaces.Space[Any]) -> None:
    # Without Python's own Infinity, which is no JSON.
    text = json.dumps(space_to_json(space), allow_nan=False)
    assert len(text) < 400
    copy = space_from_json(json.loads(text))
    assert copy == space
    assert copy.dtype == space.dtype


def test_other_spaces_have_no_description() -> None:
    with pytest.raises(InvalidValueError, match="Only Box and Discrete"):
        space_to_json(spaces.MultiBinary(3))


BOX = space_to_json(spaces.Box(np.array([0, 1], np.float32), np.array([2, 3], np.float32)))
HOSTILE: list[Any] = [
    *(None, True, -1, 0, 1.5, 10**9, 10**12, 10**18, 10**30, float("inf"), float("nan"), "", "O"),
    *("object", "S8", "float16", "complex64", "M8[s]", [], [0], [-1], [10**12], [10**30]),
    *([1.5], ["1"], [[1]], [[1, 2], [3]], [float("inf"), 1.0], {}, {"a": 1}, [1] * 100),
]


@pytest.mark.parametrize(
    "original", [BOX, space_to_json(VECTOR), space_to_json(spaces.Discrete(3))], ids=str
)
def test_a_description_of_a_stranger_does_no_harm(original: dict[str, Any]) -> None:
    for key in original:
        for value in HOSTILE:
            try:
                space = space_from_json({**original, key: value})
            except InvalidValueError:
                continue
            assert isinstance(space, (spaces.Box, spaces.Discrete))
            assert int(np.prod(space.shape or ())) <= 100
        with pytest.raises(InvalidValueError, match=key):
            space_from_json({name: value for name, value in original.items() if name != key})
