"""Checkpoint files are written whole or not at all, and damage is always found."""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kexue_pl.run.checkpoint_io import (
    CheckpointCorruptError,
    VerifiedCheckpointIO,
    newest_sound,
    read,
    verify,
)

STATE = {"state_dict": {"w": torch.arange(500.0)}, "note": "plain"}


def saved(path: Path) -> Path:
    VerifiedCheckpointIO().save_checkpoint(STATE, path)
    return path


def test_reads_what_it_wrote(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt")
    assert torch.equal(read(path)["state_dict"]["w"], STATE["state_dict"]["w"])
    assert torch.load(path, weights_only=True)["note"] == "plain"
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt")
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(200):
        place, bit = draw.randrange(len(whole)), draw.randrange(8)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointCorruptError):
            verify(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 4096], ids=["empty", "text", "zeros"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointCorruptError, match=r"a\.ckpt"):
        read(path)


def test_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointCorruptError, match="cut off"):
        read(path)


class Hostile:
    def __reduce__(self) -> tuple:
        return (print, ("ran",))


def test_pickled_code_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.ckpt"
    VerifiedCheckpointIO().save_checkpoint({"x": Hostile()}, path)
    with pytest.raises(CheckpointCorruptError, match="refused"):
        read(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointCorruptError):
        read(path)
    assert "ran" not in capsys.readouterr().out


def _file(folder: Path) -> str:
    return str(folder / "hacked")


PICKLES: dict[str, Callable[[Path], Any]] = {
    "a call of os.system": lambda folder: Call(os.system, f"touch {_file(folder)}"),
    "eval": lambda folder: Call(eval, f"open({_file(folder)!r}, 'w')"),
    "a file that is opened": lambda folder: Call(open, _file(folder), "w"),
    "an import of a module": lambda folder: Call(importlib.import_module, "antigravity"),
    "a partial": lambda folder: functools.partial(os.system, f"touch {_file(folder)}"),
    "torch.load of another": lambda folder: Call(torch.load, _file(folder)),
}


class Call:
    """Asks the reader of a pickle to call a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("how", ["a sound file", "a bare pickle", "a zip without proof"])
@pytest.mark.parametrize("kind", PICKLES)
def test_six_kinds_of_hostile_pickles(tmp_path: Path, kind: str, how: str) -> None:
    path, hostile = tmp_path / "a.ckpt", PICKLES[kind](tmp_path)
    if how == "a sound file":
        VerifiedCheckpointIO().save_checkpoint({"state_dict": {}, "x": [hostile]}, path)
    elif how == "a bare pickle":
        path.write_bytes(pickle.dumps(hostile))
    else:
        torch.save({"x": hostile}, path)
    with pytest.raises(CheckpointCorruptError):
        read(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ckpt"]
    assert "antigravity" not in sys.modules


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "last.ckpt")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"last\.ckpt.*MiB are free"):
        VerifiedCheckpointIO().save_checkpoint({"other": 1}, path)
    assert read(path)["note"] == "plain"
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_newest_sound_passes_over_damage_and_says_so(tmp_path: Path) -> None:
    import os

    old, new = saved(tmp_path / "previous.ckpt"), saved(tmp_path / "last.ckpt")
    os.utime(old, (1, 1))
    new.write_bytes(new.read_bytes()[:-1] + b"x")
    found, passed = newest_sound(tmp_path)
    assert found == old
    assert passed == ["last.ckpt: checksum differs (damaged bytes)"]


def test_last_keeps_the_one_before(tmp_path: Path) -> None:
    io = VerifiedCheckpointIO()
    io.save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    io.save_checkpoint({"step": 2}, tmp_path / "last.ckpt")
    assert read(tmp_path / "last.ckpt") == {"step": 2}
    assert read(tmp_path / "previous.ckpt") == {"step": 1}


def test_left_over_temporaries_are_swept(tmp_path: Path) -> None:
    stale = tmp_path / ".last.ckpt.tmp-999999999"
    stale.write_bytes(b"half")
    saved(tmp_path / "last.ckpt")
    assert not stale.exists()
