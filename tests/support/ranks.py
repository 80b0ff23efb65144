"""Real gloo processes for a test: `run_ranks(fn, 2, *args)` returns what each rank returned."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _enter(
    rank: int, fn: Callable[..., Any], world: int, folder: str, args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/rendezvous",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=60),
        )
        torch.save(fn(rank, world, *args), f"{folder}/{rank}.pt")
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        Path(folder, f"{rank}.error").write_text(traceback.format_exc())
        raise


def run_ranks(fn: Callable[..., Any], world: int, *args: Any) -> list[Any]:
    """Run `fn(rank, world, *args)` in `world` gloo processes; results in rank order.

    `fn` must stand at the top of a module. An error on any rank is raised with its traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = mp.get_context("spawn")
        ranks = [
            context.Process(target=_enter, args=(rank, fn, world, folder, args))
            for rank in range(world)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(180)
            if process.is_alive():
                process.kill()
        errors = sorted(Path(folder).glob("*.error"))
        if errors or any(process.exitcode for process in ranks):
            raise RuntimeError("\n".join(path.read_text() for path in errors) or "a rank died")
        return [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(world)]
