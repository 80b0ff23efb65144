"""Lookahead of the article: a child is worth more if a key below it shares more with the
question.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from kexue_pl.retrieval import lcs
from kexue_pl.retrieval.beam_state import BeamState, Children, Ints
from kexue_pl.retrieval.prefix_index import PrefixIndex
from kexue_pl.retrieval.strings import Strings

MOST_ROWS = 100_000


@dataclass
class Lookahead:
    """Exponents 1 / n(c) of the allowed children (kexue.fm/archives/8802).

        n(c) = max(1, 1 + max over keys k under prefix + c of LCS(k, Q') - LCS(prefix, Q'))
        p(c) <- p(c)^(1 / n(c)),    then p is normalised over the allowed children

    where p is over the whole vocabulary and Q' = [CLS] Q [SEP]. It applies where one segment is
    complete and several children are allowed. The table's last row is carried with each beam in
    ceil(|Q'| / 64) machine words, so only suffixes are run.

    Args:
        questions: Q' of each question of the batch.
        vocabulary: number of token ids.
        most_rows: beams with more keys below them than this are left alone, with a warning.

    Example:
        >>> index = PrefixIndex.build([([5, 2, 7, 8], 0), ([5, 2, 9], 1)], separator=2)
        >>> look = Lookahead(Strings.of([[0, 5, 7, 8, 2]]), vocabulary=10)
        >>> rows, state = look.start(np.array([0])), index.start(1)
        >>> for token in (5, 2):
        ...     rows = look.advance(rows, np.array([0]), np.array([token]))
        ...     state = index.advance(state, np.array([token]))
        >>> look.exponents(index, state, index.allowed(state), np.array([0]), rows).tolist()
        [2, 1]
    """

    questions: Strings
    vocabulary: int
    most_rows: int = MOST_ROWS

    def __post_init__(self) -> None:
        self.masks = lcs.match_masks(self.questions, self.vocabulary)
        self.columns = self.questions.lengths

    def start(self, question: Ints) -> lcs.Words:
        """Carried rows of beams at the root, (N, W) uint64."""
        return lcs.start_rows(len(question), self.masks.width)

    def advance(self, rows: lcs.Words, question: Ints, token: Ints) -> lcs.Words:
        """Carried rows after one token a beam."""
        return lcs.advance(rows, self.masks.at(question, token))

    def exponents(
        self,
        index: PrefixIndex,
        state: BeamState,
        children: Children,
        question: Ints,
        rows: lcs.Words,
    ) -> Ints:
        """n(c) of every child, (C,) int64, at least 1.

        Args:
            index: the base.
            state: N beams.
            children: ``index.allowed(state)``.
            question: (N,), which question each beam answers.
            rows: (N, W), carried with the beams.
        """
        out = np.ones(len(children.token), np.int64)
        beams = self._open_beams(index, state, children)
        if len(beams) == 0:
            return out
        if index.kernels is not None and self.masks.width == 1:
            sources = (index.tok, index.off, index.base, index.arrays["ids"])
            masks = (self.masks.words[:, :, 0], self.masks.slot, self.columns)
            carried = (question, rows[:, 0], *masks)
            index.kernels.exponents(
                *sources, state.segment, state.depth, *carried, self.most_rows,
                children.ptr, children.lo, children.hi, out,
            )  # fmt: skip
            return out
        part, of = state.take(beams), question[beams]
        suffixes = index.suffixes(part)
        width = part.hi - part.lo
        beam = np.repeat(np.arange(len(beams)), width)
        after = lcs.run(rows[beams][beam], self.masks, of[beam], suffixes)
        total = lcs.lengths(after, self.columns[of][beam])
        gain = total - np.repeat(lcs.lengths(rows[beams], self.columns[of]), width)
        open_ = np.zeros(len(state.lo), bool)
        open_[beams] = True
        chosen = np.flatnonzero(open_[children.beam])
        sizes = children.hi[chosen] - children.lo[chosen]
        starts = np.cumsum(sizes) - sizes
        out[chosen] = np.maximum(1, 1 + np.maximum.reduceat(gain, starts))
        return out

    def _open_beams(self, index: PrefixIndex, state: BeamState, children: Children) -> Ints:
        wide = (np.diff(children.ptr) > 1) & (state.segment > 0) & (state.segment < index.segments)
        many = wide & (state.hi - state.lo > self.most_rows)
        if many.any():
            most = int((state.hi - state.lo)[many].max())
            warnings.warn(
                f"lookahead: {most} keys below one beam, more than most_rows={self.most_rows}; "
                "its children are not weighted",
                stacklevel=3,
            )
        return np.flatnonzero(wide & ~many)
