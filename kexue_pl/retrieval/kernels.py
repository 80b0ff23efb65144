"""Compiled loops of the prefix index (extra ``fast``, numba); each gives what the numpy passes give."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

WORTH = 1_000_000  # rows of a base from where compiling pays in a run of some thousand questions
NARROW = 16  # rows of a range that is read as a whole


class Kernels(NamedTuple):
    """The compiled loops over the arrays of ``SortedRows``."""

    children: Callable[..., int]
    copy: Callable[..., None]
    choose: Callable[..., None]
    exponents: Callable[..., None]


def _children(find: Callable[..., Any]) -> Callable[..., int]:
    def children(
        tok: Any, off: Any, base: Any, ids: Any, segment: Any, depth: Any, lo: Any, hi: Any,
        ptr: Any, out: Any,
    ) -> int:  # fmt: skip
        """Runs of equal tokens of every beam; the children there are, more than fit if above the room.

        ``out`` (4, room) holds their beam, token and range. Tokens of narrow ranges are read beforehand:
        a loop of independent reads waits for memory once, where a search would wait at every probe.
        """
        count, room, segments, rows = 0, out.shape[1], len(base) - 1, ids.shape[1]
        seen, flat = np.empty((len(segment), NARROW), np.int64), ids.reshape(-1)
        for b in range(len(segment)):
            if segment[b] < segments and hi[b] - lo[b] <= NARROW:
                shift = (segment[b] - 1) * rows
                for k in range(hi[b] - lo[b]):
                    at = lo[b] + k
                    string = base[segment[b]] + np.int64(flat[shift + at]) if segment[b] else at
                    seen[b, k] = tok[np.int64(off[string]) + depth[b]]
        ptr[0] = 0
        for b in range(len(segment)):
            at, end = lo[b], hi[b] if segment[b] < segments else lo[b]
            while at < end:
                if end - lo[b] <= NARROW:
                    t, bad = seen[b, at - lo[b]], at + 1
                    while bad < end and seen[b, bad - lo[b]] == t:
                        bad += 1
                else:
                    t, bad = find(tok, off, base, flat, rows, segment[b], depth[b], at, end)
                if count < room:
                    out[0, count], out[1, count], out[2, count], out[3, count] = b, t, at, bad
                count += 1
                at = bad
            ptr[b + 1] = count
        return count

    return children


def _find(
    tok: Any, off: Any, base: Any, flat: Any, rows: int, s: int, d: int, at: int, end: int
) -> tuple[Any, Any]:
    """Token at position ``at`` and the end of its run, by galloping and then halving."""
    shift, named = (s - 1) * rows, s == 0
    string = at if named else base[s] + np.int64(flat[shift + at])
    t = np.int64(tok[np.int64(off[string]) + d])
    good, bad, step = at, end, 1
    while good + step < end:
        probe = good + step
        string = probe if named else base[s] + np.int64(flat[shift + probe])
        if tok[np.int64(off[string]) + d] != t:
            bad = probe
            break
        good = probe
        step <<= 1
    while bad - good > 1:
        probe = (good + bad) >> 1
        string = probe if named else base[s] + np.int64(flat[shift + probe])
        if tok[np.int64(off[string]) + d] == t:
            good = probe
        else:
            bad = probe
    return t, bad


def _copy(
    table_ptr: Any, table_token: Any, table_lo: Any, table_hi: Any, slot: Any,
    ptr: Any, out: Any,
) -> None:  # fmt: skip
    """The children (4, C) of some nodes of a table, one a beam; ``ptr`` is given."""
    for b in range(len(slot)):
        count, source = ptr[b], table_ptr[slot[b]]
        for k in range(ptr[b + 1] - ptr[b]):
            out[0, count + k] = b
            out[1, count + k] = table_token[source + k]
            out[2, count + k] = table_lo[source + k]
            out[3, count + k] = table_hi[source + k]


def _choose(
    segment: Any, depth: Any, beam: Any, token: Any, lo: Any, hi: Any, picks: Any, indptr: Any,
    separator: int, out: Any,
) -> None:  # fmt: skip
    """States (4, N) after taking the children ``picks``."""
    for i in range(len(picks)):
        k = picks[i]
        parent = beam[k]
        out[0, i], out[1, i] = segment[parent], depth[parent] + 1
        out[2, i], out[3, i] = lo[k], hi[k]
        if token[k] == separator:
            if segment[parent] == 0:
                out[2, i], out[3, i] = indptr[lo[k]], indptr[hi[k]]
            out[0, i] += 1
            out[1, i] = 0


def _exponents(ones: Callable[[Any], Any]) -> Callable[..., None]:
    def exponents(
        tok: Any, off: Any, base: Any, ids: Any, segment: Any, depth: Any, question: Any, rows: Any,
        masks: Any, slot: Any, columns: Any, most: int, ptr: Any, lo: Any, hi: Any, out: Any,
    ) -> None:  # fmt: skip
        """n(c) of every child; rows (N,), masks (B, D + 1) and out (C,), which holds ones."""
        one, full = np.uint64(1), ~np.uint64(0)
        segments = len(base) - 1
        for b in range(len(segment)):
            s, q, width = segment[b], question[b], ptr[b + 1] - ptr[b]
            if s < 1 or s >= segments or width < 2 or hi[ptr[b + 1] - 1] - lo[ptr[b]] > most:
                continue
            used = full if columns[q] >= 64 else (one << np.uint64(columns[q])) - one
            before = ones(~rows[b] & used)
            for c in range(ptr[b], ptr[b + 1]):
                best = 0
                for row in range(lo[c], hi[c]):
                    x = rows[b]
                    for k in range(s, segments):
                        string = base[k] + np.int64(ids[k - 1, row])
                        start = np.int64(off[string]) + (depth[b] if k == s else 0)
                        end = np.int64(off[string + 1]) - (1 if k == segments - 1 else 0)
                        for at in range(start, end):
                            match = masks[q, slot[tok[at]]]
                            taken = x & match
                            x = (x + taken) | (x & ~match)
                    best = max(best, ones(~x & used) - before)
                out[c] = 1 + best

    return exponents


def _ones(x: Any) -> Any:
    """Bits that are one: sums of pairs, of fours, of bytes, then of all bytes."""
    pairs, fours = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
    x = x - ((x >> np.uint64(1)) & pairs)
    x = (x & fours) + ((x >> np.uint64(2)) & fours)
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


def wanted(choice: bool | str, rows: int) -> bool:
    """Whether to compile for a base of ``rows`` rows; "auto": a large one, and numba is there.

    Raises:
        ValueError: another choice.

    Example:
        >>> wanted(True, 10), wanted(False, 10**9), wanted("auto", 10)
        (True, False, False)
    """
    if choice == "auto":
        return rows >= WORTH and find_spec("numba") is not None
    if not isinstance(choice, bool):
        raise ValueError(f"task.compiled={choice!r}: true, false or auto is accepted")
    return choice


@lru_cache(maxsize=1)
def kernels() -> Kernels:
    """Compile on the first call of each (seconds).

    Raises:
        ModuleNotFoundError: numba is not installed, naming the remedy.
    """
    try:
        from numba import njit  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "task.compiled=true needs numba: pip install 'kexue_pl[fast]', or set "
            "task.compiled=auto"
        ) from error
    exponents = njit(_exponents(njit(_ones)))
    return Kernels(
        njit(_children(njit(_find, inline="always"))), njit(_copy), njit(_choose), exponents
    )
