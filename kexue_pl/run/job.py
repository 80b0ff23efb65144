"""One job as the command line sees it: freeze the settings, run here or in ranks, tell the outcome."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import traceback
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kexue_pl.run.check import check
from kexue_pl.run.config import digest, plain
from kexue_pl.run.errors import Interrupted, RunError
from kexue_pl.run.files import read_json, write_text
from kexue_pl.run.launch import launch, processes
from kexue_pl.run.log import logger, set_up

__all__ = ["freeze", "run_job"]


def run_job(composed: DictConfig, output_dir: Path) -> dict[str, float]:
    """Check, freeze and run a composed configuration; the final metrics.

    A job of a sweep that was completed with the same settings is not run again.

    Raises:
        RunError: what the user can mend, in a few lines.
        Interrupted: a signal; the state was saved.
    """
    composed.paths.output_dir = str(output_dir)
    check(composed)
    config = plain(composed)
    if config["resume"] == "auto" and _in_a_sweep():
        output_dir = _move(output_dir, _place(output_dir, digest(config)))
        composed.paths.output_dir = str(output_dir)
        config = plain(composed)
    set_up(output_dir)
    if config["resume"] == "auto" and (done := _completed(output_dir, digest(config))):
        logger.info("completed before with these settings: %s", output_dir)
        return done
    frozen = freeze(config, output_dir)
    ranks = processes(config["accelerator"])
    try:
        metrics = _in_ranks(config, frozen, ranks) if ranks > 1 else _here(config, output_dir)
    except Interrupted as stop:
        # The launcher of a cluster set its own handler, which puts the job back into the queue.
        handler = signal.getsignal(stop.signum)
        if stop.signum not in (signal.SIGTERM, signal.SIGINT) and callable(handler):
            handler(stop.signum, None)
        raise
    _print(output_dir, metrics)
    return metrics


def _completed(folder: Path, wanted: str) -> dict[str, float] | None:
    """The metrics of the run in `folder`, if it has these settings and has ended well."""
    found = read_json(folder / "summary.json") or {}
    well = found.get("status") == "completed" and found.get("digest") == wanted
    return dict(found["metrics"]) if well else None


def _place(folder: Path, wanted: str) -> Path:
    """Where the job of a sweep with these settings is, or is to be.

    A sweep that was begun again with more values numbers its jobs anew: the job may be in a folder of
    another number, and its own may hold another job.
    """
    runs = {
        path.parent: (read_json(path) or {}).get("digest")
        for path in sorted(folder.parent.glob("*/summary.json"))
    }
    if folder in runs and runs[folder] == wanted:
        return folder
    same = [path for path, found in runs.items() if found == wanted]
    if same:
        return same[0]
    return folder.with_name(f"{folder.name}~{wanted[:8]}") if folder in runs else folder


def _move(folder: Path, place: Path) -> Path:
    """Bring what Hydra wrote of a job into `folder` to its place; the place."""
    if place != folder:
        place.mkdir(exist_ok=True)
        shutil.rmtree(place / ".hydra", ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rename(folder / ".hydra", place / ".hydra")
            folder.rmdir()
    return place


def _in_a_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def freeze(config: dict[str, Any], folder: Path) -> Path:
    """Write the resolved settings to config_resolved.yaml; the file."""
    import yaml

    path = folder / "config_resolved.yaml"
    write_text(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return path


def _here(config: dict[str, Any], output_dir: Path) -> dict[str, float]:
    from kexue_pl.run.train import train

    try:
        return train(config)
    except (RunError, Interrupted):
        raise
    except Exception as error:
        if type(error).__module__.startswith("kexue_pl."):
            raise RunError(str(error)) from error  # our own errors say what there is to say
        write_text(output_dir / "traceback.txt", traceback.format_exc())
        raise _short(error, output_dir) from error


def _short(error: Exception, output_dir: Path) -> RunError:
    """An unforeseen error in a few lines; the traceback is in the run directory."""
    text = "\n".join(str(error).strip().splitlines()[:4])
    where = output_dir / "traceback.txt"
    return RunError(f"{type(error).__name__}: {text}\n(traceback in {where})")


def _in_ranks(config: dict[str, Any], frozen: Path, ranks: int) -> dict[str, float]:
    folder = frozen.parent
    (folder / "failure.txt").unlink(missing_ok=True)
    code = launch(frozen, ranks)
    summary = read_json(folder / "summary.json") or {}
    if code or summary.get("status") != "completed":
        failure = folder / "failure.txt"
        reason = failure.read_text(encoding="utf-8") if failure.is_file() else None
        reason = reason or summary.get("error") or f"a rank died (exit code {code})"
        summary.update(status="failed", error=reason)
        from kexue_pl.run.files import write_json

        write_json(folder / "summary.json", summary)
        raise RunError(f"{reason}\n(what the ranks said is in {folder}: train.log, launcher.log)")
    return dict(summary["metrics"])


def _print(output_dir: Path, metrics: dict[str, float]) -> None:
    from kexue_pl.run.record import print_table

    print_table(output_dir, metrics)
