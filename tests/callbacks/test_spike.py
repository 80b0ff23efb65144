"""A loss that jumps moves nothing; a rewind restores a checkpoint; all ranks act alike and in bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kexue_pl.callbacks.spike import Spike, bound
from kexue_pl.run.checkpoint_io import read
from kexue_pl.testing.command import Command
from tests.support.cli import TESTS_CONF, Done
from tests.support.runs import weights_digest

SETTINGS = (
    "callbacks=[default,spike]",
    "callbacks.spike.window=8",
    "callbacks.last.every_n_train_steps=2",
    "callbacks.best=null",
    "trainer.max_epochs=4",
    "trainer.log_every_n_steps=1",
    "task.dropout=0",
)


def run(folder: Path, *words: str) -> Done:
    """The tiny task; ranks are forked."""
    common = ["--config-dir", str(TESTS_CONF), "task=tiny", f"paths.output_dir={folder}"]
    return Command(
        *common,
        *SETTINGS,
        *words,
        cwd=folder.parent,
        env={"KEXUE_PL_ALLOW_TARGETS": "tests"},
        entry="kexue_pl.testing.forked.train",
    ).wait()


def counts(folder: Path) -> dict[str, float]:
    return json.loads((folder / "summary.json").read_text())["metrics"]


def test_the_bound_by_hand() -> None:
    # median 3, deviations 2 1 0 1 7 -> 1
    assert bound([1.0, 2.0, 3.0, 4.0, 10.0], 2.0) == pytest.approx(3 + 2 * 1.4826)
    assert bound([2.0] * 5, 3.0) == pytest.approx(2.06)


@pytest.mark.parametrize(
    "wrong", [{"action": "stop"}, {"factor": 0}, {"window": 3}, {"rewinds": 0}]
)
def test_settings_out_of_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Spike(**wrong)


@pytest.mark.parametrize("accelerator", ["cpu", "ddp_cpu"])
@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_a_far_row_is_left_out(tmp_path: Path, accelerator: str, action: str) -> None:
    far = ("data.far_row=50", f"accelerator={accelerator}", f"callbacks.spike.action={action}")
    done = run(tmp_path / "far", *far, "callbacks.spike.rewinds=9")
    assert done.code == 0, done.err
    lines = [json.loads(x) for x in (tmp_path / "far" / "spikes.jsonl").read_text().splitlines()]
    assert 2 <= len(lines) <= 4 and all(50 in line["rows"] for line in lines)
    assert counts(tmp_path / "far")["train/spikes"] == len(lines)
    assert counts(tmp_path / "far").get("train/rewinds", 0) == len(lines) * (action == "rewind")
    assert counts(tmp_path / "far")["test/loss"] < 2.0


def test_without_the_callback_a_far_row_throws_the_run_off(tmp_path: Path) -> None:
    words = ("data.far_row=50", "callbacks.spike=null", "trainer.gradient_clip_val=null")
    done = run(tmp_path / "free", *words, "optimizer=sgd", "optimizer.lr=0.01")
    assert done.code != 0 or not counts(tmp_path / "free")["test/loss"] < 2.0


def test_two_ranks_take_the_weights_of_one(tmp_path: Path) -> None:
    words = ("data.far_row=50", "callbacks.spike.action=rewind", "callbacks.spike.rewinds=9")
    assert run(tmp_path / "one", *words).code == 0
    assert run(tmp_path / "two", *words, "accelerator=ddp_cpu").code == 0
    one, two = (
        read(tmp_path / n / "checkpoints" / "last.ckpt")["state_dict"] for n in ("one", "two")
    )
    assert all(one[name].allclose(two[name], atol=1e-5) for name in one)


def test_a_killed_run_with_rewinds_ends_bitwise_equal(tmp_path: Path) -> None:
    words = ("data.far_row=50", "callbacks.spike.action=rewind", "callbacks.spike.rewinds=9")
    words = (*words, "task.dropout=0.3")
    assert run(tmp_path / "whole", *words).code == 0
    kill = "+callbacks.kill_at._target_=kexue_pl.testing.kill_at.KillAt"
    assert run(tmp_path / "cut", *words, kill, "+callbacks.kill_at.batch=27").code == -9
    again = run(tmp_path / "cut", *words, "resume=auto")
    assert again.code == 0, again.err
    whole, cut = (
        weights_digest(tmp_path / n / "checkpoints" / "last.ckpt") for n in ("whole", "cut")
    )
    assert whole == cut
    assert counts(tmp_path / "cut")["train/rewinds"] == counts(tmp_path / "whole")["train/rewinds"]


def test_rewinds_are_bounded(tmp_path: Path) -> None:
    done = run(
        tmp_path / "run", "data.far_row=50", "callbacks.spike.action=rewind",
        "callbacks.spike.rewinds=1",
    )  # fmt: skip
    assert done.code == 1
    assert "spiked again after 1 rewinds" in done.err
