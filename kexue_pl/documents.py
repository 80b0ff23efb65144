"""Texts that can be read again, and files that are made of them once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

__all__ = ["Documents", "cached"]


class Documents:
    """Texts that can be read again and again, with a name for what they are.

    Args:
        read: makes a fresh iterator over the texts.
        key: changes whenever the texts do; part of the names of cached files.
        cache: folder for what is made of the texts; None keeps nothing.
    """

    def __init__(
        self, read: Callable[[], Iterable[str]], key: str, cache: Path | None = None
    ) -> None:
        self.read = read
        self.key = key
        self.cache = cache

    def __iter__(self) -> Iterator[str]:
        return iter(self.read())


def cached(folder: Path | None, name: str, make: Callable[[Path], None]) -> Path:
    """The file ``folder/name``, made by ``make(path)`` if it is not there yet.

    The file appears under its name only when it is whole, so processes that make it at the same
    time do no harm to each other. Without a folder it lies among the temporary files.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"kexue_pl-{os.getpid()}"
    path = folder / name
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{name}.{os.getpid()}"
        make(draft)
        os.replace(draft, path)
    return path
