from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from skillrl.permutation import Modes
from skillrl.permutation.plane import Plane
from skillrl.report.barriers import _short, plot_barriers, plot_plane, plot_returns

LABELS = ["one", "two", "three"]


@pytest.fixture
def modes() -> Modes:
    before = [[0.0, 0.8, 0.9], [0.8, 0.0, 0.7], [0.9, 0.7, 0.0]]
    after = [[0.0, 0.5, 0.02], [0.5, 0.0, 0.6], [0.02, 0.6, 0.0]]
    path = {pair: [1.0, 0.5, 2.0] for pair in ("0-1", "0-2", "1-2")}
    return Modes(
        scores=[1.0, 2.0, 3.0],
        alphas=[0.0, 0.5, 1.0],
        paths={"before": path, "after": path},
        before=before,
        after=after,
        threshold=0.1,
        clusters=[0, 1, 0],
        linkage=[[0.0, 2.0, 0.02, 2.0], [1.0, 3.0, 0.5, 3.0]],
        functional_distance=before,
        parameter_distance=before,
        aligned_parameter_distance=after,
    )


def colours(path: Path) -> int:
    with Image.open(path) as image:
        assert min(image.size) > 200
        return len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))


def test_figures_are_drawn(modes: Modes, tmp_path: Path) -> None:
    plot_barriers(tmp_path / "barriers.png", modes.before, modes.after, 0.1, LABELS)
    plot_returns(tmp_path / "curves.png", modes, LABELS, random=0.0)
    corners = [[0.0, 0.0], [1.0, 0.0], [0.5, 1.0]]
    grid = Plane(corners, [0.0, 0.5, 1.0], [0.0, 1.0], [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
    plot_plane(tmp_path / "plane.png", grid, LABELS)
    for name in ("barriers", "curves", "plane"):
        assert colours(tmp_path / f"{name}.png") > 20


def test_long_names_are_shortened_where_they_stay_apart() -> None:
    assert _short(["seed-000", "runs/pendulum/seed-001"]) == ["seed-000", "…ndulum/seed-001"]
    assert _short(["one/of/a/long/name", "two/of/a/long/name"]) == ["0", "1"]


def test_the_matrix_is_in_the_order_of_the_tree(
    modes: Modes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[int, np.ndarray] = {}
    own = Axes.imshow

    def imshow(self: Axes, values: np.ndarray, **kwargs: object) -> object:
        drawn[len(drawn)] = values
        return own(self, values, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "imshow", imshow)
    plot_barriers(tmp_path / "barriers.png", modes.before, modes.after, 0.1, LABELS)
    # Who is connected stands side by side.
    assert drawn[1][0, 1] == 0.02 or drawn[1][1, 2] == 0.02
