from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from kexue_pl.report.costs import plot_costs
from kexue_pl.report.sweeps import _by_numbers


def row(run: str, cost: float, value: float) -> dict[str, Any]:
    cells = {"test/us_per_pair": cost, "test/spearman": value, "test/accuracy": value}
    return {"run": run, "n": 1, **{name: (cell, math.nan) for name, cell in cells.items()}}


def test_a_plot_needs_two_costs(tmp_path: Path) -> None:
    rows = [row("bi", 5.0, 0.6), row("cross", 90.0, 0.7)]
    assert plot_costs(tmp_path / "cost.png", rows) == tmp_path / "cost.png"
    assert (tmp_path / "cost.png").stat().st_size > 5000
    assert plot_costs(tmp_path / "one.png", rows[:1]) is None
    other = [{"run": "a", "test/em": (1.0, 0.0)}, {"run": "b", "test/em": (1.0, 0.0)}]
    assert plot_costs(tmp_path / "one.png", other) is None and not (tmp_path / "one.png").exists()


def test_spearman_accuracy_and_cost_lead_the_table() -> None:
    names = [
        "test/alignment",
        "test/us_per_pair",
        "test/accuracy@8",
        "test/spearman",
        "test/accuracy",
    ]
    found = sorted(names, key=_by_numbers)
    assert found[:3] == ["test/spearman", "test/accuracy", "test/us_per_pair"]
    assert found[3:] == ["test/accuracy@8", "test/alignment"]
