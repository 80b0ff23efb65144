"""Quality against cost: what a pair costs to score, and what the scores are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kexue_pl.report.figures import COLORS, new_figure, save

__all__ = ["plot_costs"]

_COST = "test/us_per_pair"


def plot_costs(path: Path, rows: list[dict[str, Any]]) -> Path | None:
    """Spearman and accuracy of each row over its microseconds a pair, with their spreads.

    Args:
        path: of the PNG file.
        rows: as `kexue_pl.report.sweeps.summarise` makes them.

    Returns:
        `path`; None, and no file, unless two rows or more tell their cost.
    """
    rows = [row for row in rows if isinstance(row.get(_COST), tuple) and row[_COST][0] > 0]
    names = [n for n in ("test/spearman", "test/accuracy") if rows and all(n in r for r in rows)]
    if len(rows) < 2 or not names:
        return None
    figure, axes = new_figure(4.6 * len(names) + 0.8, 4.2, len(names))
    for axis, name in zip([axes] if len(names) == 1 else axes, names):
        for number, row in enumerate(rows):
            (cost, _), (value, spread) = row[_COST], row[name]
            error = None if spread != spread else spread
            color = COLORS[number % len(COLORS)]
            axis.errorbar(cost, value, yerr=error, fmt="o", capsize=3, color=color)
            axis.annotate(
                row["run"][:32], (cost, value), (6, 5), textcoords="offset points", fontsize=8
            )
        axis.set(xscale="log", xlabel="µs a pair", ylabel=name, title="quality against cost")
        axis.margins(0.25)
    return save(figure, path)
