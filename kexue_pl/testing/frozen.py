"""One process of a run from settings that were composed before: for many runs of one case."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from kexue_pl.run import record
from kexue_pl.run.errors import Interrupted, RunError
from kexue_pl.run.log import logger, set_up
from kexue_pl.run.worker import leave
from kexue_pl.run.worker import main as work

__all__ = ["main", "skip_artifacts"]


def skip_artifacts() -> None:
    """Let the runs of this process end without tables and plots, which take as long as a small run."""
    record.write_artifacts = lambda folder, task, trainer: None


def main() -> None:
    """Train what the file `sys.argv[1]` says, alone or as a rank of the group of the environment."""
    skip_artifacts()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        leave(work(sys.argv[1]))
    from kexue_pl.run.train import train

    config = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    set_up(Path(config["paths"]["output_dir"]))
    try:
        train(config)
    except Interrupted as stop:
        leave(stop.code)
    except RunError as error:
        logger.error("%s", error)
        leave(1)
