"""Two processes that share the parameters (FSDP2) learn what two whole copies learn, and resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kexue_pl.run.checkpoint_io import read
from kexue_pl.testing.command import Done, start_ranks
from kexue_pl.testing.survival import COMMON, KGCLUE, MATCHING, MLM, MULTITASK, final_state

TASKS = {
    "matching": (*MATCHING, "model.dropout=0"),
    "mlm": (*MLM, "model.dropout=0"),
    "kgclue": (*KGCLUE, "model.dropout=0"),
    "mgda at the encoding": (*MULTITASK, "balancer=mgda"),
}


def run(folder: Path, *words: str) -> list[Done]:
    """Two ranks in `folder`."""
    where = (f"paths.output_dir={folder}", f"paths.cache={folder.parent}/cache")
    started = start_ranks(*COMMON[1:], *words, *where, ranks=2, cwd=folder.parent)
    return [one.wait(120) for one in started]


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_shards_equal_copies(tmp_path: Path, name: str) -> None:
    for kind in ("ddp_cpu", "fsdp_cpu"):
        done = run(tmp_path / kind, *TASKS[name], f"accelerator={kind}")
        assert [one.code for one in done] == [0, 0], done[0].err
    copies, shards = (
        read(tmp_path / kind / "checkpoints" / "last.ckpt")["state_dict"]
        for kind in ("ddp_cpu", "fsdp_cpu")
    )
    assert set(copies) == set(shards)
    for key, weight in copies.items():
        torch.testing.assert_close(shards[key], weight, rtol=1e-3, atol=1e-4)


def test_a_killed_sharded_run_ends_bitwise_equal(tmp_path: Path) -> None:
    words = (*TASKS["mlm"], "model.dropout=0.1", "accelerator=fsdp_cpu")
    kill = ("+callbacks.kill_at._target_=kexue_pl.testing.kill_at.KillAt",)
    assert [one.code for one in run(tmp_path / "whole", *words)] == [0, 0]
    cut = run(tmp_path / "cut", *words, *kill, "+callbacks.kill_at.batch=20")
    assert {one.code for one in cut} == {-9}
    again = run(tmp_path / "cut", *words, "resume=auto")
    assert [one.code for one in again] == [0, 0], again[0].err
    assert final_state(tmp_path / "cut") == final_state(tmp_path / "whole")
