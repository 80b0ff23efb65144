"""Every task is killed, stopped and interrupted at random places, and ends bitwise as if it never was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kexue_pl.run.checkpoint_io import VerifiedCheckpointIO, read
from kexue_pl.testing.survival import CASES, MORE, draw_faults, final_state, run, survive


def batches(folder: Path) -> int:
    loops = read(folder / "checkpoints" / "last.ckpt")["loops"]
    return int(loops["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ends_where_an_undisturbed_run_ends(tmp_path: Path, name: str) -> None:
    case, whole = CASES[name], tmp_path / "whole"
    done = run(case, whole)
    assert {one.code for one in done} == {0}, done[0].err
    faults = draw_faults(name, batches(whole), case.ranks, count=2)
    seen = survive(case, tmp_path, faults, final_state(whole))
    assert seen.faults
    assert seen.sound == len(seen.faults)
    assert max(seen.lost) <= 3, seen
    assert seen.equal, seen


def test_a_resume_without_its_random_state_is_seen(tmp_path: Path) -> None:
    case, whole, cut = MORE["mlm"], tmp_path / "whole", tmp_path / "cut"
    assert run(case, whole)[0].code == 0
    assert run(case, cut, "trainer.max_steps=9", "scheduler=constant")[0].code == 0
    last = cut / "checkpoints" / "last.ckpt"
    stored = read(last)
    stored["callbacks"]["RunState"]["rng"][0]["torch"] = torch.get_rng_state()
    VerifiedCheckpointIO().save_checkpoint(stored, last)
    assert run(case, cut, "scheduler=constant", resume="auto")[0].code == 0
    assert final_state(cut) != final_state(whole)
