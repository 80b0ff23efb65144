"""What a sweep of a multi-task run trades: one task's score against another's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kexue_pl.report.figures import COLORS, new_figure, save

__all__ = ["pareto_front", "plot_pareto", "task_metrics"]

MOST_TASKS = 4
NAMED = 14
"""With more settings only the unbeaten ones are named."""


def pareto_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points no other point beats: at least as good everywhere and better somewhere.

    Greater is better; a point with a NaN is beaten.

    >>> pareto_front([[0.9, 0.1], [0.5, 0.5], [0.4, 0.5], [0.9, 0.1]])
    [True, True, False, True]
    """

    def beaten(point: Sequence[float]) -> bool:
        if any(map(math.isnan, point)):
            return True
        return any(
            all(b >= a for a, b in zip(point, other)) and list(other) != list(point)
            for other in points
        )

    return [not beaten(point) for point in points]


def task_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The metric that judges each task, and its sign: accuracies where all have one, else losses.

    >>> task_metrics([{"run": "a", "test/x/accuracy": (1, 0), "test/loss/x": (1, 0), "test/loss": (1, 0)}])
    {'test/x/accuracy': 1.0}
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    losses = [name for name in names if name.startswith("test/loss/")]
    tasks = [name.removeprefix("test/loss/") for name in losses]
    scores = [f"test/{task}/accuracy" for task in tasks]
    if all(score in names for score in scores):
        return dict.fromkeys(scores, 1.0)
    return dict.fromkeys(losses, -1.0)


def plot_pareto(path: Path, rows: list[dict[str, Any]]) -> Path | None:
    """Every pair of tasks against each other, one point a setting, the unbeaten ones joined and named.

    Args:
        path: the PNG to write.
        rows: as ``kexue_pl.report.sweeps.summarise`` gives them.

    Returns:
        The file; None where there are fewer than two tasks or settings.
    """
    metrics = task_metrics(rows)
    names = list(metrics)[:MOST_TASKS]
    found = [row for row in rows if all(name in row for name in names)]
    if len(names) < 2 or len(found) < 2:
        return None
    pairs = list(itertools.combinations(names, 2))
    figure, axes = new_figure(5.6 * len(pairs), 5.2, len(pairs))
    for axis, pair in zip([axes] if len(pairs) == 1 else axes, pairs):
        _draw(axis, found, pair, [metrics[name] for name in pair])
    return save(figure, path)


def _draw(axis: Any, rows: list[dict[str, Any]], pair: tuple[str, str], signs: list[float]) -> None:
    """One pair of tasks with standard deviations over seeds."""
    points = [[row[name][0] for name in pair] for row in rows]
    spreads = [[0.0 if math.isnan(row[n][1]) else row[n][1] for row in rows] for n in pair]
    x, y = zip(*points)
    axis.errorbar(
        x, y, yerr=spreads[1], xerr=spreads[0], fmt="o", ms=5, lw=0.6, color=COLORS[6], zorder=1
    )
    best = pareto_front([[s * v for s, v in zip(signs, point)] for point in points])
    front = sorted(point for point, is_best in zip(points, best) if is_best)
    axis.plot(*zip(*front), "o-", color=COLORS[1], lw=1.2, ms=6, label="unbeaten", zorder=2)
    for row, point, is_best in zip(rows, points, best):
        if is_best or len(rows) <= NAMED:
            label = str(row["run"]).rpartition("balancer=")[2]
            axis.annotate(label[:28], point, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axis.set(xlabel=pair[0], ylabel=pair[1])
    if signs[0] < 0 and min(map(min, points)) > 0:
        axis.set(xscale="log", yscale="log")
    axis.legend(fontsize=8, frameon=False, loc="lower left")
