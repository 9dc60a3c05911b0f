import numpy as np
import pytest
import torch
from torch import nn

from skillrl.errors import InvalidValueError
from skillrl.permutation.plane import plane


def point(*values: float) -> nn.Linear:
    layer = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([values]))
    return layer


def test_a_grid_worked_by_hand() -> None:
    networks = [point(1.0, 1.0), point(1.0, 5.0), point(4.0, 2.0)]
    seen = []

    def score(network: nn.Module) -> float:
        seen.append(network.get_parameter("weight").detach().numpy()[0].copy())
        return float(seen[-1][0])

    found = plane(networks, score, points=3)
    # Along the second coordinate to the second network, across along the first.
    np.testing.assert_allclose(found.corners, [[0, 0], [4, 0], [1, 3]])
    np.testing.assert_allclose(found.x, [-0.8, 2.0, 4.8])
    np.testing.assert_allclose(found.y, [-0.8, 1.5, 3.8])
    np.testing.assert_allclose(seen[0], [1 - 0.8, 1 - 0.8])
    np.testing.assert_allclose(seen[-1], [1 + 3.8, 1 + 4.8])
    np.testing.assert_allclose(found.scores, [[0.2] * 3, [2.5] * 3, [4.8] * 3])


def test_three_networks_on_a_line_span_no_plane() -> None:
    with pytest.raises(InvalidValueError, match="on a line"):
        plane([point(0.0, 0.0), point(1.0, 1.0), point(2.0, 2.0)], lambda _: 0.0)
    with pytest.raises(InvalidValueError, match="three networks"):
        plane([point(0.0, 0.0), point(1.0, 1.0)], lambda _: 0.0)
