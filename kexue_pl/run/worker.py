"""The entry of one rank: `python -m torch.distributed.run ... -m kexue_pl.run.worker CONFIG`."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from kexue_pl.run.errors import Interrupted
from kexue_pl.run.log import logger, set_up

__all__ = ["join_group", "leave", "main", "work"]


def join_group(accelerator: dict[str, Any]) -> None:
    """Join the process group that the launcher's environment describes."""
    import torch

    backend = accelerator["process_group_backend"]
    if backend is None:
        backend = "gloo" if accelerator["accelerator"] == "cpu" else "nccl"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group(backend, timeout=timedelta(minutes=30))


def work(config: dict[str, Any]) -> dict[str, float]:
    """Train as one rank of a group that was joined; settings are compared first."""
    from kexue_pl.distributed import world_size
    from kexue_pl.run.config import digest
    from kexue_pl.run.launch import check_same_everywhere
    from kexue_pl.run.train import train

    check_same_everywhere(config)
    logger.info("%d ranks hold the settings %s", world_size(), digest(config)[:12])
    return train(config)


def main(path: str) -> int:
    """Run one rank from a frozen configuration file; the exit code."""
    import yaml

    config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    set_up(Path(config["paths"]["output_dir"]))
    import torch

    join_group(config["accelerator"])
    try:
        work(config)
    except Interrupted as stop:
        return stop.code
    except BaseException as error:
        logger.error("rank %s: %s: %s", os.environ["RANK"], type(error).__name__, error)
        message = f"{type(error).__name__}: {error}"
        # The first rank to fail says why; the others only lose their peer.
        failure = Path(config["paths"]["output_dir"]) / "failure.txt"
        try:
            with open(failure, "x", encoding="utf-8") as file:
                file.write(message)
        except FileExistsError:
            pass
        return 1
    torch.distributed.destroy_process_group()
    return 0


def leave(code: int) -> None:
    """End this process; a broken group must not hold the exit of a rank that has failed."""
    sys.stdout.flush()
    os._exit(code) if code else sys.exit(0)


if __name__ == "__main__":
    leave(main(sys.argv[1]))
