"""What a run leaves behind: summary.json, tables, plots."""

from __future__ import annotations

import csv
import functools
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kexue_pl.run.config import digest
from kexue_pl.run.files import read_json, write_json
from kexue_pl.run.log import logger

__all__ = ["Clock", "print_table", "write_artifacts", "write_counts", "write_summary"]

PACKAGES = ("kexue_pl", "torch", "lightning", "hydra-core", "transformers", "torchmetrics", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            from kexue_pl import __version__

            found[name] = __version__
    return found


@functools.cache
def git_revision() -> str | None:
    """Commit of the checkout that holds this package, with + if it was changed; None elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def ask(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
        return done.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    return (commit + ("+" if ask("status", "--porcelain", "-uno") else "")) or None


class Clock:
    """When a run began, and how long it lasts whatever becomes of the clock on the wall."""

    def __init__(self) -> None:
        self.started, self._begun = time.time(), time.monotonic()

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun


def write_summary(
    folder: Path,
    config: dict[str, Any],
    status: str,
    metrics: dict[str, float],
    clock: Clock,
    *,
    checkpoint: Path | None = None,
    error: str | None = None,
) -> None:
    """Write summary.json; "completed" only at the very end, so that a killed run never claims it."""
    summary = {
        "status": status,
        "task": config["task"]["name"],
        "metrics": metrics,
        "seconds": round(clock.seconds(), 3),
        "versions": versions(),
        "git": git_revision(),
        "checkpoint": str(checkpoint) if checkpoint else None,
        "seed": config["seed"],
        "digest": digest(config),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(clock.started)),
    }
    if (counts := read_json(folder / "data.json")) is not None:
        summary["data"] = counts
    if error:
        summary["error"] = error
    write_json(folder / "summary.json", summary)


def write_artifacts(folder: Path, task: Any, trainer: Any) -> None:
    """Tables and plots of the task, and curves of all metrics; a failed plot never fails a run."""
    for name, rows in task.tables().items():
        write_table(folder / f"{name}.csv", rows)
        for log in trainer.loggers:
            if rows and hasattr(log, "log_table"):
                log.log_table(name, list(rows[0]), [list(row.values()) for row in rows])
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    from kexue_pl.report.curves import plot_curves

    for draw in (lambda: task.plots(plots), lambda: plot_curves(folder)):
        try:
            draw()
        except (ValueError, RuntimeError, OSError, KeyError) as error:
            logger.warning("a plot could not be drawn: %s: %s", type(error).__name__, error)


def write_counts(folder: Path, counts: dict[str, int]) -> None:
    """What the data left out, cut or found odd: data.json, and a part of summary.json."""
    write_json(folder / "data.json", counts)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV."""
    if not rows:
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def print_table(folder: Path, metrics: dict[str, float]) -> None:
    """The final metrics and where the plots are, on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    shown = {k: v for k, v in sorted(metrics.items()) if k.startswith("test/")}
    table = Table("metric", "value", title=escape(str(folder)))
    for name, value in (shown or dict(sorted(metrics.items()))).items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)
    for path in sorted((folder / "plots").glob("*.png")):
        console.print(str(path), soft_wrap=True, markup=False)
