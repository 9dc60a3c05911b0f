"""A random generator's state as a row of numbers, to save it without pickles."""

import numpy as np
from numpy.typing import NDArray

NUM_WORDS = 6
"""Length of a row."""

_LOW = (1 << 64) - 1


def generator_row(generator: np.random.Generator) -> NDArray[np.uint64]:
    """State of a generator over PCG64, the one Gymnasium uses: ``(NUM_WORDS,)``.

    The halves of its 128-bit state and increment, high before low, whether it keeps 32 bits for
    the next draw, and these bits.
    """
    whole = generator.bit_generator.state
    state, increment = whole["state"]["state"], whole["state"]["inc"]
    return np.array(
        [
            state >> 64,
            state & _LOW,
            increment >> 64,
            increment & _LOW,
            whole["has_uint32"],
            whole["uinteger"],
        ],
        np.uint64,
    )


def generator_from_row(row: NDArray[np.uint64]) -> np.random.Generator:
    """The generator that draws what the one of :func:`generator_row` would draw next.

    Example:
        >>> original = np.random.default_rng(7)
        >>> copy = generator_from_row(generator_row(original))
        >>> bool(original.normal() == copy.normal())
        True
    """
    high, low, increment_high, increment_low, has_uint32, uinteger = (int(n) for n in row)
    bits = np.random.PCG64()
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": increment_high << 64 | increment_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(bits)
