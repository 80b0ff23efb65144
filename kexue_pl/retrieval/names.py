"""Names of the base that stand in a question, found by walking the index from every position."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kexue_pl.retrieval.beam_state import Ints
from kexue_pl.retrieval.prefix_index import PrefixIndex
from kexue_pl.retrieval.strings import Strings, ragged_ranges


class Names(NamedTuple):
    """Distinct names of the base in each question, questions ascending.

    Args:
        question: (N,) which question.
        name: (N,) rank of the name in pool 0.
        start: (N,) its first token in the question, first occurrence.
        length: (N,) its tokens.
    """

    question: Ints
    name: Ints
    start: Ints
    length: Ints

    def take(self, chosen: Ints) -> Names:
        """The chosen candidates."""
        return Names(*(x[chosen] for x in self))


def find_names(index: PrefixIndex, questions: Strings) -> Names:
    """All non-empty names of the base that occur in the questions.

    Every position of every question is a beam; beams advance together until their token leaves the
    tree.

    Example:
        >>> index = PrefixIndex.build([([5, 6, 2, 9], 0), ([6, 2, 9], 1)], separator=2)
        >>> found = find_names(index, Strings.of([[4, 5, 6], [7]]))
        >>> found.name.tolist(), found.start.tolist(), found.length.tolist()
        ([0, 1], [1, 2], [2, 1])
    """
    size = questions.lengths
    question = np.repeat(np.arange(len(questions)), size)
    start = np.arange(len(question)) - questions.offsets[question]
    at, state = np.arange(len(question)), index.start(len(question))
    ends = questions.offsets[1:][question]
    found: list[tuple[Ints, Ints, Ints, Ints]] = []
    length = 0
    while len(at):
        lo, hi = index.span(state, questions.flat[at].astype(np.int64))
        alive = np.flatnonzero(lo < hi)
        token = questions.flat[at[alive]].astype(np.int64)
        state = index.step(state.take(alive), token, lo[alive], hi[alive])
        at, question, start, ends = (x[alive] for x in (at + 1, question, start, ends))
        length += 1
        stop, over = index.span(state, np.full(len(at), index.separator))
        named = np.flatnonzero(stop < over)
        found.append((question[named], stop[named], start[named], np.full(len(named), length)))
        more = at < ends
        state = state.take(np.flatnonzero(more))
        at, question, start, ends = (x[more] for x in (at, question, start, ends))
    if not found:
        return Names(*(np.zeros(0, np.int64) for _ in range(4)))
    names = Names(*(np.concatenate(x) for x in zip(*found, strict=True)))
    names = names.take(np.lexsort((names.start, names.name, names.question)))
    first = np.ones(len(names.name), bool)
    first[1:] = np.diff(names.question).astype(bool) | np.diff(names.name).astype(bool)
    return names.take(np.flatnonzero(first))


def masked(questions: Strings, names: Names, filler: int) -> Strings:
    """Each candidate's question with the name replaced by one token ``filler``, (N,) strings."""
    begin, end = questions.offsets[:-1][names.question], questions.offsets[1:][names.question]
    tail = begin + names.start + names.length
    lengths = end - begin - names.length + 1
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    flat = np.full(int(offsets[-1]), filler, np.int64)
    head = ragged_ranges(offsets[:-1], names.start)
    flat[head] = questions.flat[ragged_ranges(begin, names.start)]
    rest = ragged_ranges(offsets[:-1] + names.start + 1, end - tail)
    flat[rest] = questions.flat[ragged_ranges(tail, end - tail)]
    return Strings(flat, offsets)
