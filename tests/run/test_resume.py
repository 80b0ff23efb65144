"""A run that is killed or stopped ends, when resumed, bitwise where an uninterrupted one ends."""

from __future__ import annotations

import functools
import json
import signal
from pathlib import Path

import pytest

from tests.support import cli
from tests.support.cli import QUICK, Command, tiny, until
from tests.support.runs import weights_digest

train = functools.partial(cli.train, entry=QUICK)
SETTINGS = ("callbacks.last.every_n_train_steps=1", "trainer.max_epochs=6")


PAUSE = "+callbacks.pause._target_=tests.support.tiny.Pause"


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def last(folder: Path) -> str:
    return weights_digest(folder / "checkpoints" / "last.ckpt")


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of runs that nothing interrupted, by their extra settings."""
    return {}


def uninterrupted(whole: dict[str, str], root: Path, *extra: str) -> str:
    key = " ".join(extra)
    if key not in whole:
        folder = root / "whole"
        done = train(*tiny(*SETTINGS, *extra, f"paths.output_dir={folder}"), cwd=root)
        assert done.code == 0, done.err
        whole[key] = last(folder)
    return whole[key]


CASES = [
    (),
    ("data.num_workers=2",),
    ("trainer.accumulate_grad_batches=3", "optimizer.lr=0.01"),
    ("trainer.val_check_interval=0.5", "optimizer.fused=true"),
]


@pytest.mark.parametrize("extra", CASES, ids=lambda extra: " ".join(extra) or "plain")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_resumed_run_ends_bitwise_equal(
    tmp_path: Path, whole: dict[str, str], extra: tuple[str, ...], number: signal.Signals
) -> None:
    expected = uninterrupted(whole, tmp_path, *extra)
    folder = tmp_path / "cut"
    pause = {"KEXUE_PL_TEST_PAUSE": "0.02"}
    arguments = tiny(*SETTINGS, *extra, f"paths.output_dir={folder}", PAUSE)
    command = Command(*arguments, cwd=tmp_path, env=pause)
    until(lambda: lines(folder / "metrics.csv") > 3)
    command.send(number)
    done = command.wait()
    assert done.code == (-9 if number == signal.SIGKILL else 143), done.err
    assert summary(folder)["status"] == ("running" if number == signal.SIGKILL else "interrupted")
    resumed = train(*arguments, "resume=auto", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert "starting anew" not in resumed.err
    assert last(folder) == expected
    assert summary(folder)["status"] == "completed"


def test_two_ranks_killed_and_resumed(tmp_path: Path) -> None:
    extra = ("accelerator=ddp_cpu",)
    expected = uninterrupted({}, tmp_path, *extra)
    folder = tmp_path / "cut"
    arguments = tiny(*SETTINGS, *extra, f"paths.output_dir={folder}", PAUSE)
    command = Command(*arguments, cwd=tmp_path, env={"KEXUE_PL_TEST_PAUSE": "0.05"})
    until(lambda: (folder / "checkpoints" / "last.ckpt").exists())
    command.send(signal.SIGTERM)
    assert command.wait().code == 143
    resumed = train(*arguments, "resume=auto", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert last(folder) == expected


def test_other_settings_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = train(*tiny(f"paths.output_dir={folder}", "trainer.max_epochs=1"), cwd=tmp_path)
    assert first.code == 0, first.err
    again = train(
        *tiny(f"paths.output_dir={folder}", "resume=auto", "optimizer.lr=0.5"), cwd=tmp_path
    )
    assert again.code == 1
    assert "optimizer.lr: 0.5, but last.ckpt was trained with" in again.err


def test_other_data_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    common = (f"paths.output_dir={folder}", "trainer.max_epochs=1")
    assert train(*tiny(*common), cwd=tmp_path).code == 0
    changed = {"KEXUE_PL_TEST_SHIFT": "1"}
    again = train(*tiny(*common, "resume=auto", "trainer.max_epochs=2"), cwd=tmp_path, env=changed)
    assert again.code == 1
    assert "the training data changed" in again.err
