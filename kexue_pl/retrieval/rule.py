"""The baseline without a model that every result is printed beside."""

from __future__ import annotations

import numpy as np

from kexue_pl.retrieval import lcs
from kexue_pl.retrieval.beam_state import Ints
from kexue_pl.retrieval.names import find_names, masked
from kexue_pl.retrieval.prefix_index import PrefixIndex
from kexue_pl.retrieval.strings import Strings, ragged_ranges, scattered

CHUNK = 256


def rule(index: PrefixIndex, questions: Strings, vocabulary: int) -> Ints:
    """Sorted row that answers each question by the model-free rule, -1 where no name is found.

    The longest name of the base in the question (the first of equals), then the row maximising
    LCS(P, rest) / sqrt|P|, then the shortest meaning; ties that remain are broken by a hash of the
    key's place among the sorted keys. So the order of the base's rows never matters, nor do
    frequent tokens, which sort first, have an advantage.

    Args:
        index: keys of at least two segments, name first.
        questions: token strings without special tokens.
        vocabulary: number of token ids.

    Example:
        >>> index = PrefixIndex.build([([5, 2, 6, 7], 0), ([5, 2, 8], 1)], separator=2)
        >>> row = rule(index, Strings.of([[5, 8], [5, 6, 9, 7], [9]]), vocabulary=10)
        >>> [index.value(r) if r >= 0 else None for r in row.tolist()]
        [1, 0, None]
    """
    if index.segments < 2:
        raise ValueError(
            f"the rule needs keys of at least 2 segments, the index has {index.segments}"
        )
    out = [
        _rule(
            index, questions.take(np.arange(start, min(start + CHUNK, len(questions)))), vocabulary
        )
        for start in range(0, len(questions), CHUNK)
    ]
    return np.concatenate(out) if out else np.zeros(0, np.int64)


def _rule(index: PrefixIndex, questions: Strings, vocabulary: int) -> Ints:
    names = find_names(index, questions)
    out = np.full(len(questions), -1, np.int64)
    if len(names.name) == 0:
        return out
    order = np.lexsort((names.start, -names.length, names.question))
    best = names.take(order[np.unique(names.question[order], return_index=True)[1]])
    rest = masked(questions, best, index.separator)
    lo, hi = (index.indptr[best.name + k].astype(np.int64) for k in (0, 1))
    row, of = ragged_ranges(lo, hi - lo), np.repeat(np.arange(len(lo)), hi - lo)
    predicates = index.segment_strings(1, row)
    masks = lcs.match_masks(rest, vocabulary)
    rows = lcs.run(lcs.start_rows(len(row), masks.width), masks, of, predicates)
    likeness = lcs.lengths(rows, rest.lengths[of]) / np.sqrt(np.maximum(predicates.lengths, 1))
    tail = np.zeros(len(row), np.int64)
    for segment in range(2, index.segments):
        tail += index.segment_strings(segment, row).lengths
    order = np.lexsort((scattered(row), tail, -likeness, of))
    out[best.question] = row[order[np.unique(of[order], return_index=True)[1]]]
    return out
