import ast
import re

import numpy as np
import pytest
import torch

from skillrl.errors import InvalidValueError
from skillrl.recurrent.tasks import ListOps
from skillrl.recurrent.tasks.listops import TOKENS, evaluate


def numbers(text: str) -> list[int]:
    return [TOKENS.index(token) for token in text.split()]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[MAX 2 9 ]", 9),
        ("[MIN 4 3 7 ]", 3),
        ("[SM 4 3 8 ]", 5),
        ("[MED 1 9 4 ]", 4),
        ("[MED 2 5 ]", 3),  # 3.5, rounded down
        ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9),  # the example of Nangia & Bowman
        ("[SM [SM 9 9 ] [MAX 1 [MED 3 3 5 ] ] 2 ]", 3),
    ],
)
def test_by_hand(text: str, value: int) -> None:
    assert evaluate(numbers(text)) == value


def by_python(tokens: list[int]) -> int:
    """Another evaluator: Python's own, of the expression in its syntax."""
    names = {"[MIN": "min(", "[MAX": "max(", "[MED": "med(", "[SM": "sm(", "]": ")"}
    text = " ".join(TOKENS[token] for token in tokens)
    text = re.sub(r"(\d|\]) (?=\d|\[)", r"\1, ", text)
    text = re.sub(r"(\d|\]) (?=\d|\[)", r"\1, ", text)
    for token, name in names.items():
        text = text.replace(token, name)
    functions = {
        "med": lambda *values: int(np.median(values)),
        "sm": lambda *values: sum(values) % 10,
        "min": min,
        "max": max,
    }
    code = compile(ast.parse(text, mode="eval"), "expression", "eval")
    return int(eval(code, {"__builtins__": {}}, functions))


def test_drawn_expressions_are_of_the_grammar_and_have_the_answers() -> None:
    task = ListOps(sequences=100, min_length=30, max_length=100, max_depth=4)
    answers = []
    for batch in task.batches("train", 20, seed=0):
        assert batch.starts is not None
        for index in range(20):
            begin = int(batch.starts[:, index].int().argmax())
            tokens = batch.values[begin:, index].tolist()
            assert 30 <= len(tokens) <= 100
            assert by_python(tokens) == batch.targets[index]
            answers.append(int(batch.targets[index]))
            depth = np.cumsum([TOKENS[t].startswith("[") - (TOKENS[t] == "]") for t in tokens])
            assert depth.max() <= 3
    assert len(answers) == 100
    assert {*answers} == {*range(10)}


def test_one_token_is_one_input() -> None:
    task = ListOps(sequences=10, min_length=4, max_length=50)
    batch = next(task.batches("test", 1, 0))
    inputs = task.encode(batch.values)
    assert inputs.shape == (*batch.values.shape, 15)
    assert torch.equal(inputs.argmax(-1), batch.values.long())


@pytest.mark.parametrize("text", ["[MAX 1 2", "1 2", "[MAX ]", "]", "[MIN 1 ] ]"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(f"no expression: {text}.")):
        evaluate(numbers(text))


def test_bad_sizes() -> None:
    with pytest.raises(InvalidValueError, match="min_length=100, max_length=50"):
        ListOps(sequences=10, min_length=100, max_length=50)
    with pytest.raises(InvalidValueError, match="lists 2 deep no expression has 500 tokens"):
        ListOps(sequences=10, max_depth=2)
    with pytest.raises(InvalidValueError, match="hardly 11,000 different expressions of 4 to 4"):
        ListOps(sequences=10_000, min_length=4, max_length=4)
