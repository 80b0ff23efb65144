"""Digests of the files a run learns from, so that a resumed run notices when one was replaced."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from kexue_pl.run.errors import RunError

__all__ = ["check_sources", "file_digest", "sources"]

BLOCK = 1 << 20
WHOLE = 1 << 30
WRITTEN = ("bad_rows",)  # files that the data writes, not reads


def file_digest(path: Path, whole: int = WHOLE) -> str:
    """SHA-256 of a file; of one longer than `whole` bytes, of its length and 1,024 even blocks.

    A folder is the digest of its files in order of their names.
    """
    sha = hashlib.sha256()
    if path.is_dir():
        for inside in sorted(p for p in path.rglob("*") if p.is_file()):
            sha.update(f"{inside.relative_to(path)} {file_digest(inside, whole)}\n".encode())
        return sha.hexdigest()
    size = path.stat().st_size
    sha.update(str(size).encode())
    step = BLOCK if size <= whole else max(BLOCK, size // 1024)
    with open(path, "rb") as file:
        for start in range(0, size, step):
            file.seek(start)
            sha.update(file.read(BLOCK))
    return sha.hexdigest()


def sources(data: dict[str, Any]) -> dict[str, str]:
    """Digest by path of each file or folder that the settings of the data name."""
    found: dict[str, str] = {}
    for key, value in data.items():
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and name and key not in WRITTEN and _is_there(name):
                found[name] = file_digest(Path(name))
    return found


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists() and Path(name).resolve() != Path.cwd()
    except OSError:  # a text too long to be a path
        return False


def check_sources(old: dict[str, str], new: dict[str, str], checkpoint: str) -> None:
    """Refuse to resume where a file differs from what it was.

    Raises:
        RunError: naming the file.
    """
    changed = [name for name in old if new.get(name) != old[name]]
    if changed:
        what = "changed" if changed[0] in new else "is gone"
        raise RunError(
            f"resume: {changed[0]} {what} since {checkpoint} was written; put the old file back, "
            "or start anew with resume=never"
        )
