"""A run whose ranks were started from outside, by torchrun or SLURM: rank zero composes for all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from kexue_pl.run.check import check
from kexue_pl.run.config import config_dir, plain
from kexue_pl.run.errors import ConfigError
from kexue_pl.run.job import freeze
from kexue_pl.run.log import set_up

__all__ = ["run_as_rank"]


def run_as_rank(arguments: list[str]) -> None:
    """Join the group, take rank zero's settings, train; a sweep is refused."""
    if "-m" in arguments or "--multirun" in arguments:
        raise ConfigError(
            ["-m: a sweep starts its own ranks; call train.py without torchrun or srun"]
        )
    from kexue_pl.distributed import broadcast_object, rank
    from kexue_pl.run.worker import join_group, work

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = compose("train", overrides=arguments)
    composed.paths.output_dir = str(Path(composed.paths.output_dir).absolute())
    check(composed)
    own: dict[str, Any] = plain(composed)
    join_group(own["accelerator"])
    config = broadcast_object(own)
    folder = Path(config["paths"]["output_dir"])
    set_up(folder)
    if rank() == 0:
        freeze(config, folder)
    metrics = work(config)
    if rank() == 0:
        from kexue_pl.run.record import print_table

        print_table(folder, metrics)
    sys.stdout.flush()
