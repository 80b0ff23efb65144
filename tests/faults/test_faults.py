"""What happens to real runs in real trouble: no sound checkpoint is lost, and the run goes on."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kexue_pl.run.checkpoint_io import newest_sound, read, verify
from tests.support import cli
from tests.support.cli import QUICK, tiny, until
from tests.support.runs import weights_digest

SETTINGS = ("callbacks.last.every_n_train_steps=1", "trainer.max_epochs=3")
PAUSE = "+callbacks.pause._target_=tests.support.tiny.Pause"
KILL = "+callbacks.kill_at._target_=kexue_pl.testing.kill_at.KillAt"


train = functools.partial(cli.train, entry=QUICK)
Command = functools.partial(cli.Command, entry=QUICK)


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


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written to the folder; for root, whom modes do not stop, by a mount over it."""
    if os.geteuid():
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
        return
    mounts = (["mount", "--bind", folder, folder], ["mount", "-o", "remount,ro,bind", folder])
    if any(subprocess.run(words, capture_output=True).returncode for words in mounts):
        pytest.skip("a read-only mount needs privileges that this machine does not give")
    yield
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_folder_that_turns_read_only(tmp_path: Path, expected: str) -> None:
    run = tmp_path / "run"
    words = tiny(*SETTINGS, PAUSE, f"paths.output_dir={run}")
    command = Command(*words, cwd=tmp_path, env={"KEXUE_PL_TEST_PAUSE": "0.05"})
    until(lambda: (run / "checkpoints" / "last.ckpt").exists())
    with read_only(run / "checkpoints"):
        done = command.wait()
        assert done.code == 1
        assert "Read-only" in done.err or "Permission" in done.err, done.err
        found, _ = newest_sound(run / "checkpoints")
        assert found is not None
    with read_only(run):
        refused = train(*words, "resume=auto", cwd=tmp_path)
        assert refused.code == 1
        assert len(refused.err.splitlines()) <= 6 and str(run) in refused.err, refused.err
    again = train(*words, "resume=auto", cwd=tmp_path)
    assert again.code == 0, again.err
    assert weights_digest(run / "checkpoints" / "last.ckpt") == expected


def test_an_unwritable_dashboard_does_not_stop_the_run(tmp_path: Path, expected: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "wandb").write_text("in the way")
    words = tiny(*SETTINGS, "logger=wandb", f"paths.output_dir={run}")
    done = train(*words, cwd=tmp_path, env={"WANDB_MODE": "offline"})
    assert done.code == 0, done.err
    assert "wandb" in done.err
    assert (run / "metrics.csv").is_file()
    assert weights_digest(run / "checkpoints" / "last.ckpt") == expected


def test_a_clock_set_back_does_not_bring_an_old_checkpoint(tmp_path: Path, expected: str) -> None:
    run = tmp_path / "run"
    words = tiny(*SETTINGS, f"paths.output_dir={run}")
    assert train(*words, "+callbacks.kill_at.batch=17", KILL, cwd=tmp_path).code == -9
    folder = run / "checkpoints"
    os.utime(folder / "last.ckpt", (1, 1))
    assert newest_sound(folder)[0] == folder / "last.ckpt"
    done = train(*words, "resume=auto", cwd=tmp_path)
    assert done.code == 0, done.err
    assert weights_digest(folder / "last.ckpt") == expected


@pytest.mark.parametrize("fate", ["changed", "is gone"])
def test_a_training_file_replaced_between_runs(tmp_path: Path, fate: str) -> None:
    rows = [f"text {n} one\ttext {n} two\t{n % 2}\n" for n in range(1000)]
    file = tmp_path / "train.tsv"
    file.write_text("".join(rows))
    words = ["task=matching", "data=files", f"data.train={file}", "paths.output_dir=run"]
    words += ["model.hidden_size=8", "trainer.max_epochs=1", "test=false", "threads=1"]
    assert train(*words, cwd=tmp_path).code == 0
    rows[777] = rows[777].replace("one", "uno")  # a row that no sample need hold
    file.write_text("".join(rows)) if fate == "changed" else file.rename(tmp_path / "other.tsv")
    again = train(*words, "resume=auto", "trainer.max_epochs=2", cwd=tmp_path)
    assert again.code == 1
    assert f"{file} {fate}" in again.err and "resume=never" in again.err, again.err


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
    command = cli.Command(*words, cwd=tmp_path, env={"KEXUE_PL_TEST_PAUSE": "0.1"})
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
    alone = tmp_path / "alone"
    assert train(*words[:-1], f"paths.output_dir={alone}", cwd=tmp_path).code == 0
    got, wanted = (read(f / "checkpoints" / "last.ckpt")["state_dict"] for f in (run, alone))
    for name, weight in wanted.items():
        torch.testing.assert_close(got[name], weight, rtol=1e-5, atol=1e-6)


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
    assert "run" in done.err and len(done.err.splitlines()) <= 6, done.err


def test_checkpoints_stay_sound_while_a_run_is_killed(tmp_path: Path) -> None:
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    words = tiny(*SETTINGS, PAUSE, f"paths.output_dir={tmp_path}/run")

    def written() -> int:
        """When last.ckpt was written; 0 without one, as between a rename and the next."""
        with contextlib.suppress(FileNotFoundError):
            return last.stat().st_mtime_ns
        return 0

    seen = 0
    for _ in range(3):
        command = Command(*words, "resume=auto", cwd=tmp_path, env={"KEXUE_PL_TEST_PAUSE": "0.05"})
        until(lambda seen=seen: written() > seen)
        command.send(signal.SIGKILL)
        command.wait()
        found, _ = newest_sound(last.parent)
        assert found is not None
        verify(found)
        seen = found.stat().st_mtime_ns
