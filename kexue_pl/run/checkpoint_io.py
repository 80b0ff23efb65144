"""Checkpoints that are written whole or not at all, and that prove themselves when read.

A temporary file in the same folder, SHA-256 while writing, the digest as a trailer behind the archive
(plain `torch.load` still reads the file), fsync, rename, fsync of the folder. The file that was there
before is kept beside the new one, so that one sound checkpoint always remains.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

__all__ = [
    "CheckpointCorruptError",
    "VerifiedCheckpointIO",
    "newest_sound",
    "read",
    "verify",
]

MAGIC = b"KXPLSHA2"
TRAILER = len(MAGIC) + hashlib.sha256().digest_size


class CheckpointCorruptError(RuntimeError):
    """A checkpoint file is damaged, or is not one of ours."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"{path}: {reason}; name another file, or resume=auto for the newest sound one"
        )


class _HashingWriter:
    """Passes bytes on to a file and hashes them: no second pass, no copy in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what writers that died left behind."""
    for path in folder.glob(".*.tmp-*"):
        number = path.name.rpartition("-")[2]
        if not (number.isdigit() and Path(f"/proc/{number}").exists()):
            path.unlink(missing_ok=True)


class VerifiedCheckpointIO(CheckpointIO):
    """Atomic, durable and verified files for the Lightning trainer."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`; on any failure the old file stays as it was.

        Raises:
            OSError: the file cannot be written; the message tells the free space.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        try:
            with open(temporary, "wb") as file:
                writer = _HashingWriter(file)
                torch.save(checkpoint, writer)  # type: ignore[arg-type]
                file.write(MAGIC + writer.sha.digest())
                file.flush()
                os.fsync(file.fileno())
            if path.name == "last.ckpt" and path.exists():
                os.replace(path, path.with_name("previous.ckpt"))
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free >> 20
            raise OSError(f"cannot write {path} ({error}); {free} MiB are free there") from error

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Verify and read a file; tensors and primitives only, whatever `weights_only` says."""
        return read(Path(path), map_location=map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a file that is no longer wanted."""
        Path(path).unlink(missing_ok=True)


def verify(path: Path) -> None:
    """Raise CheckpointCorruptError unless `path` is whole, byte for byte, as it was written."""
    if not path.is_file():
        raise CheckpointCorruptError(path, "no such file")
    left = path.stat().st_size - TRAILER
    if left <= 0:
        raise CheckpointCorruptError(path, f"{path.stat().st_size} bytes, too short")
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            sha.update(block)
            left -= len(block)
        trailer = file.read()
    if not trailer.startswith(MAGIC):
        raise CheckpointCorruptError(path, "no checksum at its end (cut off, or not ours)")
    if trailer[len(MAGIC) :] != sha.digest():
        raise CheckpointCorruptError(path, "checksum differs (damaged bytes)")


def read(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A verified checkpoint as a dict of tensors and primitives; nothing in it is executed."""
    verify(path)
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a whole but foreign file can make the reader raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointCorruptError(path, f"refused ({reason})") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointCorruptError(path, f"holds a {type(checkpoint).__name__}, expected a dict")
    return checkpoint


def newest_sound(folder: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint of `folder` with the most steps that verifies, and why others were passed over.

    The step that a file holds decides, then the time of writing: a clock that was set back must not
    bring an old file to the front.
    """
    passed: list[str] = []
    for path in sorted(folder.glob("*.ckpt"), key=_age, reverse=True):
        try:
            verify(path)
            return path, passed
        except CheckpointCorruptError as error:
            passed.append(f"{path.name}: {error.reason}")
    return None, passed


def _age(path: Path) -> tuple[int, int]:
    """Steps and time of a file; one that cannot be read is looked at first, to be reported."""
    try:
        step = int(torch.load(path, mmap=True, weights_only=True)["global_step"])
    except Exception:
        step = sys.maxsize
    return step, path.stat().st_mtime_ns
