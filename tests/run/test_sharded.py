"""Two processes that share the parameters (FSDP2) learn what two whole copies learn, and resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kexue_pl.run.checkpoint_io import read
from kexue_pl.run.errors import ConfigError
from kexue_pl.run.sharded import check_shardable
from kexue_pl.run.train import assemble
from kexue_pl.testing.survival import (
    KGCLUE,
    MATCHING,
    MLM,
    MULTITASK,
    Case,
    Fault,
    final_state,
    run,
)
from tests.support.runs import composed

TASKS = {
    "matching": (*MATCHING, "model.dropout=0"),
    "mlm": (*MLM, "model.dropout=0"),
    "kgclue": (*KGCLUE, "model.dropout=0"),
}


def sharded(*words: str) -> Case:
    """Two ranks that share the parameters."""
    return Case(words, 2, "fsdp_cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_shards_equal_copies(tmp_path: Path, name: str) -> None:
    # Plain steps: Adam's divide by the size of a gradient, were it rounding and nothing else.
    words = (*TASKS[name], "optimizer=sgd", "optimizer.lr=0.1", "trainer.max_epochs=1")
    for kind in ("ddp_cpu", "fsdp_cpu"):
        done = run(Case(words, 2, kind), tmp_path / kind)
        assert [one.code for one in done] == [0, 0], done[0].err
    copies, shards = (
        read(tmp_path / kind / "checkpoints" / "last.ckpt")["state_dict"]
        for kind in ("ddp_cpu", "fsdp_cpu")
    )
    assert set(copies) == set(shards)
    for key, weight in copies.items():
        torch.testing.assert_close(shards[key], weight, rtol=1e-4, atol=1e-5)


REFUSED = {
    "task=multitask": (*MULTITASK, "balancer=mgda"),
    "task.micro_batch": (*MATCHING, "task.micro_batch=4"),
    "penalty": (*MATCHING, "penalty=fgm"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_backward_inside_of_a_step_is_refused(tmp_path: Path, what: str) -> None:
    """Gradients would never reach the shards: weights would stay as they are, without a word."""
    config = composed(tmp_path, *REFUSED[what], "accelerator=fsdp_cpu")
    _, task = assemble(config)
    with pytest.raises(ConfigError, match=f"accelerator=fsdp: {what} .*use accelerator=ddp"):
        check_shardable(task)
    _, plain = assemble(composed(tmp_path, *MATCHING, "accelerator=fsdp_cpu"))
    check_shardable(plain)


def test_a_killed_sharded_run_ends_bitwise_equal(tmp_path: Path) -> None:
    case = sharded(*TASKS["mlm"], "model.dropout=0.1")
    assert [one.code for one in run(case, tmp_path / "whole")] == [0, 0]
    cut = run(case, tmp_path / "cut", fault=Fault(batch=20))
    assert {one.code for one in cut} == {-9}
    again = run(case, tmp_path / "cut", resume="auto")
    assert [one.code for one in again] == [0, 0], again[0].err
    assert final_state(tmp_path / "cut") == final_state(tmp_path / "whole")
