"""Compiled loops of the prefix index (extra ``fast``, numba); each gives what the numpy passes give."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np


class Kernels(NamedTuple):
    """The compiled loops over the arrays of ``SortedRows``."""

    children: Callable[..., int]
    copy: Callable[..., None]
    choose: Callable[..., None]
    exponents: Callable[..., None]


def _children(
    tok: Any, off: Any, base: Any, ids: Any, segment: Any, depth: Any, lo: Any, hi: Any,
    ptr: Any, beam: Any, token: Any, first: Any, last: Any,
) -> int:  # fmt: skip
    """Runs of equal tokens of every beam; the children there are, more than fit if above the room."""
    count, room, segments, rows = 0, len(token), len(base) - 1, ids.shape[1]
    flat = ids.reshape(-1)
    ptr[0] = 0
    for b in range(len(segment)):
        s, d, at, end = segment[b], depth[b], lo[b], hi[b]
        shift, string, named = (s - 1) * rows, np.int64(0), s == 0
        while s < segments and at < end:
            string = at if named else base[s] + np.int64(flat[shift + at])
            t = tok[np.int64(off[string]) + d]
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
            if count < room:
                beam[count], token[count], first[count], last[count] = b, t, at, bad
            count += 1
            at = bad
        ptr[b + 1] = count
    return count


def _copy(
    table_ptr: Any, table_token: Any, table_lo: Any, table_hi: Any, slot: Any,
    ptr: Any, beam: Any, token: Any, lo: Any, hi: Any,
) -> None:  # fmt: skip
    """The children of some nodes of a table, one a beam; ``ptr`` is given."""
    for b in range(len(slot)):
        count, source = ptr[b], table_ptr[slot[b]]
        for k in range(ptr[b + 1] - ptr[b]):
            beam[count + k] = b
            token[count + k] = table_token[source + k]
            lo[count + k] = table_lo[source + k]
            hi[count + k] = table_hi[source + k]


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


def _exponents(ones: Callable[[Any], int]) -> Callable[..., None]:
    def exponents(
        tok: Any, off: Any, base: Any, ids: Any, segment: Any, depth: Any, question: Any, rows: Any,
        masks: Any, columns: Any, most: int, ptr: Any, lo: Any, hi: Any, out: Any,
    ) -> None:  # fmt: skip
        """n(c) of every child; rows (N,), masks (B, V) and out (C,), which holds ones."""
        one, full = np.uint64(1), ~np.uint64(0)
        segments = len(base) - 1
        for b in range(len(segment)):
            s, q, width = segment[b], question[b], ptr[b + 1] - ptr[b]
            if s < 1 or s >= segments or width < 2 or hi[ptr[b + 1] - 1] - lo[ptr[b]] > most:
                continue
            used = full if columns[q] >= 64 else (one << np.uint64(columns[q])) - one
            before = np.uint64(~rows[b] & used)
            for c in range(ptr[b], ptr[b + 1]):
                best = 0
                for row in range(lo[c], hi[c]):
                    x = rows[b]
                    for k in range(s, segments):
                        string = base[k] + np.int64(ids[k - 1, row])
                        start = np.int64(off[string]) + (depth[b] if k == s else 0)
                        end = np.int64(off[string + 1]) - (1 if k == segments - 1 else 0)
                        for at in range(start, end):
                            match = masks[q, tok[at]]
                            taken = x & match
                            x = (x + taken) | (x & ~match)
                    gain = ones(~x & used) - ones(before)
                    best = max(best, gain)
                out[c] = 1 + best

    return exponents


def _ones(x: Any) -> int:
    """Bits that are one."""
    count = 0
    while x != np.uint64(0):
        x &= x - np.uint64(1)
        count += 1
    return count


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
            "task.compiled=false"
        ) from error
    exponents = njit(_exponents(njit(_ones)))
    return Kernels(njit(_children), njit(_copy), njit(_choose), exponents)
