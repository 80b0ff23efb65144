"""Where metrics go: a CSV file that survives a kill, and Weights & Biases."""

from __future__ import annotations

import csv
import os
import uuid
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from kexue_pl.run.log import logger as log

__all__ = ["MetricsCSV", "Wandb"]


class MetricsCSV(Logger):
    """Appends one row a call to `save_dir`/metrics.csv; a new metric gives a new column.

    Args:
        save_dir: the run directory.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """One file a run: there are no versions."""
        return ""

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Settings are in config_resolved.yaml; nothing to write."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write one row."""
        row = {"step": step, **{name: float(value) for name, value in metrics.items()}}
        if self._columns is None:
            self._columns = self._header()
        if any(name not in self._columns for name in row):
            self._widen([*self._columns, *(name for name in row if name not in self._columns)])
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)

    def _header(self) -> list[str]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def _widen(self, columns: list[str]) -> None:
        rows = self._rows()
        self._rewrite(columns, rows)

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            # A kill can cut the last line; a row without all its cells is not kept.
            return [
                row for row in csv.DictReader(file) if None not in row.values() and None not in row
            ]

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        temporary = self.path.with_name(f".metrics.csv.tmp-{os.getpid()}")
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path)
        self._columns = columns

    @rank_zero_only
    def take_over(self, step: int) -> None:
        """Keep the rows of an interrupted run up to `step` (optimizer steps): the run goes on there."""
        if rows := self._rows():
            kept = [row for row in rows if row["step"] and int(row["step"]) < step]
            self._rewrite(list(rows[0]), kept)


class Wandb(WandbLogger):
    """Weights & Biases, offline by default; a resumed run continues under its id.

    Args:
        save_dir: the run directory.
        project: project on the server.
        name: name of the run; None: task and folder.
        group: name that gathers runs; None: none, or the sweep.
        offline: write to `save_dir`/wandb only (upload later with `wandb sync`).
        tags: words to find the run by.
    """

    def __init__(
        self,
        save_dir: str,
        *,
        project: str = "kexue_pl",
        name: str | None = None,
        group: str | None = None,
        offline: bool = True,
        tags: list[str] | None = None,
    ) -> None:
        import wandb

        folder = Path(save_dir)
        kept = folder / "wandb_id"
        run_id = kept.read_text().strip() if kept.is_file() else uuid.uuid4().hex[:8]
        resumed = kept.is_file() and not offline
        super().__init__(
            name=name or folder.name,
            save_dir=save_dir,
            project=project,
            id=run_id,
            offline=offline,
            # WandbLogger's own switch is ignored once wandb has been set up in the process.
            mode="offline" if offline else "online",
            group=group or os.environ.get("KEXUE_PL_SWEEP") or None,
            tags=list(tags or []),
            resume="must" if resumed else None,
            settings=wandb.Settings(console="off", silent=True),
        )
        self.keep_id(kept, run_id)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of the dashboard; where it cannot be opened, training goes on without one."""
        import wandb

        if self._experiment is None:
            try:
                return super().experiment
            except (OSError, wandb.errors.Error) as error:
                log.warning("wandb: %s; the run goes on without it (metrics.csv has all)", error)
                self._wandb_init["mode"] = "disabled"
        return super().experiment

    @rank_zero_only
    def keep_id(self, path: Path, run_id: str) -> None:
        """Remember the id for a run that is resumed in place."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(run_id, encoding="utf-8")
