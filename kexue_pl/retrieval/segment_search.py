"""Search by whole segments: names found in the question, then all predicates of each name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval.beam_search import Hypothesis, best_per_group, segment_logsumexp
from kexue_pl.retrieval.beam_state import Ints
from kexue_pl.retrieval.lexical_training import SegmentScorer
from kexue_pl.retrieval.names import Names, find_names, masked
from kexue_pl.retrieval.prefix_index import PrefixIndex
from kexue_pl.retrieval.strings import Strings, ragged_ranges

Floats = NDArray[np.float64]
# (question, rank of the name, rank of the predicate) -> log p(predicate | question, name)
ModelScore = Callable[[Ints, Ints, Ints], Floats]


@dataclass
class SegmentSearch:
    """Scores of whole segments; the keys of the names found share a probability of one.

        log p(S, P | Q) = log softmax_S name(Q, S) + log softmax_{P of S} f(Q, S, P)
        f = lexical · lexical(Q, P) + model · (log p_model(P | Q, S) - prior · log prior(P))

    After the name's separator all rows are known, so any scorer of a whole predicate may enter.
    The prior is the model's mean log p of a predicate over questions that have nothing to do with
    it: a model prefers predicates it was trained on, and subtracting that is worth more than any
        other part. Of
    several meanings the shortest is answered.

    Args:
        index: keys of at least two segments.
        scorer: trained log-linear scores.
        lexical, model, prior: weights of the parts; 0 switches a part off.
        names_kept: names of a question whose predicates are scored.
        log_prior: (predicates,) float64 by rank in pool 1; needed where ``model`` and ``prior``
            are not 0.
    """

    index: PrefixIndex
    scorer: SegmentScorer
    lexical: float = 1.0
    model: float = 0.0
    prior: float = 1.0
    names_kept: int = 2
    log_prior: Floats | None = None

    def __post_init__(self) -> None:
        if self.index.segments < 2:
            raise ValueError(
                "segment search needs keys of at least 2 segments, "
                f"the index has {self.index.segments}"
            )
        if self.model and self.prior and self.log_prior is None:
            raise ValueError(
                f"model={self.model}, prior={self.prior}: give log_prior, or set prior=0"
            )
        self.df = self.scorer.document_frequency(self.index)
        pool = np.arange(self.index.base[1], self.index.base[2])
        self.predicate_side = self.scorer.lexical.side(self.index.pool_strings(pool))

    def search(
        self, questions: Strings, *, answers: int = 3, model: ModelScore | None = None
    ) -> list[list[Hypothesis]]:
        """Best keys of each question; an empty list where no name of the base stands in it.

        Args:
            questions: token strings without special tokens.
            answers: at most so many keys a question.
            model: log p of predicates; asked when the weight ``model`` is not 0.
        """
        names = find_names(self.index, questions)
        out: list[list[Hypothesis]] = [[] for _ in range(len(questions))]
        if len(names.name) == 0:
            return out
        score = self.scorer.names(questions, names, self.df[names.name])
        score = score - _spread(score, names.question)
        kept = np.sort(best_per_group(names.question, score, self.names_kept))
        names, score = names.take(kept), score[kept]
        candidate, predicate, row = self._rows(names)
        total = self._scores(questions, names, candidate, predicate, model)
        total = score[candidate] + total - _spread(total, candidate)
        question = names.question[candidate]
        best = best_per_group(question, total, answers)
        ranges = (x.tolist() for x in self.index.key_range(row[best]))
        for i, lo, hi in zip(best.tolist(), *ranges):
            found = Hypothesis(float(total[i]), lo, hi, tuple(self.index.key(lo)))
            out[int(question[i])].append(found)
        return out

    def _rows(self, names: Names) -> tuple[Ints, Ints, Ints]:
        """Distinct predicates of each candidate name, and the row with the shortest meaning."""
        lo, hi = (self.index.indptr[names.name + k].astype(np.int64) for k in (0, 1))
        row = ragged_ranges(lo, hi - lo)
        candidate = np.repeat(np.arange(len(lo)), hi - lo)
        predicate = self.index.arrays["ids"][0, row].astype(np.int64)
        tail = np.zeros(len(row), np.int64)
        for segment in range(2, self.index.segments):
            tail += self.index.segment_strings(segment, row).lengths
        order = np.lexsort((row, tail, predicate, candidate))
        candidate, predicate, row = candidate[order], predicate[order], row[order]
        first = np.ones(len(row), bool)
        first[1:] = (np.diff(candidate) != 0) | (np.diff(predicate) != 0)
        return candidate[first], predicate[first], row[first]

    def _scores(
        self,
        questions: Strings,
        names: Names,
        candidate: Ints,
        predicate: Ints,
        model: ModelScore | None,
    ) -> Floats:
        total = np.zeros(len(candidate))
        if self.lexical:
            texts = self.scorer.lexical.side(masked(questions, names, self.scorer.filler))
            scores = self.scorer.predicates(texts, self.predicate_side, candidate, predicate)
            total += self.lexical * scores
        if self.model and model is not None:
            log_p = model(names.question[candidate], names.name[candidate], predicate)
            if self.prior and self.log_prior is not None:
                log_p = log_p - self.prior * self.log_prior[predicate]
            total += self.model * log_p
        return total


def _spread(score: Floats, group: Ints) -> Floats:
    """log sum exp of each one's group, groups ascending."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ptr = np.append(starts, len(group))
    return np.asarray(np.repeat(segment_logsumexp(score, ptr), np.diff(ptr)))
