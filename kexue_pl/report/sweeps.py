"""One table over the runs of a folder: mean and spread over seeds."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from kexue_pl.report.costs import plot_costs
from kexue_pl.report.descents import sweep_descents
from kexue_pl.report.figures import COLORS, new_figure, save
from kexue_pl.report.page import write_page
from kexue_pl.report.pareto import plot_pareto
from kexue_pl.run.files import read_json, write_text
from kexue_pl.run.launch import flatten

__all__ = ["collect", "labels", "report", "summarise"]

FIRST = ("test/spearman", "test/accuracy", "test/us_per_pair")
ASIDE = ("paths.", "seed", "data.seed", "logger.", "tags", "resume", "threads")


def collect(folder: Path) -> list[dict[str, Any]]:
    """The runs below a folder: their summaries, each with its settings and its path.

    A run directory without a sound summary.json counts as interrupted.
    """
    import yaml

    runs = []
    for config in sorted(folder.rglob("config_resolved.yaml")):
        found = read_json(config.parent / "summary.json") or {
            "status": "interrupted",
            "metrics": {},
        }
        if found["status"] == "running":
            found["status"] = "interrupted"
        settings = flatten(yaml.safe_load(config.read_text(encoding="utf-8")))
        runs.append({**found, "settings": settings, "folder": config.parent})
    return sorted(runs, key=lambda run: _order(run["folder"]))


def _order(path: Path) -> tuple[int, str]:
    number = path.name.partition("_")[0]
    return (int(number) if number.isdigit() else -1, path.name)


def _varied(runs: list[dict[str, Any]]) -> list[str]:
    """Settings that differ between the runs, seeds and paths apart."""
    keys = sorted(
        {
            key
            for run in runs
            for key, value in run["settings"].items()
            if run["folder"].name not in str(value).split("/")  # paths inside the run directory
        }
    )
    return [
        key
        for key in keys
        if not key.startswith(ASIDE) and len({repr(run["settings"].get(key)) for run in runs}) > 1
    ]


def _label(run: dict[str, Any], keys: list[str]) -> str:
    """What sets a run apart; a group's option is told by its target's name."""
    told: dict[str, str] = {}
    for key in keys:
        value = run["settings"].get(key)
        if key.endswith("_target_"):
            told[key.rpartition(".")[0]] = str(value).rpartition(".")[2]
    groups = set(told)
    told = {key: value for key, value in told.items() if key.rpartition(".")[0] not in groups}
    for key in keys:
        inside = any(key.startswith(f"{group}.") for group in groups)
        if not key.endswith("_target_") and not inside:
            told[key] = str(run["settings"].get(key))
    return ", ".join(f"{key}={value}" for key, value in told.items()) or str(
        run["settings"].get("task.name")
    )


def labels(runs: list[dict[str, Any]]) -> list[str]:
    """What sets each run apart from the others, seeds and paths aside."""
    keys = _varied(runs)
    return [_label(run, keys) for run in runs]


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each setting: number of runs and, by metric, mean and standard deviation over seeds."""
    by_label: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run, label in zip(runs, labels(runs)):
        by_label[label].append(run)
    rows = []
    for label, group in by_label.items():
        done = [run for run in group if run["status"] == "completed"]
        row: dict[str, Any] = {"run": label, "n": len(done), "failed": len(group) - len(done)}
        tested = {n for run in done for n in run["metrics"] if n.startswith("test/")}
        for name in sorted(tested, key=_by_numbers):
            values = [run["metrics"][name] for run in done if run["metrics"].get(name) is not None]
            spread = stdev(values) if len(values) > 1 else math.nan
            row[name] = (mean(values), spread) if values else (math.nan, math.nan)
        rows.append(row)
    return rows


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Sorts accuracy@128 before accuracy@1024; what pairs are judged by comes first."""
    parts = re.findall(r"\d+|\D+", name)
    place = FIRST.index(name) if name in FIRST else len(FIRST)
    return [(place, ""), *((int(p), "") if p.isdigit() else (-1, p) for p in parts)]


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        middle, spread = value
        return f"{middle:.4f}" if math.isnan(spread) else f"{middle:.4f} ± {spread:.4f}"
    return str(value)


def report(folder: Path, shown: int = 8) -> list[dict[str, Any]]:
    """Print the table of the runs below `folder`; write report.md, .csv, .png and .html there."""
    from rich.console import Console
    from rich.table import Table

    from kexue_pl.report.lengths import plot_sweep  # brings torch

    runs = collect(folder)
    if not runs:
        raise FileNotFoundError(f"{folder}: no run directory (config_resolved.yaml) below it")
    rows = summarise(runs)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns[: 3 + shown], title=str(folder))
    for row in rows:
        table.add_row(*[_cell(row.get(column, "")) for column in columns[: 3 + shown]])
    Console(width=max(120, 26 * min(len(columns), 3 + shown))).print(table)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(c, "")) for c in columns) + " |" for row in rows]
    write_text(folder / "report.md", "\n".join(lines) + "\n")
    _write_csv(folder / "report.csv", rows, columns)
    _plot(folder / "report.png", rows)
    told = labels(runs)
    plot_pareto(folder / "pareto.png", rows)
    sweep_descents(folder, runs, told)
    plot_costs(folder / "cost.png", rows)
    done = [(run, label) for run, label in zip(runs, told) if run["status"] == "completed"]
    plot_sweep([label for _, label in done], [run["metrics"] for run, _ in done], folder)
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    write_page(folder, cells, columns)
    return rows


def _write_csv(path: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    names = [n for c in columns for n in ((c,) if not c.startswith("test/") else (c, f"{c} std"))]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        for row in rows:
            flat: dict[str, Any] = {}
            for key, value in row.items():
                if isinstance(value, tuple):
                    flat[key], flat[f"{key} std"] = value
                else:
                    flat[key] = value
            writer.writerow(flat)


def _plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """Bars of the first metrics with their standard deviations."""
    metrics = [name for name in rows[0] if name.startswith("test/")][:4]
    if not metrics:
        return
    figure, axes = new_figure(3.4 * len(metrics) + 1, 1.2 + 0.32 * max(6, len(rows)), len(metrics))
    for axis, name in zip([axes] if len(metrics) == 1 else axes, metrics):
        cells = [row.get(name, (math.nan, math.nan)) for row in rows]
        spreads = [0.0 if math.isnan(s) else s for _, s in cells]
        places = range(len(rows))
        axis.barh(list(places), [m for m, _ in cells], xerr=spreads, color=COLORS[0], alpha=0.85)
        axis.set(title=name, yticks=list(places))
        axis.set_yticklabels([row["run"][:48] for row in rows] if name == metrics[0] else [])
        axis.invert_yaxis()
    save(figure, path)
