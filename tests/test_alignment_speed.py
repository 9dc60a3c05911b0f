"""What the time of alignment is measured on, and the table of it."""

import pytest
import torch
from torch import nn

from alignment_speed import check_active, contenders, network
from tables import permutation


def test_all_units_of_deep_networks_fire() -> None:
    sizes = 64, *[256] * 8, 10
    inputs = torch.randn(2_000, 64, generator=torch.Generator().manual_seed(2))
    drawn = network(0, sizes, nn.ReLU)
    check_active(drawn, inputs)
    layers = [layer for layer in drawn if isinstance(layer, nn.Linear)]
    for layer, before in zip(layers, sizes, strict=False):
        assert layer.weight.std().item() == pytest.approx((2 / before) ** 0.5, rel=0.05)
        assert not layer.bias.any()
    with torch.no_grad():
        layers[2].bias[7] = -100.0
    with pytest.raises(AssertionError, match="never fires"):
        check_active(drawn, inputs)


def test_what_would_take_minutes_is_not_measured() -> None:
    by_both = {"align by both"}
    assert contenders(2_048, 1).keys() - contenders(2_049, 1).keys() == by_both
    figures = {"matching": 1.0, "align": 2.0, "align, not proven": 1.5}
    more = {**figures, "align by both": 40.0}
    sizes = {
        name: {"seconds": each, "time_ratio": each, "peak_mebibytes": each}
        for name, each in (("2,048 × 2", more), ("4,096 × 2", figures))
    }
    policies = {"count": 16, "activations": {"seconds": 3.0, "peak_mebibytes": 5.0}}
    table = permutation.alignment_speed({"sizes": sizes, "policies": policies})
    row = ["2,048 × 2", "1.00 s", "2.00 s", "40.00 s", "1.5×", "2.0×", "40.0×"]
    assert f"| {' | '.join([*row, '1 MiB', '2 MiB', '40 MiB'])} |" in table
    row = ["4,096 × 2", "1.00 s", "2.00 s", "", "1.5×", "2.0×", ""]
    assert f"| {' | '.join([*row, '1 MiB', '2 MiB', ''])} |" in table
