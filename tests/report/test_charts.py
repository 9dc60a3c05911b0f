import re
from xml.etree import ElementTree

import numpy as np
import pytest

from skillrl.report.charts import line_chart


def points(svg: str) -> np.ndarray:
    line = ElementTree.fromstring(svg).find("polyline")
    assert line is not None
    return np.array([p.split(",") for p in line.attrib["points"].split()], float)


def test_a_line_worked_by_hand() -> None:
    svg = line_chart([0, 5, 10], [0, 2, 4], top=4, x_label="s", title="reward")
    # From the lower left corner of the axes to the upper right one.
    corners = re.search(r'class="axis" d="M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)"', svg)
    assert corners is not None
    left, top, bottom, right = map(float, corners.groups())
    expected = [[left, bottom], [(left + right) / 2, (top + bottom) / 2], [right, top]]
    np.testing.assert_allclose(points(svg), expected, atol=0.1)
    assert "10 s" in "".join(ElementTree.fromstring(svg).itertext())


def test_values_beyond_the_top_stay_inside() -> None:
    high, low = points(line_chart([0, 1], [9, -9], top=5, x_label="s", title="x"))[:, 1]
    at_top, at_bottom = points(line_chart([0, 1], [5, 0], top=5, x_label="s", title="x"))[:, 1]
    assert (high, low) == (at_top, at_bottom)


@pytest.mark.parametrize(("x", "y"), [([], []), ([3], [1.0]), ([0], [0.0])])
def test_few_values_are_drawn_too(x: list[float], y: list[float]) -> None:
    assert len(points(line_chart(x, y, top=5, x_label="s", title="x"))) == len(x)


def test_large_numbers_are_readable() -> None:
    assert ">589,824 steps<" in line_chart([0, 589_824], [0, 1], top=5, x_label="steps", title="x")
