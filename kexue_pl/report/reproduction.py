"""The page of an article: its claims, what was run, the figures over seeds, verdicts."""

from __future__ import annotations

import csv
import math
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from kexue_pl.report.figures import COLORS, new_figure, save
from kexue_pl.report.sweeps import collect, labels
from kexue_pl.report.verdicts import Difference, judge, paired_difference, summary_of
from kexue_pl.run.files import write_text
from kexue_pl.run.record import versions

__all__ = ["Reproduction", "Row", "rows_of_csv", "rows_of_sweep", "write_index"]

VERDICT = "**Verdict: "


@dataclass(frozen=True)
class Row:
    """The figures of one run."""

    label: str
    seed: int
    metrics: dict[str, float]


Rows = list[Row]


def rows_of_sweep(folder: Path, name: str = "") -> Rows:
    """A row for each run below a folder, labelled by what sets it apart, after `name` if given."""
    runs = collect(folder)
    told = labels(runs)
    if name and len(set(told)) == 1:
        told = [name] * len(runs)
    elif name:
        told = [f"{name}: {label}" for label in told]
    return [Row(label, run["settings"]["seed"], run["metrics"]) for run, label in zip(runs, told)]


def rows_of_csv(path: Path, *, label: str, seed: str | None = None) -> Rows:
    """A row for each line of a script's table.

    Args:
        path: CSV with a head.
        label: column that names the setting; several, joined by commas, are told together.
        seed: column of the seed; None: one line a setting.
    """
    rows = []
    names = label.split(",")
    with open(path, newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            metrics = {}
            for key, value in line.items():
                try:
                    metrics[key] = float(value)
                except ValueError:
                    continue
            rows.append(
                Row(", ".join(line[n] for n in names), int(line[seed]) if seed else 0, metrics)
            )
    return rows


@dataclass
class Reproduction:
    """What was run for an article, and the page made of it."""

    number: str
    recipe: dict[str, Any]
    scale: str
    commands: list[str]
    rows: Rows
    home: Path
    chosen: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "tune" in self.recipe:
            self.rows = self._tuned(self.recipe["tune"])

    def _tuned(self, tune: dict[str, str]) -> Rows:
        """Of each setting the rows of the value that validates best, mean over seeds."""
        key = tune["key"]
        groups: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(list))
        for row in self.rows:
            name, _, told = row.label.rpartition(": ")
            parts = told.split(", ")
            value = next((p.partition("=")[2] for p in parts if p.startswith(f"{key}=")), "")
            rest = ", ".join(p for p in parts if not p.startswith(f"{key}="))
            label = ": ".join(part for part in (name, rest) if part)
            groups[label][value].append(Row(label, row.seed, row.metrics))
        kept: Rows = []
        for label, values in groups.items():
            best = max(values, key=lambda v: mean(r.metrics[tune["by"]] for r in values[v]))
            self.chosen[label] = best
            kept += values[best]
        return kept

    def series(self, label: str, metric: str) -> dict[int, float]:
        """Value by seed.

        Raises:
            KeyError: no run of that label has that metric; the labels are named.
        """
        found = {
            r.seed: r.metrics[metric] for r in self.rows if r.label == label and metric in r.metrics
        }
        if not found:
            known = sorted({r.label for r in self.rows})
            raise KeyError(f"article {self.number}: no {metric!r} of {label!r}; runs: {known}")
        return found

    def findings(self) -> list[tuple[str, Difference, str]]:
        """Claim, difference, verdict."""
        out = []
        for asked in self.recipe["findings"]:
            left = self.series(asked["left"]["run"], asked["left"]["metric"])
            right: dict[int, float] | float = 0.0
            if "right" in asked:
                right = self.series(asked["right"]["run"], asked["right"]["metric"])
            found = paired_difference(left, right)
            verdict = judge(found, asked["expect"], float(asked.get("margin", 0.0)))
            out.append((asked["claim"], found, verdict))
        return out

    def table(self) -> str:
        """Markdown: a line a setting, mean ± standard error over seeds."""
        metrics = self.recipe["metrics"]
        names = list(dict.fromkeys(row.label for row in self.rows))
        tuned = [self.recipe["tune"]["key"]] if self.chosen else []
        lines = [
            "| " + " | ".join(["setting", "runs", *tuned, *metrics]) + " |",
            "|---" * (2 + len(tuned) + len(metrics)) + "|",
        ]
        for name in names:
            mine = [row for row in self.rows if row.label == name]
            cells = [_cell([r.metrics[m] for r in mine if m in r.metrics]) for m in metrics]
            told = [self.chosen[name]] if self.chosen else []
            lines.append("| " + " | ".join([name, str(len(mine)), *told, *cells]) + " |")
        return "\n".join(lines)

    def write(self, folder: Path) -> Path:
        """Write N.md and its figures; the page's path."""
        findings = self.findings()
        drawn = folder / "figures"
        figures = [self._plot(drawn), *self._lines(drawn), *self._copied(drawn)]
        recipe = self.recipe
        own = "\n".join(
            f"| {claim} | {found} | {found.n} | {verdict} |" for claim, found, verdict in findings
        )
        told = versions()
        parts = [
            f"# {self.number} · {recipe['title']}",
            f"[kexue.fm/archives/{self.number}](https://kexue.fm/archives/{self.number}). "
            + recipe["about"].strip(),
            f"{VERDICT}{summary_of([v for _, _, v in findings])}** at this scale.",
            "## Published\n\n" + recipe["published"].strip(),
            "## Our set-up\n\n" + recipe["setup"].strip(),
            "```bash\n" + "\n".join(self.commands) + "\n```",
            f"Scale: {self.scale}. torch {told['torch']}, CPU.",
            "## Our figures\n\nMean ± standard error over seeds"
            + ("; the value with the best mean validation score is shown." if self.chosen else "."),
            self.table(),
            "## Claims\n\nDifferences are paired by seed: mean ± standard error [95 % interval of "
            "Student's t]. A claim holds, or does not, if the whole interval says so.",
            "| claim | difference | seeds | verdict |\n|---|---|---|---|\n" + own,
            recipe.get("remarks", "").strip(),
            "\n".join(f"![{path.stem}](figures/{path.name})" for path in figures),
            f"Written by `python scripts/reproduce.py {self.number}`.",
        ]
        write_text(folder / f"{self.number}.md", "\n\n".join(p for p in parts if p) + "\n")
        return folder / f"{self.number}.md"

    def _plot(self, folder: Path) -> Path:
        """Points of all runs and their means, a panel a metric."""
        metrics = self.recipe["metrics"][:4]
        names = list(dict.fromkeys(row.label for row in self.rows))
        figure, axes = new_figure(
            3.2 * len(metrics) + 1.6, 1.2 + 0.34 * max(4, len(names)), len(metrics)
        )
        for axis, metric in zip([axes] if len(metrics) == 1 else axes, metrics):
            for place, name in enumerate(names):
                values = [
                    r.metrics[metric] for r in self.rows if r.label == name and metric in r.metrics
                ]
                axis.plot(
                    values, [place] * len(values), "o", color=COLORS[0], alpha=0.45, markersize=4
                )
                if values:
                    axis.plot([mean(values)], [place], "|", color=COLORS[1], markersize=16, mew=2.5)
            axis.set(title=metric, yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
            axis.set_yticklabels(names if metric == metrics[0] else [])
        return save(figure, folder / f"{self.number}.png")

    def _lines(self, folder: Path) -> list[Path]:
        """Families of metrics, `test/accuracy@64` and so on, as a line a setting over the number."""
        out = []
        for name, asked in self.recipe.get("lines", {}).items():
            figure, axis = new_figure()
            for label in dict.fromkeys(row.label for row in self.rows):
                found = _family([row for row in self.rows if row.label == label], asked["metric"])
                heights = [mean(values) for values in found.values()]
                axis.errorbar(
                    list(found), heights, _errors(found), marker="o", capsize=3, label=label
                )
            numbers = list(_family(self.rows, asked["metric"]))
            axis.set_xscale("log")
            axis.set_xticks(numbers, [str(number) for number in numbers])
            axis.set_xticks([], minor=True)
            axis.set(xlabel=asked["x"], ylabel=asked["y"])
            axis.legend()
            out.append(save(figure, folder / f"{self.number}_{name}.png"))
        return out

    def _copied(self, folder: Path) -> list[Path]:
        """Plots of the runs that the recipe asks for, as (name, pattern below the work folder)."""
        out = []
        for name, pattern in self.recipe.get("figures", {}).items():
            found = sorted(self.home.glob(pattern))
            if found:
                target = folder / f"{self.number}_{name}.png"
                shutil.copyfile(found[0], target)
                out.append(target)
        return out


def _family(rows: Rows, prefix: str) -> dict[int, list[float]]:
    """Values over seeds by the number behind the prefix, in order."""
    numbers = sorted(
        {
            int(name.removeprefix(prefix))
            for row in rows
            for name in row.metrics
            if name.startswith(prefix)
        }
    )
    return {n: [row.metrics[f"{prefix}{n}"] for row in rows] for n in numbers}


def _errors(family: dict[int, list[float]]) -> list[float]:
    """Standard errors; 0 where there is one value."""
    return [
        stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        for values in family.values()
    ]


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{mean(values):.4f} ± {stdev(values) / math.sqrt(len(values)):.4f}"


def write_index(folder: Path, recipes: dict[str, dict[str, Any]]) -> Path:
    """Write README.md of the pages: one line an article, with its verdict."""
    lines = [
        "# The articles, reproduced",
        "",
        "| article | title | verdict at small scale |",
        "|---|---|---|",
    ]
    for number, recipe in recipes.items():
        page, told, verdict = folder / f"{number}.md", number, "not run"
        if page.is_file():
            told = f"[{number}]({number}.md)"
            text = page.read_text(encoding="utf-8")
            verdict = text.partition(VERDICT)[2].partition("**")[0]
        lines.append(f"| {told} | {recipe['title']} | {verdict} |")
    lines += ["", "Written by `python scripts/reproduce.py all`."]
    write_text(folder / "README.md", "\n".join(lines) + "\n")
    return folder / "README.md"
