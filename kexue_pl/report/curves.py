"""Training curves of a run, from its metrics.csv."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from kexue_pl.report.figures import COLORS, new_figure, save

__all__ = ["plot_curves", "read_curves"]

Curve = list[tuple[int, float]]


def read_curves(folder: Path) -> dict[str, Curve]:
    """Each metric of a run as (step, value) in order."""
    curves: dict[str, Curve] = defaultdict(list)
    path = folder / "metrics.csv"
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in ("step", "epoch") and value and row["step"]:
                    curves[name].append((int(row["step"]), float(value)))
    return dict(curves)


def plot_curves(folder: Path) -> list[Path]:
    """Draw losses, and validation metrics, against optimizer steps; the files written."""
    curves = read_curves(folder)
    panels = {
        "loss": [name for name in curves if "loss" in name and not name.startswith("test/")],
        "validation": [name for name in curves if name.startswith("val/") and "loss" not in name],
    }
    written = []
    for title, names in panels.items():
        if not names:
            continue
        figure, axes = new_figure()
        for number, name in enumerate(sorted(names)[:12]):
            steps, values = zip(*curves[name])
            axes.plot(steps, values, label=name, color=COLORS[number % len(COLORS)], lw=1.4)
        axes.set(xlabel="optimizer steps", ylabel=title)
        axes.legend(fontsize=8, frameon=False)
        written.append(save(figure, folder / "plots" / f"curves_{title}.png"))
    return written
