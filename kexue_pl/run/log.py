"""Each log line once: on the console of rank zero, and in train.log of the run directory."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

__all__ = ["logger", "quieten", "set_up"]

logger = logging.getLogger("kexue_pl")

KNOWN_WARNINGS = (
    # Lightning's own use of a torch internal, at every fit.
    r".*LeafSpec.*",
    # The data sets here are small; workers are a choice of the user.
    r".*does not have many workers.*",
    r".*number of training batches .* smaller than the logging interval.*",
    # resume continues in place, so the folder is meant to hold checkpoints.
    r".*Checkpoint directory .* exists and is not empty.*",
    # Exact resume of the position in an epoch is our data modules' own work.
    r".*You're resuming from a checkpoint that ended before the epoch ended.*",
)


def is_first_rank() -> bool:
    """True for the process that speaks for the run."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def quieten() -> None:
    """Let Lightning's loggers pass on warnings alone; it sets them up anew when it is imported."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities"):
        quiet = logging.getLogger(name)
        quiet.handlers.clear()
        quiet.propagate = True
        quiet.setLevel(logging.WARNING)


def set_up(folder: Path | None) -> None:
    """Send log lines to the console and to `folder`/train.log.

    Other ranks write to train_rankN.log; only their errors reach the console.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler | logging.StreamHandler):
            root.removeHandler(handler)
            handler.close()
    quieten()
    for pattern in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)
    # A parent that launched ranks may have closed our standard error; a log line must never stop a run.
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    root.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.INFO if is_first_rank() else logging.ERROR)
    handlers: list[logging.Handler] = [console]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        name = "train.log" if is_first_rank() else f"train_rank{os.environ.get('RANK', '')}.log"
        handlers.append(logging.FileHandler(folder / name, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        root.addHandler(handler)
