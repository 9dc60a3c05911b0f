"""ListOps: nested operations on lists of digits, read from left to right."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from skillrl.errors import InvalidValueError
from skillrl.recurrent.stack import Readout
from skillrl.recurrent.tasks.task import Batch, Classification, Split, passes, together

OPERATORS: dict[str, Callable[[Sequence[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    # Of an even number of values the mean of the middle two, rounded down.
    "[MED": lambda values: int(np.median(values)),
    "[SM": lambda values: sum(values) % 10,
}
TOKENS = [*map(str, range(10)), *OPERATORS, "]"]
_END = TOKENS.index("]")
# Share of the arguments that are lists themselves.
_NESTED = 0.25


class ListOps(Classification):
    """Evaluate expressions such as ``[MAX 4 3 [MIN 2 3 ] 1 0 ]``: one of ten classes.

    Grammar and operators of Nangia & Bowman 2018 (arXiv 1804.06028); lengths of the long-range
    arena (Tay et al. 2021, arXiv 2011.04006) unless changed.

    Args:
        sequences: training sequences; there are a tenth as many to test on.
        min_length: tokens of the shortest expression.
        max_length: tokens of the longest one.
        max_depth: of nested lists, the digits in the innermost one included.
        max_arguments: of an operator.
        seed: of the expressions.

    Raises:
        InvalidValueError: if no expression can be as long.
    """

    name = "listops"
    readout: Readout = "mean"

    def __init__(
        self,
        sequences: int = 96_000,
        min_length: int = 500,
        max_length: int = 2_000,
        max_depth: int = 10,
        max_arguments: int = 10,
        seed: int = 0,
    ) -> None:
        if sequences < 10 or not 4 <= min_length <= max_length or max_depth < 2:
            raise InvalidValueError(
                "ListOps needs 10 sequences or more, of 4 tokens or more, 2 deep or more. Received "
                f"sequences={sequences}, min_length={min_length}, max_length={max_length}, "
                f"max_depth={max_depth}."
            )
        # A list has an operator, its arguments and an end.
        longest = 1
        for _ in range(1, max_depth):
            longest = 2 + max_arguments * longest
        if max_arguments < 2 or longest < min_length:
            raise InvalidValueError(
                f"With at most {max_arguments} arguments and lists {max_depth} deep no expression "
                f"has {min_length} tokens."
            )
        self.input_size, self.output_size = len(TOKENS), 10
        limits = (min_length, max_length, max_depth, max_arguments)
        # Of Python's own generator, which draws single numbers many times as fast as NumPy's.
        rng = random.Random(f"{seed} {sequences} {limits}")
        # None twice, as in the published data.
        distinct: dict[tuple[int, ...], None] = {}
        total, tries = sequences + sequences // 10, 0
        while len(distinct) < total:
            distinct[tuple(expression(rng, *limits))] = None
            tries += 1
            if tries > 10 * total:
                raise InvalidValueError(
                    f"There are hardly {total:,} different expressions of {min_length} to "
                    f"{max_length} tokens: ask for fewer sequences or longer ones."
                )
        self._expressions = list(distinct)
        self._answers = torch.tensor([evaluate(each) for each in self._expressions])
        self.sequences = sequences
        # Some answers are more frequent than others: the guess is the most frequent one.
        self.chance = float(self._answers[:sequences].bincount().max()) / sequences

    def batches(self, split: Split, batch_size: int, seed: int) -> Iterator[Batch]:
        """See ``Task``."""
        first = 0 if split == "train" else self.sequences
        count = self.sequences if split == "train" else len(self._expressions) - self.sequences
        for chosen in passes(count, batch_size, split, seed):
            each = [torch.tensor(self._expressions[first + i], dtype=torch.uint8) for i in chosen]
            values, starts = together(each)
            yield Batch(values, self._answers[first + chosen], starts=starts)

    def encode(self, values: Tensor) -> Tensor:
        """See ``Task``."""
        return one_hot(values.long(), len(TOKENS)).float()


def expression(
    rng: random.Random, min_length: int, max_length: int, max_depth: int, max_arguments: int
) -> list[int]:
    """Draw an expression, as numbers of tokens, from the grammar; those of other lengths anew."""
    while True:
        tokens: list[int] = []
        _list(tokens, rng, 1, max_depth, max_arguments, max_length)
        if min_length <= len(tokens) <= max_length:
            return tokens


def _list(
    tokens: list[int],
    rng: random.Random,
    depth: int,
    max_depth: int,
    max_arguments: int,
    enough: int,
) -> None:
    """Append a list; beyond ``enough`` tokens, where it is thrown away, without more."""
    tokens.append(10 + rng.randrange(len(OPERATORS)))
    for _ in range(rng.randint(2, max_arguments)):
        if len(tokens) > enough:
            return
        if depth + 1 < max_depth and rng.random() < _NESTED:
            _list(tokens, rng, depth + 1, max_depth, max_arguments, enough)
        else:
            tokens.append(rng.randrange(10))
    tokens.append(_END)


def evaluate(tokens: Sequence[int]) -> int:
    """Return the value of an expression, given as numbers of tokens.

    Raises:
        InvalidValueError: if it is none.

    >>> evaluate([TOKENS.index(token) for token in "[MAX 4 3 [MIN 2 3 ] 1 0 ]".split()])
    4
    """
    operators: list[str] = []
    values: list[list[int]] = [[]]
    for token in tokens:
        if TOKENS[token] in OPERATORS:
            operators.append(TOKENS[token])
            values.append([])
        elif token != _END:
            values[-1].append(int(token))
        elif operators and values[-1]:
            arguments = values.pop()
            values[-1].append(int(OPERATORS[operators.pop()](arguments)))
        else:
            raise _no_expression(tokens)
    if operators or len(values[0]) != 1:
        raise _no_expression(tokens)
    return values[0][0]


def _no_expression(tokens: Sequence[int]) -> InvalidValueError:
    return InvalidValueError(
        f"This is no expression: {' '.join(TOKENS[token] for token in tokens)}."
    )
