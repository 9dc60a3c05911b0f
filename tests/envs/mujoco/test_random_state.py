"""Generators continue exactly from their rows."""

import numpy as np

from skillrl.envs.mujoco.random_state import NUM_WORDS, generator_from_row, generator_row


def test_a_restored_generator_draws_the_same() -> None:
    original = np.random.default_rng(123)
    original.integers(10, size=3, dtype=np.uint32)  # an odd number: 32 bits are left over
    row = generator_row(original)
    assert row.shape == (NUM_WORDS,)
    assert row.dtype == np.uint64
    assert row[4] == 1
    restored = generator_from_row(row)
    for generator_method in ("random", "standard_normal"):
        drawn, again = (getattr(g, generator_method)(5) for g in (original, restored))
        assert np.array_equal(drawn, again)
    drawn, again = (g.integers(1000, size=5, dtype=np.uint32) for g in (original, restored))
    assert np.array_equal(drawn, again)


def test_a_row_holds_the_whole_state() -> None:
    generator = np.random.Generator(np.random.PCG64())
    state = {
        "bit_generator": "PCG64",
        "state": {"state": (1 << 127) + 5, "inc": (3 << 64) + 7},
        "has_uint32": 0,
        "uinteger": 0,
    }
    generator.bit_generator.state = state
    assert generator_row(generator).tolist() == [1 << 63, 5, 3, 7, 0, 0]
    assert generator_from_row(generator_row(generator)).bit_generator.state == state
