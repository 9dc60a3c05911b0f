"""Small line charts as SVG, which a page shows without anything else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WIDTH, _HEIGHT = 280, 84
# Room for the labels: left, right, top, bottom.
_LEFT, _RIGHT, _TOP, _BOTTOM = 26, 6, 6, 16


def line_chart(
    x: Sequence[float],
    y: Sequence[float],
    *,
    top: float,
    x_label: str,
    title: str,
) -> str:
    """Draw one line above a zero line.

    Args:
        x: positions, increasing.
        y: values, as many; drawn within [0, top].
        top: value at the upper border.
        x_label: what ``x`` counts, after its last value below the chart.
        title: what a screen reader says.

    Returns:
        An ``<svg>`` element whose colours are the page's (classes ``line``, ``area``, ``axis``).

    >>> line_chart([0, 1], [0, 5], top=5, x_label="s", title="reward")[:46]
    '<svg viewBox="0 0 280 84" role="img" class="ch'
    """
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    xs, ys = np.asarray(x, float), np.clip(np.asarray(y, float), 0.0, top)
    last = xs[-1] if len(xs) else 1.0
    columns = _LEFT + (right - _LEFT) * xs / (last or 1.0)
    rows = bottom - (bottom - _TOP) * ys / top
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(columns, rows, strict=True))
    area = f"{columns[0]:.1f},{bottom} {points} {columns[-1]:.1f},{bottom}" if points else ""
    end = f"{last:,.0f}" if last >= 1_000 else f"{last:.3g}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" class="chart"><title>{title}</title>'
        f'<polygon class="area" points="{area}"/><polyline class="line" points="{points}"/>'
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{top:g}</text>'
        f'<text x="{_LEFT - 4}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{right}" y="{_HEIGHT - 3}" text-anchor="end">{end} {x_label}</text></svg>'
    )
