"""The peers of the prefix index: nested dicts, GENRE's trie, marisa-trie with children on top.

Keys are those of a stored ``PrefixIndex``, as token ids; ``build`` counts from lists of ids, which a peer
still has to make from the file, to a structure ready for questions.
"""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHORTEST, STEPS = 12, 10


class NestedDict:
    """The article's tree: dicts of dicts, keys as text for JSON."""

    def __init__(self, keys: list[list[int]]) -> None:
        self.root: dict[str, Any] = {}
        for key in keys:
            node = self.root
            for token in key:
                node = node.setdefault(str(token), {})

    def allowed(self, prefix: list[int]) -> list[int]:
        """Next tokens of a prefix, walked from the root."""
        node = self.root
        for token in prefix:
            node = node[str(token)]
        return [int(token) for token in node]

    def save(self, path: Path) -> None:
        """As the article does."""
        path.write_text(json.dumps(self.root), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> NestedDict:
        """Back from JSON."""
        out = cls([])
        out.root = json.loads(path.read_text(encoding="utf-8"))
        return out


class GenreTrie:
    """Nested dicts of ids with recursion over list slices, as GENRE's ``Trie`` (arXiv 2010.00904)."""

    def __init__(self, keys: list[list[int]]) -> None:
        self.root: dict[int, Any] = {}
        for key in keys:
            self._add(key, self.root)

    def _add(self, key: list[int], node: dict[int, Any]) -> None:
        if key:
            self._add(key[1:], node.setdefault(key[0], {}))

    def allowed(self, prefix: list[int]) -> list[int]:
        """Next tokens of a prefix."""
        return self._get(prefix, self.root)

    def _get(self, prefix: list[int], node: dict[int, Any]) -> list[int]:
        if not prefix:
            return list(node)
        return self._get(prefix[1:], node[prefix[0]]) if prefix[0] in node else []

    def save(self, path: Path) -> None:
        """Pickled."""
        path.write_bytes(pickle.dumps(self.root))

    @classmethod
    def load(cls, path: Path) -> GenreTrie:
        """Back from a pickle that this program wrote itself."""
        out = cls([])
        out.root = pickle.loads(path.read_bytes())
        return out


class MarisaTrie:
    """marisa-trie over characters, children by listing the keys below, as GENRE's ``MarisaTrie``."""

    FIRST = 0x4E00

    def __init__(self, keys: list[list[int]]) -> None:
        import marisa_trie

        texts = ("".join(chr(self.FIRST + t) for t in key) for key in keys)
        self.trie = marisa_trie.Trie(texts)
        self.first = sorted({key[0] for key in keys})

    def allowed(self, prefix: list[int]) -> list[int]:
        """Next tokens of a prefix; those of the empty one are kept in a list."""
        if not prefix:
            return self.first
        text = "".join(chr(self.FIRST + t) for t in prefix)
        at = len(text)
        below = {k[at] for k in self.trie.iterkeys(text) if len(k) > at}
        return [ord(c) - self.FIRST for c in below]

    def save(self, path: Path) -> None:
        """Its own format."""
        self.trie.save(str(path))

    @classmethod
    def load(cls, path: Path) -> MarisaTrie:
        """Mapped into memory."""
        import marisa_trie

        out = cls.__new__(cls)
        out.trie, out.first = marisa_trie.Trie().mmap(str(path)), []
        return out


PEERS: dict[str, Any] = {
    "nested dict": NestedDict, "GENRE trie": GenreTrie, "marisa-trie": MarisaTrie
}  # fmt: skip


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time, and what the call gave."""
    start = time.thread_time_ns()
    out = call()
    return (time.thread_time_ns() - start) / 1e9, out


def measure(name: str, folder: Path, *, walks: int, beams: int) -> dict[str, float]:
    """Build, memory, size, load and steps of one peer on the keys of ``folder/index``."""
    from kexue_pl.retrieval import PrefixIndex

    index = PrefixIndex.load(folder / "index")
    keys = [index.key(row) for row in range(len(index))]
    before = resident_mb()
    build, peer = timed(lambda: PEERS[name](keys))
    memory, path = resident_mb() - before, folder / f"{name}.bin"
    peer.save(path)
    rng = np.random.default_rng(0)
    steps = np.array([walk(peer, keys, beams, rng) for _ in range(walks)])
    del peer
    load, _ = timed(lambda: PEERS[name].load(path))
    figures = {"build": build, "memory": memory, "disk": path.stat().st_size / 1e6, "load": load}
    figures |= {f"step {i}": float(np.median(steps[:, i])) for i in (0, 1)}
    return figures | {"steps 2-9": float(np.median(steps[:, 2:]))}


def walk(peer: Any, keys: list[list[int]], beams: int, rng: np.random.Generator) -> list[float]:
    """Microseconds of each step: the allowed tokens of every beam."""
    chosen: list[list[int]] = []
    while len(chosen) < beams:
        key = keys[int(rng.integers(len(keys)))]
        if len(key) >= SHORTEST:
            chosen.append(key)
    times = []
    for step in range(STEPS):
        prefixes = [key[:step] for key in chosen]
        seconds, allowed = timed(lambda: [peer.allowed(p) for p in prefixes])  # noqa: B023
        assert all(key[step] in found for key, found in zip(chosen, allowed, strict=True))
        times.append(1e6 * seconds)
    return times
