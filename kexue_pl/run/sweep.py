"""After a multirun: one table over its jobs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

__all__ = ["SweepReport"]


class SweepReport(Callback):
    """Names the sweep for the dashboards, and prints the table of all jobs at its end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Let the jobs know which sweep they belong to."""
        os.environ["KEXUE_PL_SWEEP"] = Path(config.hydra.sweep.dir).name

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the table."""
        os.environ.pop("KEXUE_PL_SWEEP", None)
        from kexue_pl.report.sweeps import report

        report(Path(config.hydra.sweep.dir))
