"""Lexical features of a question and a predicate; nothing in them is trained but idf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval import lcs
from kexue_pl.retrieval.beam_state import Ints
from kexue_pl.retrieval.strings import Strings

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FEATURES = 9
HASH = 16_381  # buckets of token pairs, a prime
CHUNK = 2000
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Side:
    """What the features need to know of many questions, or of many predicates.

    Args:
        strings: N token strings.
        one, two: (N, vocabulary) and (N, HASH) binary matrices of tokens and of adjacent pairs.
        idf: (N,) summed idf of the distinct tokens.
    """

    strings: Strings
    one: csr_array
    two: csr_array
    idf: Features


class Lexical:
    """Nine features of a pair (masked question Q, predicate P).

        LCS / sqrt|P|,  LCS / |P|,  shared idf / idf of P,  shared idf,  shared idf / idf of Q,
        shared pairs / (|P| - 1),  shared pairs,  P inside Q as a subsequence,  |P| / 4

    Args:
        questions: training questions, for idf = log((n + 2) / (1 + df)), scaled to at most 1.
        vocabulary: number of token ids.
        silent: ids that share nothing (special tokens, the name's placeholder).

    Example:
        >>> lexical = Lexical(Strings.of([[5, 6], [5]]), vocabulary=10, silent=[2])
        >>> q, p = lexical.side(Strings.of([[5, 7, 8, 2]])), lexical.side(Strings.of([[7, 8]]))
        >>> out = lexical.at(q, p, np.array([0]), np.array([0]))[0]
        >>> [round(float(x), 3) for x in out[[0, 1, 2, 5, 6, 7, 8]]]
        [1.414, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]
    """

    def __init__(self, questions: Strings, vocabulary: int, silent: list[int]) -> None:
        self.vocabulary, self.silent = vocabulary, silent
        df = 1.0 + np.asarray(self._incidence(questions).sum(0))
        idf = np.log((len(questions) + 2) / df)
        idf[silent] = 0
        self.idf: Features = (idf / max(float(idf.max()), 1e-6)).astype(np.float32)

    def side(self, strings: Strings) -> Side:
        """Matrices of many strings."""
        one = self._incidence(strings)
        return Side(strings, one, self._pairs(strings), (one @ self.idf + 1e-6).astype(np.float32))

    def at(self, questions: Side, predicates: Side, q: Ints, p: Ints) -> Features:
        """Features of pairs (q[k], p[k]), (N, 9) float32."""
        length = np.zeros(len(q), np.int64)
        shared, pairs = (np.zeros(len(q), np.float32) for _ in range(2))
        for start in range(0, len(q), 1 << 14):
            at = slice(start, start + (1 << 14))
            here, number = np.unique(q[at], return_inverse=True)
            masks = lcs.match_masks(questions.strings.take(here), self.vocabulary)
            rows = lcs.start_rows(len(number), masks.width)
            rows = lcs.run(rows, masks, number, predicates.strings.take(p[at]))
            length[at] = lcs.lengths(rows, questions.strings.lengths[q[at]])
            both = questions.one[q[at]].multiply(predicates.one[p[at]])
            shared[at] = both @ self.idf
            pairs[at] = questions.two[q[at]].multiply(predicates.two[p[at]]).sum(1)
        size = predicates.strings.lengths[p]
        return stack(length, shared, pairs, size, predicates.idf[p], questions.idf[q])

    def table(self, questions: Side, predicates: Side) -> tuple[Any, Any, Any]:
        """LCS, shared idf and shared pairs of all pairs, three (N, M) arrays."""
        size = len(predicates.strings)
        length = np.empty((len(questions.strings), size), np.uint8)
        for start in range(0, len(length), CHUNK):
            part = np.arange(start, min(start + CHUNK, len(length)))
            length[part] = self._lcs_block(questions.strings.take(part), predicates.strings)
        weighted = questions.one.multiply(self.idf[None, :]).tocsr()
        shared = (weighted @ predicates.one.T).toarray().astype(np.float32)
        pairs = (questions.two @ predicates.two.T).toarray().astype(np.uint8)
        return length, shared, pairs

    def _lcs_block(self, questions: Strings, predicates: Strings) -> NDArray[np.uint8]:
        masks = lcs.match_masks(questions, self.vocabulary)
        out = np.empty((len(questions), len(predicates)), np.uint8)
        for j in range(len(predicates)):
            rows = lcs.start_rows(len(questions), masks.width)
            for token in predicates[j]:
                rows = lcs.advance(rows, masks.at(slice(None), token))
            out[:, j] = np.minimum(lcs.lengths(rows, questions.lengths), 255)
        return out

    def _incidence(self, strings: Strings) -> csr_array:
        kept = ~np.isin(strings.flat, self.silent)
        return _binary(strings, strings.flat.astype(np.int64), kept, self.vocabulary)

    def _pairs(self, strings: Strings) -> csr_array:
        flat = strings.flat.astype(np.int64)
        hashed = np.zeros_like(flat)
        hashed[:-1] = (flat[:-1] * 4099 + flat[1:] * 31) % HASH
        inner = np.ones(len(flat), bool)
        inner[strings.offsets[1:][strings.lengths > 0] - 1] = False
        return _binary(strings, hashed, inner, HASH)


def stack(
    length: Any, shared: Any, pairs: Any, size: Any, p_idf: Features, q_idf: Features
) -> Features:
    """The nine features from their parts; shapes broadcast, features last."""
    length, pairs = np.asarray(length, np.float32), np.asarray(pairs, np.float32)
    size = np.maximum(np.asarray(size, np.float32), 1)
    return np.stack(
        [
            length / np.sqrt(size),
            length / size,
            shared / p_idf,
            shared,
            shared / q_idf,
            pairs / np.maximum(size - 1, 1),
            pairs,
            (length == size).astype(np.float32),
            size / 4 + 0 * length,
        ],
        axis=-1,
    ).astype(np.float32)


def _binary(strings: Strings, columns: Ints, kept: NDArray[np.bool_], width: int) -> csr_array:
    from scipy.sparse import csr_array

    row = np.repeat(np.arange(len(strings)), strings.lengths)[kept]
    unique = np.unique(row * width + columns[kept])
    row, column = unique // width, unique % width
    ptr = np.zeros(len(strings) + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=len(strings)), out=ptr[1:])
    ones = np.ones(len(column), np.float32)
    return csr_array((ones, column, ptr), shape=(len(strings), width))
