"""What happens to real runs in real trouble: no sound checkpoint is lost, and the run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kexue_pl.run.checkpoint_io import newest_sound, verify
from tests.support.cli import Command, tiny, train, until
from tests.support.runs import weights_digest

SETTINGS = ("callbacks.last.every_n_train_steps=1", "trainer.max_epochs=3")
PAUSE = "+callbacks.pause._target_=tests.support.tiny.Pause"


def status(folder: Path) -> str:
    return json.loads((folder / "summary.json").read_text())["status"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("whole")
    done = train(*tiny(*SETTINGS, PAUSE, f"paths.output_dir={folder}/run"), cwd=folder)
    assert done.code == 0, done.err
    return weights_digest(folder / "run" / "checkpoints" / "last.ckpt")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little space."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs privileges that this machine does not give")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_keeps_the_checkpoint_and_the_run_goes_on(
    small_disk: Path, expected: str
) -> None:
    run = small_disk / "run"
    words = tiny(*SETTINGS, PAUSE, f"paths.output_dir={run}")
    command = Command(*words, cwd=small_disk, env={"KEXUE_PL_TEST_PAUSE": "0.05"})
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        until(lambda: (run / "checkpoints" / "last.ckpt").exists())
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    done = command.wait()
    assert done.code == 1
    assert "cannot write" in done.err or "No space left" in done.err, done.err
    found, _ = newest_sound(run / "checkpoints")
    assert found is not None
    filler.unlink()
    again = train(*words, "resume=auto", cwd=small_disk)
    assert again.code == 0, again.err
    assert weights_digest(run / "checkpoints" / "last.ckpt") == expected


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_last_checkpoint_is_passed_over(tmp_path: Path, expected: str, damage: str) -> None:
    run = tmp_path / "run"
    words = tiny(*SETTINGS, PAUSE, f"paths.output_dir={run}")
    command = Command(*words, cwd=tmp_path, env={"KEXUE_PL_TEST_PAUSE": "0.05"})
    until(lambda: (run / "checkpoints" / "previous.ckpt").exists())
    command.send(signal.SIGKILL)
    command.wait()
    last = run / "checkpoints" / "last.ckpt"
    content = last.read_bytes() if last.exists() else b""
    flipped = bytes([content[0] ^ 1]) + content[1:] if content else b""
    last.write_bytes({"truncated": content[:-9], "flipped": flipped, "empty": b""}[damage])
    done = train(*words, "resume=auto", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "passes over last.ckpt" in done.err
    assert weights_digest(last) == expected


def test_a_killed_rank_ends_the_run_and_it_resumes(tmp_path: Path) -> None:
    words = tiny(*SETTINGS, PAUSE, "accelerator=ddp_cpu")
    whole = train(*words, f"paths.output_dir={tmp_path}/whole", cwd=tmp_path)
    assert whole.code == 0, whole.err
    run = tmp_path / "run"
    words.append(f"paths.output_dir={run}")
    command = Command(*words, cwd=tmp_path, env={"KEXUE_PL_TEST_PAUSE": "0.1"})
    until(lambda: (run / "checkpoints" / "last.ckpt").exists())
    ranks = subprocess.run(
        ["pgrep", "-f", f"kexue_pl.run.worker {run}/config_resolved.yaml"],
        capture_output=True,
        text=True,
    ).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    done = command.wait()
    assert done.code == 1
    assert len(done.err.splitlines()) <= 12
    assert status(run) == "failed"
    again = train(*words, "resume=auto", cwd=tmp_path)
    assert again.code == 0, again.err
    assert weights_digest(run / "checkpoints" / "last.ckpt") == weights_digest(
        tmp_path / "whole" / "checkpoints" / "last.ckpt"
    )


def test_fewer_ranks_go_on_with_the_same_batches(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = tiny(*SETTINGS, PAUSE, "task.dropout=0", f"paths.output_dir={run}")
    command = Command(
        *words, "accelerator=ddp_cpu", cwd=tmp_path, env={"KEXUE_PL_TEST_PAUSE": "0.1"}
    )
    until(lambda: (run / "checkpoints" / "last.ckpt").exists())
    command.send(signal.SIGTERM)
    assert command.wait().code == 143
    done = train(*words, "resume=auto", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "2 processes, this run has 1" in done.err


def test_a_killed_loader_worker_is_an_error_not_a_hang(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = tiny(*SETTINGS, PAUSE, "data.num_workers=1", f"paths.output_dir={run}")
    command = Command(*words, cwd=tmp_path, env={"KEXUE_PL_TEST_PAUSE": "0.2"})
    until(lambda: (run / "checkpoints" / "last.ckpt").exists())

    def workers() -> list[str]:
        found = subprocess.run(
            ["pgrep", "-P", str(command.process.pid)], capture_output=True, text=True
        )
        return found.stdout.split()

    os.kill(int(until(workers)[0]), signal.SIGKILL)
    done = command.wait()
    assert done.code == 1
    assert "DataLoader worker" in done.err
    assert status(run) == "failed"


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    done = train(*tiny("paths.output_dir=run"), cwd=tmp_path)
    assert done.code == 1
    assert "run" in done.err


def test_checkpoints_stay_sound_while_a_run_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = tiny(*SETTINGS, PAUSE, f"paths.output_dir={run}")
    for count in range(3):
        command = Command(*words, "resume=auto", cwd=tmp_path, env={"KEXUE_PL_TEST_PAUSE": "0.02"})
        seen = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns if count else 0
        until(
            lambda seen=seen: (
                (run / "checkpoints" / "last.ckpt").exists()
                and (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns > seen
            )
        )
        command.send(signal.SIGKILL)
        command.wait()
        found, _ = newest_sound(run / "checkpoints")
        assert found is not None
        verify(found)
