"""Pairs on disk: checked and tokenized once in bounded memory, read through memory maps."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kexue_pl.data.encoded import EncodedPairs, Ragged
from kexue_pl.reading.table import Row

__all__ = ["PairStore", "stored"]

CHUNK = 4096  # rows tokenized at once


class PairStore(EncodedPairs):
    """Encoded pairs whose arrays are memory maps, and the place of each row in its file.

    Per row on disk: the tokens (2 bytes each where the vocabulary allows), 8 bytes of offset a
    text, 4 of the label, 8 of the line. In memory: what the system keeps of the maps.

    Args:
        parts: as in :class:`EncodedPairs`.
        labels: (N,) float32, None where there are none.
        lines: (N,) line of each row.
        sources: (first row, name) of each file.
        facts: counts that were made on the way.
    """

    def __init__(
        self,
        parts: dict[str, Ragged],
        labels: np.ndarray | None,
        lines: np.ndarray,
        sources: list[tuple[int, str]],
        facts: dict[str, int],
    ) -> None:
        super().__init__(parts, labels)
        object.__setattr__(self, "lines", lines)
        object.__setattr__(self, "sources", sources)
        object.__setattr__(self, "facts", facts)

    lines: np.ndarray
    sources: list[tuple[int, str]]
    facts: dict[str, int]

    def where(self, row: int) -> str:
        """``FILE:LINE`` of a row."""
        at = bisect_right(self.sources, row, key=lambda source: source[0]) - 1
        return f"{self.sources[at][1]}:{int(self.lines[row])}"


def stored(
    folder: Path | None,
    key: str,
    rows: Callable[[], Iterable[Row]],
    encode: Callable[[list[Row]], dict[str, Ragged]],
    facts: Callable[[], dict[str, int]],
    *,
    wide: bool,
) -> PairStore:
    """The store of ``key``, made if it is not there yet; of several processes one makes it.

    Args:
        folder: cache; None takes the folder of temporary files.
        key: changes whenever rows or tokens would.
        rows: the checked rows.
        encode: token ids of a few rows, by part.
        facts: counts to keep with the store, asked for when all rows were read.
        wide: four bytes a token instead of two.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"kexue_pl-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"pairs-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path / "facts.json").is_file():
            draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=folder))
            try:
                _write(draft, rows(), encode, facts, wide)
                os.replace(draft, path)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return _open(path)


def _write(
    folder: Path,
    rows: Iterable[Row],
    encode: Callable[[list[Row]], dict[str, Ragged]],
    facts: Callable[[], dict[str, int]],
    wide: bool,
) -> None:
    sources: list[tuple[int, str]] = []
    count, labelled = 0, 0
    starts: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        files: dict[str, Any] = {}

        def put(name: str, values: np.ndarray) -> None:
            if name not in files:
                files[name] = stack.enter_context(open(folder / name, "wb"))
            values.tofile(files[name])

        for chunk in _chunks(rows):
            for number, row in enumerate(chunk, count):
                if not sources or sources[-1][1] != row.source:
                    sources.append((number, row.source))
            for name, part in encode(chunk).items():
                first = starts.setdefault(name, 0)
                if not first and not count:
                    put(f"{name}.starts", np.zeros(1, np.int64))
                put(f"{name}.starts", part.starts[1:] + first)
                put(f"{name}.tokens", part.flat.astype(np.uint32 if wide else np.uint16))
                starts[name] = first + int(part.starts[-1])
            labels = [row.values.get("label") for row in chunk]
            labelled += sum(label is not None for label in labels)
            put("labels", np.array([np.nan if x is None else x for x in labels], np.float32))
            put("lines", np.array([row.line for row in chunk], np.int64))
            count += len(chunk)
    names = list(starts)
    found = {"names": names, "wide": wide, "labelled": labelled, "sources": sources}
    text = json.dumps({**found, "rows": count, "counts": facts()})
    (folder / "facts.json").write_text(text, encoding="utf-8")


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def _open(path: Path) -> PairStore:
    found = json.loads((path / "facts.json").read_text(encoding="utf-8"))

    def array(name: str, dtype: Any) -> np.ndarray:
        if not (path / name).stat().st_size:
            return np.zeros(0, dtype)
        # A plain view: rows cut from it are plain arrays, not maps of their own.
        return np.asarray(np.memmap(path / name, dtype, mode="r"))

    token = np.uint32 if found["wide"] else np.uint16
    parts = {
        name: Ragged(array(f"{name}.tokens", token), array(f"{name}.starts", np.int64))
        for name in found["names"]
    }
    labels = array("labels", np.float32) if found["labelled"] else None
    sources = [(int(first), str(name)) for first, name in found["sources"]]
    return PairStore(parts, labels, array("lines", np.int64), sources, dict(found["counts"]))
