"""Small files of a run, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from kexue_pl.run.errors import RunError

__all__ = ["hold", "read_json", "write_json", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text through a temporary file and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; NaN becomes null, for readers that are strict."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def read_json(path: Path) -> Any:
    """The value of a JSON file; None where it is absent or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def hold(folder: Path, patience: float = 60.0, setting: str = "paths.output_dir") -> Iterator[None]:
    """Hold a run directory against a second run; the system lets go when this process dies.

    Args:
        folder: the run directory.
        patience: seconds to wait for a run that is ending.
        setting: what chooses another folder, for the message.

    Raises:
        RunError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    end = time.monotonic() + patience
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise RunError(
                        f"{folder}: process {_holder(file)} is writing there; wait for it or end it, "
                        f"or choose another {setting}"
                    ) from error
                time.sleep(0.2)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"
