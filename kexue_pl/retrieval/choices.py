"""What a base allows on the way to each training key: the choices a model can learn to make."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from kexue_pl.retrieval.beam_state import Ints
from kexue_pl.retrieval.index_builder import build_index
from kexue_pl.retrieval.prefix_index import PrefixIndex
from kexue_pl.retrieval.strings import Strings

WIDEST = 64  # with more children than this, as near the root, nearly anything may follow
BLOCK = 4096  # keys that advance together


class Choices:
    """The children of every node on the way to each of N keys, where there are several.

    For a loss over the tokens that a search may choose among: an addition of ours to
    kexue.fm/archives/8802, which trains over the whole vocabulary.

    Only what training asks for takes part: the names of the keys and, below them, segments that
    are the right ones of some key. Any other could only be learned as wrong, and the answers of a
    test are among the others.

    Args:
        index: the base; keys that it does not hold have no choices.
        keys: N keys as token ids, a separator after each segment.

    Example:
        >>> base = PrefixIndex.build([([5, 2, 8], "a"), ([5, 2, 9], "b")], separator=2)
        >>> choices = Choices(base, [[5, 2, 8, 2], [5, 2, 9, 2]])
        >>> choices.batch([0], [[5, 2, 8, 2]])[0].tolist()
        [[-1, -1], [-1, -1], [8, 9], [-1, -1]]
    """

    def __init__(self, index: PrefixIndex, keys: Sequence[Sequence[int]]) -> None:
        self.separator, self.keys = index.separator, Strings.of(keys)
        lo, _ = index.lookup([key[:-1] for key in keys])
        known = np.flatnonzero(lo >= 0)
        place, token = np.zeros(0, np.int64), np.zeros(0, np.int64)
        if len(known):
            asked = _asked(index, lo[known])
            blocks = [known[a : a + BLOCK] for a in range(0, len(known), BLOCK)]
            found = [_along(asked, self.keys, block) for block in blocks]
            place, token = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(place, kind="stable")
        self.token = token[order]
        self.ptr = np.zeros(len(self.keys.flat) + 1, np.int64)
        np.cumsum(np.bincount(place, minlength=len(self.keys.flat)), out=self.ptr[1:])

    def batch(self, rows: Sequence[int], targets: Sequence[Sequence[int]]) -> Ints:
        """Choices at every token of what a batch is to write, (B, T, C) int64, padded by -1.

        Args:
            rows: (B,), which key each target was made from.
            targets: B keys as they are trained on, T the longest (at least 1). Behind an exchanged
                name the choices stay. An exchanged token takes the place of the right one among
                the choices; a segment of another length has none.
        """
        found = [self._of(row, list(target)) for row, target in zip(rows, targets, strict=True)]
        length = max(1, max(map(len, targets)))
        widest = max((len(c) for one in found for c in one.values()), default=1)
        out = np.full((len(found), length, widest), -1, np.int64)
        for i, one in enumerate(found):
            for step, children in one.items():
                out[i, step, : len(children)] = children
        return out

    def _of(self, row: int, target: list[int]) -> dict[int, Ints]:
        """Choices by place of one target, segment by segment."""
        out: dict[int, Ints] = {}
        first, at = int(self.keys.offsets[row]), 0
        parts = zip(self._segments(self.keys[row]), self._segments(target), strict=False)
        for number, (key, written) in enumerate(parts):
            whole = written[-1:] == [self.separator]
            alike = written == key if number == 0 else len(written) == len(key)
            if alike or (not whole and written == key[: len(written)]):
                ptr = self.ptr[first : first + len(written) + 1]
                for step in np.flatnonzero(ptr[:-1] < ptr[1:]).tolist():
                    children = self.token[ptr[step] : ptr[step + 1]]
                    children = np.unique(np.where(children == key[step], written[step], children))
                    if len(children) > 1:
                        out[at + step] = children
            first, at = first + len(key), at + len(written)
        return out

    def _segments(self, tokens: list[int]) -> list[list[int]]:
        """The parts of a key, each with its separator; the last may lack it."""
        ends = [i + 1 for i, token in enumerate(tokens) if token == self.separator]
        if not ends or ends[-1] < len(tokens):
            ends.append(len(tokens))
        return [tokens[a:b] for a, b in itertools.pairwise([0, *ends])]


def _asked(index: PrefixIndex, rows: Ints) -> PrefixIndex:
    """The part of a base under the names of ``rows``, with segments that these rows have."""
    names = np.unique(np.searchsorted(index.indptr, rows, side="right") - 1)
    start, stop = (index.indptr[names + k].astype(np.int64) for k in (0, 1))
    under = np.concatenate([np.arange(a, b) for a, b in zip(start, stop, strict=True)])
    columns = [np.searchsorted(index.indptr, under, side="right") - 1]
    kept = np.ones(len(under), bool)
    for ids in index.arrays["ids"]:
        kept &= np.isin(ids[under], ids[rows])
        columns.append(ids[under].astype(np.int64))
    pools, numbers = [], []
    for k, column in enumerate(columns):
        used, number = np.unique(column[kept], return_inverse=True)
        pools.append(index.pool_strings(int(index.base[k]) + used))
        numbers.append(number)
    values = np.zeros(int(kept.sum()), np.int64)
    return build_index(pools, numbers, values, separator=index.separator)


def _along(index: PrefixIndex, keys: Strings, rows: Ints) -> tuple[Ints, Ints]:
    """Children on the way of some keys: (place of the right token in ``keys.flat``, child)."""
    state, at, ends = index.start(len(rows)), keys.offsets[rows], keys.offsets[rows + 1]
    place, token = [], []
    wide = len(index.allowed(index.start(1)).token) > WIDEST  # the root, the same for all
    while len(at):
        if not wide:
            children = index.allowed(state)
            count = np.diff(children.ptr)
            kept = ((count > 1) & (count <= WIDEST))[children.beam]
            place.append(at[children.beam[kept]])
            token.append(children.token[kept])
        wide = False
        state, at = index.advance(state, keys.flat[at].astype(np.int64)), at + 1
        more = np.flatnonzero(at < ends)
        state, at, ends = state.take(more), at[more], ends[more]
    return np.concatenate(place), np.concatenate(token)
