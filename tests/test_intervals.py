"""Means over seeds."""

from intervals import bootstrap, inter_quartile_mean


def test_the_mean_is_that_of_the_middle_half() -> None:
    assert inter_quartile_mean([0.0, 2.0, 4.0, 90.0]) == 3.0
    assert inter_quartile_mean([1.0, 2.0, 6.0]) == 3.0


def test_an_interval_holds_the_mean_of_equal_values() -> None:
    assert bootstrap([2.0] * 5) == [2.0, 2.0]
    low, high = bootstrap([0.0, 1.0, 2.0, 3.0, 4.0])
    assert low < 2.0 < high
