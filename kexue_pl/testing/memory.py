"""Peak of the resident memory of this process over a stretch of it, as Linux counts it.

A process started by another inherits the peak of that other in ``resource.getrusage``; here the count
begins anew. What was freed but not yet given back to the system would hide what is allocated next: it
is given back first (glibc).
"""

from __future__ import annotations

import ctypes
from pathlib import Path

__all__ = ["highest_memory", "watch_memory"]

PROCESS = Path("/proc/self")


def watch_memory() -> float:
    """Begin the count; resident memory now, MiB.

    Raises:
        OSError: the system has no such files (only Linux does).
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    (PROCESS / "clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def highest_memory() -> float:
    """The most since ``watch_memory``, MiB."""
    return _status("VmHWM")


def _status(field: str) -> float:
    lines = (PROCESS / "status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))
