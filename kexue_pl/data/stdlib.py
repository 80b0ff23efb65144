"""The sources of this Python's own standard library: long real text that every user has."""

from __future__ import annotations

import hashlib
import platform
import random
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from kexue_pl.data.masked_text import MaskedText, Split
from kexue_pl.documents import Documents

__all__ = ["Stdlib"]

_LEFT_OUT = {"site-packages", "dist-packages", "encodings", "__pycache__", "idlelib", "lib2to3"}


class Stdlib(MaskedText):
    """Masked language modelling on the Python standard library, split by file.

    Encoding tables and files below 2,000 characters are left out; 5 % of the files each are
    validation and test. The split depends on the names of the files alone, the text on the version
    of Python, so figures compare within one version. Takes the arguments of :class:`MaskedText`.
    """

    files: Mapping[str, list[Path]] = MappingProxyType({})
    """Paths of each split, found in :meth:`setup`."""

    def setup(self, stage: str) -> None:
        """Find the files and split them."""
        if self.files:
            return
        root = Path(sysconfig.get_paths()["stdlib"])
        paths = [
            path
            for path in sorted(root.rglob("*.py"))
            if not _LEFT_OUT & set(path.relative_to(root).parts) and path.stat().st_size > 2000
        ]
        if len(paths) < 40:
            raise ValueError(f"data=stdlib: only {len(paths)} sources in {root}; use data=text")
        random.Random(0).shuffle(paths)
        part = len(paths) // 20
        self.files = {
            "test": paths[:part],
            "valid": paths[part : 2 * part],
            "train": paths[2 * part :],
        }

    def documents(self, split: Split) -> Documents:
        """Sources of a split, cut at 60,000 characters."""
        return self._documents(self.files[split])

    def sample(self) -> Documents:
        """Forty training sources, enough for a small vocabulary."""
        return self._documents(self.files["train"][:40])

    def _documents(self, paths: list[Path]) -> Documents:
        def read() -> Iterator[str]:
            for path in paths:
                yield path.read_text(encoding="utf-8", errors="ignore")[:60_000]

        facts = [(str(path), path.stat().st_size) for path in paths]
        key = hashlib.sha256(f"{platform.python_version()} {facts}".encode()).hexdigest()
        return Documents(read, key, self.cache_dir)
