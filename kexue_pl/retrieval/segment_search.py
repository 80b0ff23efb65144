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
from kexue_pl.retrieval.strings import Strings, ragged_ranges, scattered
from kexue_pl.retrieval.tuning import Weights, tune_weights

Floats = NDArray[np.float64]
LEXICAL = Weights(model=0.0)
# (question, rank of the name, rank of the predicate) -> log p(predicate | question, name)
ModelScore = Callable[[Ints, Ints, Ints], Floats]
NameScore = Callable[[Ints, Ints], Floats]  # (question, rank of the name) -> log p(name | question)


@dataclass
class SegmentSearch:
    """Scores of whole segments; the keys of the names found share a probability of one.

        log p(S, P | Q) = log softmax_S name(Q, S) + log softmax_{P of S} f(Q, S, P)
        f = lexical · lexical(Q, P) + model · (log p_model(P | Q, S) - prior · log prior(P))

    After the name's separator all rows are known, so any scorer of a whole predicate may enter.
    The prior is the model's mean log p of a predicate over questions that have nothing to do with
    it: a model prefers predicates it was trained on, and subtracting that is worth more than any
    other part. Without a scorer names are scored by the model too. Of several meanings
    the shortest is answered.

    Args:
        index: keys of at least two segments.
        scorer: trained log-linear scores; None where their weight is 0.
        weights: of the parts; 0 switches a part off.
        names_kept: names of a question whose predicates are scored.
        log_prior: (predicates,) float64 by rank in pool 1; needed where ``model`` and ``prior``
            are not 0.
    """

    index: PrefixIndex
    scorer: SegmentScorer | None
    weights: Weights = LEXICAL
    names_kept: int = 2
    log_prior: Floats | None = None

    def __post_init__(self) -> None:
        if self.index.segments < 2:
            raise ValueError(
                "segment search needs keys of at least 2 segments, "
                f"the index has {self.index.segments}"
            )
        if self.weights.model and self.weights.prior and self.log_prior is None:
            raise ValueError(f"{self.weights}: give log_prior, or set prior=0")
        if self.weights.lexical and self.scorer is None:
            raise ValueError(f"{self.weights}: give a scorer, or set lexical=0")
        if self.scorer is not None:
            self.df = self.scorer.document_frequency(self.index)
            pool = np.arange(self.index.base[1], self.index.base[2])
            self.predicate_side = self.scorer.lexical.side(self.index.pool_strings(pool))

    def search(
        self,
        questions: Strings,
        *,
        answers: int = 3,
        model: ModelScore | None = None,
        model_names: NameScore | None = None,
    ) -> list[list[Hypothesis]]:
        """Best keys of each question; an empty list where no name of the base stands in it.

        Args:
            questions: token strings without special tokens.
            answers: at most so many keys a question.
            model: log p of predicates; asked when the weight ``model`` is not 0.
            model_names: log p of names; asked when there is no scorer.
        """
        names = find_names(self.index, questions)
        out: list[list[Hypothesis]] = [[] for _ in range(len(questions))]
        if len(names.name) == 0:
            return out
        score = self._names(questions, names, model_names)
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

    def _names(self, questions: Strings, names: Names, model: NameScore | None) -> Floats:
        if self.scorer is not None:
            return self.scorer.names(questions, names, self.df[names.name])
        if model is None:
            raise ValueError("model_names=None: without a scorer the model scores names")
        return model(names.question, names.name)

    def _rows(self, names: Names) -> tuple[Ints, Ints, Ints]:
        """Distinct predicates of each candidate name, and the row with the shortest meaning."""
        lo, hi = (self.index.indptr[names.name + k].astype(np.int64) for k in (0, 1))
        row = ragged_ranges(lo, hi - lo)
        candidate = np.repeat(np.arange(len(lo)), hi - lo)
        predicate = self.index.arrays["ids"][0, row].astype(np.int64)
        tail = np.zeros(len(row), np.int64)
        for segment in range(2, self.index.segments):
            tail += self.index.segment_strings(segment, row).lengths
        # Of equal scores the first wins: frequent tokens sort first, which must not help them.
        order = np.lexsort((row, tail, scattered(predicate), candidate))
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
        weights, total = self.weights, np.zeros(len(candidate))
        if weights.lexical:
            total += weights.lexical * self._lexical(questions, names, candidate, predicate)
        if weights.model and model is not None:
            log_p = model(names.question[candidate], names.name[candidate], predicate)
            if weights.prior and self.log_prior is not None:
                log_p = log_p - weights.prior * self.log_prior[predicate]
            total += weights.model * log_p
        return total

    def _lexical(
        self, questions: Strings, names: Names, candidate: Ints, predicate: Ints
    ) -> Floats:
        if self.scorer is None:
            return np.zeros(len(candidate))
        features = self._features(questions, names, candidate, predicate)
        if self.weights.features is not None:
            return np.asarray(features @ np.array(self.weights.features))
        return self.scorer.predicates(features)

    def _features(
        self, questions: Strings, names: Names, candidate: Ints, predicate: Ints
    ) -> Floats:
        if self.scorer is None:
            return np.zeros((len(candidate), 0))
        texts = self.scorer.lexical.side(masked(questions, names, self.scorer.filler))
        found = self.scorer.lexical.at(texts, self.predicate_side, candidate, predicate)
        return found.astype(np.float64)

    def tuned(self, questions: Strings, keys: list[list[list[int]]], model: ModelScore) -> Weights:
        """The weights that are not 0, learned on questions whose predicates training never showed.

        Args:
            questions: token strings without special tokens.
            keys: the right segments of each; a question whose name it does not hold, or whose name
                has one predicate only, is passed over.
            model: log p of predicates.
        """
        names = find_names(self.index, questions)
        want = {(q, tuple(key[0])): tuple(key[1]) for q, key in enumerate(keys)}
        known = [tuple(self.index.pool_strings(names.name)[i]) for i in range(len(names.name))]
        mine = [i for i, pair in enumerate(zip(names.question.tolist(), known)) if pair in want]
        names, known = names.take(np.array(mine, np.int64)), [known[i] for i in mine]
        candidate, predicate, _ = self._rows(names)
        pool = self.index.pool_strings(int(self.index.base[1]) + predicate)
        asked = [want[q, name] for q, name in zip(names.question.tolist(), known)]
        right = np.array([tuple(pool[i]) == asked[c] for i, c in enumerate(candidate.tolist())])
        width = np.bincount(candidate, minlength=len(mine))
        good = (np.bincount(candidate, right, len(mine)) == 1) & (width > 1)
        if not good.any():
            return self.weights
        kept = good[candidate]
        lexical = self._features(questions, names, candidate, predicate)
        log_p = model(names.question[candidate], names.name[candidate], predicate)
        prior = np.zeros(len(log_p)) if self.log_prior is None else self.log_prior[predicate]
        ptr = np.append(0, np.cumsum(width[good]))
        lexical, log_p, prior = (x[kept] for x in (lexical, log_p, prior))
        places = np.flatnonzero(right[kept])
        return tune_weights(self.weights, lexical, log_p, prior, ptr, places)


def _spread(score: Floats, group: Ints) -> Floats:
    """log sum exp of each one's group, groups ascending."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ptr = np.append(starts, len(group))
    return np.asarray(np.repeat(segment_logsumexp(score, ptr), np.diff(ptr)))
