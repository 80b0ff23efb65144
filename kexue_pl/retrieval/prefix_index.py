"""A prefix tree as static sorted arrays, with batched beam states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval.beam_state import BeamState, Children, Ints
from kexue_pl.retrieval.sorted_rows import SortedRows
from kexue_pl.retrieval.strings import Strings
from kexue_pl.retrieval.top_levels import TopLevels

if TYPE_CHECKING:
    from kexue_pl.retrieval.encode import Encode

Value = int | str


@dataclass(frozen=True)
class IndexInfo:
    """What an index knows about its own making; stored beside the arrays.

    Args:
        separator: token id that ends a segment (``[SEP]``).
        tokenizer: fingerprint of the vocabulary the tokens come from, "" when unknown.
        merged: distinct strings that became equal after tokenising (case folding, unknowns).
    """

    separator: int
    tokenizer: str = ""
    merged: int = 0


class PrefixIndex(SortedRows):
    """Keys of K segments, ``S [SEP] P [SEP] M``, retrieved by constrained generation.

    The prefix tree of kexue.fm/archives/8802 without its nodes: one sorted pool of distinct
    strings a segment and the rows sorted by their ranks in those pools. A node is a range of pool
    0 or of rows, its children are the runs of equal tokens inside it, its leaf count is a
    subtraction.

    Args:
        arrays: those of ``SortedRows``, with ``values`` or ``value_bytes`` and ``value_offsets``
            in row order and, optionally, ``text_bytes`` and ``text_offsets`` that show each string.
        info: separator, vocabulary fingerprint, merges.

    Example:
        >>> index = PrefixIndex.build([([5, 2, 8], "a"), ([5, 6, 2, 9], "b")], separator=2)
        >>> state = index.start(1)
        >>> state = index.advance(state, np.array([5]))
        >>> allowed = index.allowed(state)
        >>> allowed.token.tolist(), allowed.counts.tolist()
        ([2, 6], [1, 1])
        >>> index.count([5]), index.values([5, 2, 8])
        (2, ['a'])
    """

    def __init__(self, arrays: dict[str, NDArray[Any]], info: IndexInfo) -> None:
        super().__init__(arrays, info.separator)
        self.info = info
        self._top: TopLevels | None = None

    @staticmethod
    def build(
        items: Iterable[tuple[Sequence[int], Value]], *, separator: int, tokenizer: str = ""
    ) -> PrefixIndex:
        """Index of (token ids, value) pairs; ids are split into segments at ``separator``.

        Every key must have the same number of segments; one separator at the very end of a key
        counts as an empty last segment. Bulk data is built faster by ``build_index``.
        """
        from kexue_pl.retrieval.index_builder import build_from_keys

        return build_from_keys(items, separator=separator, tokenizer=tokenizer)

    @staticmethod
    def from_triples(
        path: str | Path, encode: Encode, *, separator: int, **options: Any
    ) -> PrefixIndex:
        """Index of a TSV, JSONL or Parquet file; see ``triples.index_file`` for the options."""
        from kexue_pl.retrieval.triples import index_file

        return index_file(path, encode, separator=separator, **options)

    def save(self, folder: str | Path) -> Path:
        """Write the index into a folder, atomically."""
        from kexue_pl.retrieval.index_files import save_index

        return save_index(self, folder)

    @staticmethod
    def load(folder: str | Path, *, verify: bool | None = None, tokenizer: str = "") -> PrefixIndex:
        """Map an index of ``save`` into memory; see ``index_files.load_index``."""
        from kexue_pl.retrieval.index_files import load_index

        return load_index(folder, verify=verify, tokenizer=tokenizer)

    def compile(self) -> PrefixIndex:
        """Use compiled loops from now on (extra ``fast``); results stay the same.

        Raises:
            ModuleNotFoundError: numba is not installed.
        """
        from kexue_pl.retrieval.kernels import kernels

        self.kernels, self._top = kernels(), None
        return self

    def __len__(self) -> int:
        return self.rows

    def nbytes(self) -> int:
        """Bytes of all arrays, on disk and mapped."""
        return sum(a.nbytes for a in self.arrays.values())

    # --- beams -----------------------------------------------------------------------------------

    def start(self, batch: int) -> BeamState:
        """State of ``batch`` beams at the root."""
        zero = np.zeros(batch, np.int64)
        return BeamState(zero, zero.copy(), zero.copy(), np.full(batch, self.base[1], np.int64))

    def allowed(self, state: BeamState) -> Children:
        """Children of every beam: none for a complete key.

        The root and the nodes one token below it, the only wide ones, come from a table made once.
        """
        depth = state.depth
        wide = len(depth) and depth.item(0) <= 1 and not state.segment.any()
        if not wide or (depth != depth.item(0)).any():
            return self.children(state)
        if self._top is None:
            self._top = TopLevels(self)
        return self._top.children(state)

    def advance(self, state: BeamState, tokens: Ints) -> BeamState:
        """States after writing ``tokens`` (B,).

        Raises:
            ValueError: a token is not among the children of its beam.
        """
        tokens = np.asarray(tokens, np.int64)
        lo, hi = self.span(state, tokens)
        bad = np.flatnonzero(lo >= hi)
        if len(bad):
            beam = int(bad[0])
            legal = self.allowed(state.take(bad[:1])).token[:8].tolist()
            raise ValueError(
                f"tokens[{beam}] is {int(tokens[beam])}, which does not continue beam {beam}; "
                f"accepted there: {legal}{' …' if len(legal) == 8 else ''}"
            )
        return self.step(state, tokens, lo, hi)

    def step(self, state: BeamState, token: Ints, lo: Ints, hi: Ints) -> BeamState:
        """States one token further, given the child's range; a separator enters the next
        segment.
        """
        ends = token == self.separator
        depth = state.depth + 1
        if not ends.any():
            return BeamState(state.segment, depth, lo, hi)
        depth *= ~ends
        named = (ends & (state.segment == 0)).nonzero()[0]
        if len(named):
            lo, hi = lo.copy(), hi.copy()
            lo[named] = self.indptr.take(lo[named])
            hi[named] = self.indptr.take(hi[named])
        return BeamState(state.segment + ends, depth, lo, hi)

    def span(self, state: BeamState, tokens: Ints) -> tuple[Ints, Ints]:
        """Range (lo, hi) of the child ``tokens`` of each beam, empty where it is not allowed."""
        lo = self.bound(state, tokens, right=False)
        return lo, self.bound(state, tokens, right=True)

    def choose(self, state: BeamState, children: Children, picks: Ints) -> BeamState:
        """States after taking children ``picks`` (B',), indices into the ragged list: a plain
        gather.
        """
        if self.kernels is not None:
            out = np.empty((4, len(picks)), np.int64)
            parts = (children.beam, children.token, children.lo, children.hi, picks)
            self.kernels.choose(
                state.segment, state.depth, *parts, self.indptr, self.separator, out
            )
            return BeamState(*out)
        token, lo, hi = (x.take(picks) for x in (children.token, children.lo, children.hi))
        parent = children.beam.take(picks)
        segment, depth = state.segment.take(parent), state.depth.take(parent)
        return self.step(BeamState(segment, depth, lo, hi), token, lo, hi)

    def single(self, state: BeamState) -> NDArray[np.bool_]:
        """Whether all rows under each beam have one and the same key, (B,) bool."""
        lo, hi = self.leaves(state)
        one = (state.segment > 0) | (state.hi - state.lo == 1)
        for ids in self.arrays["ids"]:
            one &= ids[lo] == ids[hi - 1]
        return np.asarray(one)

    # --- whole keys ------------------------------------------------------------------------------

    def find(self, prefix: Sequence[int]) -> BeamState | None:
        """State of one beam after ``prefix`` (token ids with separators), None when no key begins
        so.
        """
        state = self.start(1)
        for token in prefix:
            tokens = np.array([token], np.int64)
            lo, hi = self.span(state, tokens)
            if lo[0] >= hi[0]:
                return None
            state = self.step(state, tokens, lo, hi)
        return state

    def count(self, prefix: Sequence[int]) -> int:
        """Rows of the base whose key begins with ``prefix``."""
        state = self.find(prefix)
        if state is None:
            return 0
        lo, hi = self.leaves(state)
        return int(hi[0] - lo[0])

    def values(self, prefix: Sequence[int]) -> list[Value]:
        """Values of all rows whose key begins with ``prefix``, in row order."""
        state = self.find(prefix)
        if state is None:
            return []
        lo, hi = self.leaves(state)
        return [self.value(row) for row in range(int(lo[0]), int(hi[0]))]

    def value(self, row: int) -> Value:
        """Value of one sorted row."""
        if "values" in self.arrays:
            return int(self.arrays["values"][row])
        return self._text("value", row)

    def lookup(self, keys: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
        """Row ranges (lo, hi) of whole keys, separators between segments; -1, -1 where absent.

        All keys advance together, one token a step.
        """
        lo, hi = np.full(len(keys), -1, np.int64), np.full(len(keys), -1, np.int64)
        strings = Strings.of([[*key, self.separator] for key in keys])
        number, state = np.arange(len(keys)), self.start(len(keys))
        at, ends = strings.offsets[:-1], strings.offsets[1:]
        while len(number):
            token = strings.flat[at].astype(np.int64)
            first, last = self.span(state, token)
            alive = np.flatnonzero(first < last)
            state = self.step(state.take(alive), token[alive], first[alive], last[alive])
            number, at, ends = number[alive], at[alive] + 1, ends[alive]
            whole = (at == ends) & (state.segment == self.segments)
            lo[number[whole]], hi[number[whole]] = state.lo[whole], state.hi[whole]
            more = np.flatnonzero(at < ends)
            state, number, at, ends = state.take(more), number[more], at[more], ends[more]
        return lo, hi

    def key_range(self, rows: Ints) -> tuple[Ints, Ints]:
        """Range (lo, hi) of the rows that share the key of each given row."""
        lo, hi = rows.copy(), rows + 1
        name = np.searchsorted(self.indptr, rows, side="right") - 1
        first, last = (self.indptr[name + k].astype(np.int64) for k in (0, 1))
        while len(grow := np.flatnonzero((lo > first) & self._same(rows, np.maximum(lo - 1, 0)))):
            lo[grow] -= 1
        end = self.rows - 1
        while len(grow := np.flatnonzero((hi < last) & self._same(rows, np.minimum(hi, end)))):
            hi[grow] += 1
        return lo, hi

    def _same(self, a: Ints, b: Ints) -> NDArray[np.bool_]:
        ids = self.arrays["ids"]
        return np.asarray((ids[:, a] == ids[:, b]).all(0))

    def key(self, row: int) -> list[int]:
        """Tokens of the key of a sorted row, with the separator after each segment."""
        tokens = []
        for string in self.strings_of(row):
            tokens += self.tok[int(self.off[string]) : int(self.off[string + 1])].tolist()
        return tokens

    def texts(self, row: int) -> tuple[str, ...]:
        """Display texts of the K segments of a sorted row; empty strings when none were stored."""
        if "text_offsets" not in self.arrays:
            return ("",) * self.segments
        return tuple(self._text("text", string) for string in self.strings_of(row))

    def strings_of(self, row: int) -> list[int]:
        """Numbers of the K strings of a sorted row among all pools."""
        first = int(np.searchsorted(self.indptr, row, side="right")) - 1
        ids = (int(self.arrays["ids"][k, row]) for k in range(self.segments - 1))
        return [first, *(int(self.base[k + 1]) + i for k, i in enumerate(ids))]

    def _text(self, name: str, number: int) -> str:
        offsets = self.arrays[f"{name}_offsets"]
        raw = self.arrays[f"{name}_bytes"][int(offsets[number]) : int(offsets[number + 1])]
        return bytes(raw).decode("utf-8")
