"""Sorted pools and rows: what lies under a range of them, vectorised over beams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval.beam_state import BeamState, Children, Ints
from kexue_pl.retrieval.kernels import Kernels
from kexue_pl.retrieval.strings import Strings, ragged_ranges

# A linear look at every row of the ranges beats splitting them up to about this many rows a beam.
LINEAR_ROWS = 64
ROOM = 4096  # children a compiled pass makes room for at first
TOKEN_BITS = 32  # a beam and a token in one integer


class SortedRows:
    """K pools of distinct strings, each sorted, and the rows sorted by their ranks in the pools.

    Args:
        arrays: ``tok`` (T,) tokens of all pools, each string with ``separator`` behind it, ``off``
            (N + 1,) string offsets, ``base`` (K + 1,) first string of each pool, ``indptr`` (N0 +
            1,) rows of each string of pool 0, ``ids`` (K - 1, R) rank of each row in pools 1 … K -
            1.
        separator: token that stands for the end of a string; it sorts before every other token.
    """

    def __init__(self, arrays: dict[str, NDArray[Any]], separator: int) -> None:
        self.arrays, self.separator = arrays, separator
        self.tok, self.off = arrays["tok"], arrays["off"]
        self.base, self.indptr = arrays["base"].astype(np.int64), arrays["indptr"]
        self._flat_ids = arrays["ids"].reshape(-1)
        self.segments = len(self.base) - 1
        self.rows = int(self.indptr[-1])
        self.kernels: Kernels | None = None
        # Where the ranks of a segment begin in ``ids`` laid end to end.
        self._column = (np.arange(self.segments + 1) - 1) * self.rows

    def leaves(self, state: BeamState) -> tuple[Ints, Ints]:
        """Range of sorted rows (lo, hi) under each beam; ``hi - lo`` is the leaf count."""
        return self.rows_of(state.segment, state.lo), self.rows_of(state.segment, state.hi)

    def rows_of(self, segment: Ints, position: Ints) -> Ints:
        """Positions as rows: those of segment 0 are numbers of names."""
        if segment.all():
            return position
        names = segment == 0
        converted = self.indptr[np.where(names, position, 0)].astype(np.int64)
        return np.where(names, converted, position)

    def token_at(self, segment: Ints, depth: Ints, at: Ints) -> Ints:
        """Token number ``depth`` of the string that position ``at`` shows in ``segment``."""
        return self._tokens(segment, depth, at, None)

    def _tokens(self, segment: Ints, depth: Ints, at: Ints, beam: Ints | None) -> Ints:
        """``token_at`` of positions; of beam ``beam`` each, where segment and depth are by beam."""
        if not segment.any():
            string = at
        elif segment.all():
            string = self._flat_ids.take(at + _spread(self._column.take(segment), beam))
            string = string + _spread(self.base.take(segment), beam)
        else:
            past = _spread(segment > 0, beam)
            place = at + _spread(self._column.take(segment), beam)
            string = self._flat_ids.take(np.where(past, place, 0)) + _spread(
                self.base.take(segment), beam
            )
            string = np.where(past, string, at)
        return np.asarray(self.tok.take(self.off.take(string) + _spread(depth, beam)))

    def children(self, state: BeamState) -> Children:
        """Runs of equal tokens in the range of every beam."""
        if self.kernels is not None:
            return self._compiled_children(self.kernels, state, ROOM)
        segment, width = state.segment, state.hi - state.lo
        if int(segment.max(initial=0)) >= self.segments:
            width[segment >= self.segments] = 0
        ends = width.cumsum()
        if (int(ends[-1]) if len(ends) else 0) <= LINEAR_ROWS * max(64, len(width)):
            return self._runs_linear(state, width, ends)
        return self._runs_split(state, width)

    def _compiled_children(self, kernels: Kernels, state: BeamState, room: int) -> Children:
        """The same by galloping over each range, in one compiled pass."""
        ptr = np.empty(len(state.lo) + 1, np.int64)
        out = np.empty((4, room), np.int64)
        sources = (self.tok, self.off, self.base, self.arrays["ids"])
        count = kernels.children(*sources, *state, ptr, out)
        if count > room:
            return self._compiled_children(kernels, state, count)
        beam, token, lo, hi = out[:, :count]
        return Children(ptr, beam, token, lo, hi, self.counter(state.segment))

    def _runs_linear(self, state: BeamState, width: Ints, ends: Ints) -> Children:
        """By looking at every row."""
        size = len(width)
        beam = np.arange(size).repeat(width)
        at = np.arange(len(beam)) + (state.lo - ends + width).take(beam)
        depth, segment = state.depth, state.segment
        token = self._tokens(np.minimum(segment, self.segments - 1), depth, at, beam)
        mark = token + (beam << TOKEN_BITS)
        new = np.empty(len(mark) + 1, bool)
        new[:1] = new[-1:] = True
        np.not_equal(mark[1:], mark[:-1], out=new[1:-1])
        start = new.nonzero()[0]
        first = start[:-1]
        beam, lo = beam.take(first), at.take(first)
        ptr = beam.searchsorted(np.arange(size + 1))
        hi = lo + (start[1:] - first)
        return Children(
            ptr, beam, token.take(first).astype(np.int64), lo, hi, self.counter(segment)
        )

    def counter(self, segment: Ints) -> Callable[[Children], Ints]:
        """What counts the rows under children of beams in these segments."""

        def rows(children: Children) -> Ints:
            of = segment[children.beam]
            return self.rows_of(of, children.hi) - self.rows_of(of, children.lo)

        return rows

    def _runs_split(self, state: BeamState, width: Ints) -> Children:
        """By halving every interval whose two ends differ: O(children · log rows)."""
        beam = np.flatnonzero(width > 0)
        left, right = state.lo[beam], state.hi[beam] - 1
        segment, depth = state.segment, state.depth
        first = self.token_at(segment[beam], depth[beam], left)
        last = self.token_at(segment[beam], depth[beam], right)
        found = [(beam, left, first)]
        while True:
            open_ = first != last
            beam, left, right, first, last = (x[open_] for x in (beam, left, right, first, last))
            if len(beam) == 0:
                break
            near = right - left == 1
            found.append((beam[near], right[near], last[near]))
            beam, left, right, first, last = (x[~near] for x in (beam, left, right, first, last))
            middle = (left + right) >> 1
            token = self.token_at(segment[beam], depth[beam], middle)
            beam = np.concatenate([beam, beam])
            left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
            first, last = np.concatenate([first, token]), np.concatenate([token, last])
        beam, at, token = (np.concatenate(x) for x in zip(*found, strict=True))
        order = np.lexsort((at, beam))
        beam, at, token = beam[order], at[order], token[order].astype(np.int64)
        ptr = beam.searchsorted(np.arange(len(width) + 1))
        hi = np.empty_like(at)
        hi[:-1] = at[1:]
        hi[ptr[1:][width > 0] - 1] = state.hi[width > 0]
        return Children(ptr, beam, token, at, hi, self.counter(segment))

    def bound(self, state: BeamState, tokens: Ints, *, right: bool) -> Ints:
        """First position of each range whose token is >= (or > when ``right``) the wanted one."""
        complete = state.segment >= self.segments
        lo, hi = state.lo.copy(), np.where(complete, state.lo, state.hi)
        segment = np.minimum(state.segment, self.segments - 1)
        # The separator comes first, as -1; a negative number is no token and comes before all.
        wanted = np.where(tokens == self.separator, -1, np.where(tokens < 0, -2, tokens))
        while True:
            active = np.flatnonzero(lo < hi)
            if len(active) == 0:
                return lo
            middle = (lo[active] + hi[active]) >> 1
            token = self.token_at(segment[active], state.depth[active], middle).astype(np.int64)
            token[token == self.separator] = -1
            up = token <= wanted[active] if right else token < wanted[active]
            lo[active] = np.where(up, middle + 1, lo[active])
            hi[active] = np.where(up, hi[active], middle)

    def segment_strings(self, segment: int, rows: Ints) -> Strings:
        """Token strings of one segment (1 … K - 1) of the given rows."""
        string = self.base[segment] + self.arrays["ids"][segment - 1, rows].astype(np.int64)
        return self.pool_strings(string)

    def pool_strings(self, strings: Ints) -> Strings:
        """Token strings by their number among all pools."""
        start = self.off[strings].astype(np.int64)
        lengths = self.off[strings + 1].astype(np.int64) - start - 1
        offsets = np.zeros(len(strings) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Strings(self.tok[ragged_ranges(start, lengths)].astype(np.int64), offsets)

    def suffixes(self, state: BeamState) -> Strings:
        """What is left to write under each row of each beam, without the last separator.

        Beams must be past segment 0; the strings come beam by beam, row by row.
        """
        lo, hi = self.leaves(state)
        width = hi - lo
        row = ragged_ranges(lo, width)
        segment, depth = np.repeat(state.segment, width), np.repeat(state.depth, width)
        pieces, lengths = [], []
        for k in range(1, self.segments):
            string = self.base[k] + self.arrays["ids"][k - 1, row].astype(np.int64)
            start, end = (self.off[string + k].astype(np.int64) - k for k in (0, 1))
            start = start + np.where(segment == k, depth, 0)
            size = np.where(segment > k, 0, end - start)
            pieces.append(start)
            lengths.append(size + ((segment <= k) & (k < self.segments - 1)))
        return self._join(pieces, lengths, row, segment)

    def _join(self, starts: list[Ints], lengths: list[Ints], row: Ints, segment: Ints) -> Strings:
        total = np.sum(lengths, axis=0) if lengths else np.zeros(len(row), np.int64)
        offsets = np.zeros(len(row) + 1, np.int64)
        np.cumsum(total, out=offsets[1:])
        flat = np.full(int(offsets[-1]), self.separator, np.int64)
        at = offsets[:-1].copy()
        for k, (start, length) in enumerate(zip(starts, lengths, strict=True), 1):
            own = length - ((segment <= k) & (k < self.segments - 1))
            flat[ragged_ranges(at, own)] = self.tok[ragged_ranges(start, own)]
            at += length
        return Strings(flat, offsets)


def _spread(by_beam: NDArray[Any], beam: Ints | None) -> NDArray[Any]:
    return by_beam if beam is None else by_beam.take(beam)
