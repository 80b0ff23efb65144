"""One job as the command line sees it: freeze the settings, run here or in ranks, tell the outcome."""

from __future__ import annotations

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
    done = read_json(output_dir / "summary.json") or {}
    if (
        done.get("status") == "completed"
        and done.get("digest") == digest(config)
        and config["resume"] == "auto"
    ):
        set_up(output_dir)
        logger.info("completed before with these settings: %s", output_dir)
        return dict(done["metrics"])
    set_up(output_dir)
    frozen = freeze(config, output_dir)
    ranks = processes(config["accelerator"])
    metrics = _in_ranks(config, frozen, ranks) if ranks > 1 else _here(config, output_dir)
    _print(output_dir, metrics)
    return metrics


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
