"""The command line. Imports Hydra only; torch is imported when a run starts."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kexue_pl.run.config import config_dir, register
from kexue_pl.run.errors import Interrupted, RunError
from kexue_pl.run.overrides import check_overrides, quote, refuse_secrets, with_help

__all__ = ["main", "train"]

register()


def train(config: DictConfig) -> float | None:
    """Run one composed job; the monitored metric, for sweepers."""
    from kexue_pl.run.job import run_job
    from kexue_pl.run.log import set_up

    hydra_config = HydraConfig.get()
    try:
        metrics = run_job(config, Path(hydra_config.runtime.output_dir).absolute())
    except Exception as error:
        if hydra_config.mode == RunMode.MULTIRUN:
            raise  # the other jobs of the sweep still run
        raise _Failed(error) from error
    finally:
        if hydra_config.mode == RunMode.MULTIRUN:
            set_up(None)  # what is said between two jobs belongs into neither's log
    name = str(config.monitor.name)
    return metrics.get(name.replace("val/", "test/", 1), metrics.get(name))


class _Failed(SystemExit):
    """An error on its way to `main`: Hydra prints what it catches, and does not catch this."""

    def __init__(self, error: Exception) -> None:
        super().__init__(1)
        self.error = error


def main() -> None:
    """Entry of `train.py` and `kexue-train`; exits with 0, 1, or 128 + signal."""
    arguments = sys.argv[1:]
    # Hydra's own warnings about its next version are for us, not for users.
    warnings.filterwarnings("ignore", module="hydra")
    try:
        _main(arguments)
    except Interrupted as stop:
        print(f"interrupted: {stop}; continue with resume=auto", file=sys.stderr)
        sys.exit(stop.code)
    except _Failed as failed:
        _tell(failed.error)
    except (RunError, HydraException, OmegaConfBaseException, OSError) as error:
        _tell(error)
    except KeyboardInterrupt:
        sys.exit(130)


def _tell(error: Exception) -> None:
    """At most six lines on standard error, and exit code 1; an unforeseen error is raised whole."""
    # An OSError here is of the run directory: a run in trouble tells its own.
    if not isinstance(error, RunError | HydraException | OmegaConfBaseException | OSError):
        raise error
    print("\n".join(f"error: {error}".splitlines()[:6]), file=sys.stderr)
    sys.exit(1)


def _main(arguments: list[str]) -> None:
    refuse_secrets(arguments)
    if any(word.startswith("-") and word not in _RUN_FLAGS for word in arguments):
        sys.argv[1:] = with_help(arguments)
        return _hydra()
    arguments = [quote(word) for word in arguments]
    check_overrides(arguments)
    # Hydra's parser takes -m only where it does not stand between two overrides.
    sys.argv[1:] = sorted(arguments, key=lambda word: word not in _RUN_FLAGS)
    if _started_by_a_launcher():
        from kexue_pl.run.external import run_as_rank

        return run_as_rank(arguments)
    return _hydra()


_RUN_FLAGS = ("-m", "--multirun")


def _started_by_a_launcher() -> bool:
    if "RANK" not in os.environ and "SLURM_PROCID" not in os.environ:
        return False
    from kexue_pl.run.launch import external_rank

    return external_rank() is not None and int(os.environ["WORLD_SIZE"]) > 1


def _hydra() -> None:
    # With its full error Hydra raises instead of printing a traceback; `main` says it shortly.
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = before or "1"
    try:
        entry: Any = hydra.main(
            version_base="1.3", config_path=str(config_dir()), config_name="train"
        )
        entry(train)()
    finally:
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)


if __name__ == "__main__":
    main()
