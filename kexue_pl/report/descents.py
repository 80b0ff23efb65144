"""Descents over problems without data: where they went and how far from the Pareto front they are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kexue_pl.report.figures import COLORS, new_figure, save

__all__ = ["plot_descents", "read_descent", "sweep_descents"]

Descent = list[dict[str, float]]


def plot_descents(data: Any, descents: dict[str, Descent], folder: Path) -> list[Path]:
    """Draw the descents on one problem: the plane (where it is one), the losses, the distance.

    Args:
        data: a module of :class:`kexue_pl.data.objectives.Objectives`.
        descents: by name, rows with ``step``, ``x1``..., ``f1``... and ``front_distance``.
        folder: where the PNGs go.

    Returns:
        The files written.
    """
    kept = {name: rows for name, rows in descents.items() if rows}
    if not kept:
        return []
    written = [_distance(kept, folder / "front_distance.png"), _losses(data, kept, folder)]
    if len(data.start) == 2:
        written.append(_landscape(data, kept, folder / "landscape.png"))
    return written


def _style(number: int) -> dict[str, Any]:
    return {
        "color": COLORS[number % len(COLORS)],
        "ls": ("-", "--", ":", "-.")[number // len(COLORS) % 4],
        "lw": 1.3,
    }


def _distance(descents: dict[str, Descent], path: Path) -> Path:
    figure, axes = new_figure()
    for number, (name, rows) in enumerate(descents.items()):
        values = [max(row["front_distance"], 1e-12) for row in rows]
        axes.plot([row["step"] for row in rows], values, label=name, **_style(number))
    axes.set(xlabel="optimizer steps", ylabel="distance to the Pareto front", yscale="log")
    axes.legend(fontsize=7, frameon=False, ncols=1 + len(descents) // 12)
    return save(figure, path)


def _losses(data: Any, descents: dict[str, Descent], folder: Path) -> Path:
    """The first two losses of every descent, and those of the front."""
    figure, axes = new_figure(5.6, 5.0)
    front = torch.tensor([[float(f) for f in data.losses(x)] for x in data.front(201)])
    axes.plot(front[:, 0], front[:, 1], "k." if front.shape[1] > 2 else "k-", lw=2, label="front")
    for number, (name, rows) in enumerate(descents.items()):
        x, y = ([row[key] for row in rows] for key in ("f1", "f2"))
        axes.plot(x, y, label=name, **_style(number))
        axes.plot(x[-1:], y[-1:], "o", color=_style(number)["color"], ms=5)
    lowest = min(row[key] for rows in descents.values() for row in rows for key in ("f1", "f2"))
    if lowest > 0 and bool((front >= 0).all()):
        axes.set(xscale="log", yscale="log")
    axes.set(xlabel="f1", ylabel="f2")
    axes.legend(fontsize=7, frameon=False)
    return save(figure, folder / "front.png")


def _landscape(data: Any, descents: dict[str, Descent], path: Path, side: int = 121) -> Path:
    """Contours of the mean loss over the plane, the front, and where each descent went."""
    figure, axes = new_figure(6.2, 5.4)
    reach = 10.5
    line = torch.linspace(-reach, reach, side)
    x1, x2 = torch.meshgrid(line, line, indexing="xy")
    height: Tensor = torch.stack(data.losses(torch.stack([x1, x2]))).mean(0)
    drawn = axes.contourf(x1, x2, height, levels=40, cmap="Greys", alpha=0.7)
    figure.colorbar(drawn, ax=axes, label="mean loss")
    front = torch.stack(list(data.front(101)))
    axes.plot(front[:, 0], front[:, 1], color="black", lw=3, label="Pareto front")
    for number, (name, rows) in enumerate(descents.items()):
        x, y = ([row[key] for row in rows] for key in ("x1", "x2"))
        axes.plot(x, y, label=name, **_style(number))
        axes.plot(x[:1], y[:1], "ks", ms=4)
        axes.plot(x[-1:], y[-1:], "o", color=_style(number)["color"], ms=6, mec="black")
    axes.set(xlabel="x1", ylabel="x2", xlim=(-reach, reach), ylim=(-reach, reach))
    axes.legend(fontsize=7, loc="upper right")
    return save(figure, path)


def read_descent(path: Path) -> Descent:
    """Rows of a run's descent.csv; none where there is no such file."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def sweep_descents(folder: Path, runs: list[dict[str, Any]], labels: list[str]) -> list[Path]:
    """One set of plots for the runs of a sweep over a problem without data (the first problem's runs).

    Args:
        folder: the sweep.
        runs: as ``kexue_pl.report.sweeps.collect`` gives them.
        labels: what tells each run apart.
    """
    found = {label: read_descent(run["folder"] / "descent.csv") for label, run in zip(labels, runs)}
    first = next((run["settings"] for run, label in zip(runs, labels) if found[label]), None)
    data = None if first is None else _problem(first)
    return [] if data is None else plot_descents(data, found, folder)


def _problem(settings: dict[str, Any]) -> Any:
    """The data module of a run on a built-in problem; None for any other."""
    from kexue_pl.data.quadratics import Quadratics
    from kexue_pl.data.toy import Toy

    kind = str(settings.get("data._target_")).rpartition(".")[2]
    if kind == "Toy":
        return Toy(scale=settings["data.scale"])
    if kind == "Quadratics":
        names = ("tasks", "dimensions", "condition", "gap", "seed")
        return Quadratics(**{name: settings[f"data.{name}"] for name in names})
    return None
