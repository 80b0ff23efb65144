"""The ways in which a question is answered from a base, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_pl.data.questions import QuestionData
from kexue_pl.models.key_model import KeyModel
from kexue_pl.retrieval import (
    Hypothesis,
    Lookahead,
    PrefixIndex,
    SegmentScorer,
    SegmentSearch,
    Strings,
    constrained_beam_search,
    free_beam_search,
    join_subject,
    rule,
)
from kexue_pl.retrieval.beam_state import Ints
from kexue_pl.retrieval.official import Answer
from kexue_pl.retrieval.tuning import Weights

PRIOR_QUESTIONS = 3
BRANCHES = 64  # predicates of one row when the prior is measured


@dataclass(frozen=True)
class Found:
    """One answer.

    Args:
        answer: as it is handed in; None where nothing was found.
        log_p: its log-probability; minus infinity where nothing was found, 0 for the rule.
        is_key: whether it is a key of the base.
    """

    answer: Answer | None = None
    log_p: float = float("-inf")
    is_key: bool = False


@dataclass(frozen=True)
class Settings:
    """How questions are decoded; see ``KgclueTask``."""

    beams: int = 3
    renormalise: bool = True
    lookahead: bool = True
    skip_forced: bool = True
    lexical: float = 1.0
    seq2seq: float = 0.6
    prior: float = 1.0
    names_kept: int = 2
    tune: bool = True

    @property
    def weights(self) -> Weights:
        """Weights of the parts as they were given."""
        return Weights(self.lexical, self.seq2seq, self.prior)


class Answerer:
    """Answers questions by beam search, by segment scores, by both, by rule, or freely.

    Args:
        model: in evaluation mode when a method is called.
        data: encodes questions.
        index: the base.
        settings: of the search.
        scorer: trained segment scores, None without.
    """

    def __init__(
        self,
        model: KeyModel,
        data: QuestionData,
        index: PrefixIndex,
        settings: Settings,
        scorer: SegmentScorer | None = None,
    ) -> None:
        self.model, self.data, self.index, self.settings = model, data, index, settings
        self.vocabulary = len(data.tokenizer)
        self.scorer = scorer if index.segments > 1 else None
        self._searches: dict[str, SegmentSearch] = {}
        self._prior: NDArray[np.float64] | None = None

    def methods(self) -> list[str]:
        """Names of the methods that apply, the main one first.

        ``seq2seq`` is the beam search of the article, ``less_prior`` scores whole segments by the
        model less its prior, ``lexical`` by features, ``combined`` by both.
        """
        if self.index.segments < 2:
            return ["seq2seq", "unconstrained"]
        model = self.settings.seq2seq != 0
        found = ["combined"] if model and self.scorer else []
        found += ["lexical"] if self.scorer else []
        found += ["less_prior"] if model and self.settings.prior and self.data.train_set else []
        return [*found, "seq2seq", "rule", "unconstrained"]

    def answer(self, method: str, texts: Sequence[str]) -> list[list[Found]]:
        """Best answers of each question, best first; empty lists where nothing was found."""
        if method == "rule":
            return self._by_rule(texts)
        if method == "unconstrained":
            return self._freely(texts)
        if method == "seq2seq":
            return [self._shown(h) for h in self.beam(texts)]
        return [self._shown(h) for h in self.segments(method, texts)]

    def beam(self, texts: Sequence[str]) -> list[list[Hypothesis]]:
        """Constrained beam search with the model alone."""
        ids, mask = self._sources(texts)
        look = None
        if self.settings.lookahead and self.index.segments > 1:
            sizes = mask.sum(1).tolist()
            rows = [row[:n] for row, n in zip(ids.tolist(), sizes, strict=True)]
            look = Lookahead(Strings.of(rows), self.vocabulary)
        return constrained_beam_search(
            self.index,
            self.model.step_decoder(ids, mask),
            len(texts),
            beams=self.settings.beams,
            renormalise=self.settings.renormalise,
            lookahead=look,
            skip_forced=self.settings.skip_forced,
        )

    def segments(self, method: str, texts: Sequence[str]) -> list[list[Hypothesis]]:
        """Search by whole segments; questions without a known name fall back to the beam."""
        search = self._search(method)
        questions = self.data.question_tokens(texts)
        found = search.search(
            questions,
            answers=self.settings.beams,
            model=self._model_score(questions) if search.weights.model else None,
            model_names=self._model_names(questions),
        )
        missing = [i for i, hypotheses in enumerate(found) if not hypotheses]
        if missing:
            beams = self.beam([texts[i] for i in missing])
            for i, hypotheses in zip(missing, beams, strict=True):
                found[i] = hypotheses
        return found

    def weights(self, method: str) -> Weights:
        """Weights of the parts, tuned where the data hold questions out for it."""
        return self._search(method).weights

    def _search(self, method: str) -> SegmentSearch:
        if method not in self._searches:
            given = self.settings.weights
            if method == "lexical":
                given = given._replace(model=0.0)
            elif method == "less_prior":
                given = given._replace(lexical=0.0)
            prior = self.log_prior() if given.model and given.prior else None
            scorer = self.scorer if given.lexical else None
            names = self.settings.names_kept
            search = SegmentSearch(self.index, scorer, given, names, prior)
            if self.settings.tune and self.data.tune_set and method != "lexical":
                search.weights = self._tuned(search)
            self._searches[method] = search
        return self._searches[method]

    def _tuned(self, search: SegmentSearch) -> Weights:
        rows = self.data.tune_set
        questions = self.data.question_tokens([row["question"] for row in rows])
        parts = self.data.encode([text for row in rows for text in row["key"]])
        k = self.index.segments
        keys = [[parts[i * k + s] for s in range(k)] for i in range(len(rows))]
        return search.tuned(questions, keys, self._model_score(questions))

    def _model_names(self, questions: Strings) -> Any:
        """log p of names given the question, by the model."""

        def score(question: Ints, name: Ints) -> NDArray[np.float64]:
            starts = np.flatnonzero(np.diff(question, prepend=-1))
            ends = np.append(starts[1:], len(question))
            sources = [self._source(questions[int(question[s])]) for s in starts]
            branches = [
                [self._segment(0, n) for n in name[a:b].tolist()]
                for a, b in zip(starts, ends, strict=True)
            ]
            return np.concatenate(self.model.branch_log_p(sources, [[]] * len(starts), branches))

        return score

    def _model_score(self, questions: Strings) -> Any:
        """log p of predicates given question and name, by the model."""

        def score(question: Ints, name: Ints, predicate: Ints) -> NDArray[np.float64]:
            pair = question * int(self.index.base[1]) + name
            starts = np.flatnonzero(np.diff(pair, prepend=-1))
            ends = np.append(starts[1:], len(pair))
            sources = [self._source(questions[int(question[s])]) for s in starts]
            prefixes = [self._segment(0, int(name[s])) for s in starts]
            branches = [
                [self._segment(1, p) for p in predicate[a:b].tolist()]
                for a, b in zip(starts, ends, strict=True)
            ]
            return np.concatenate(self.model.branch_log_p(sources, prefixes, branches))

        return score

    def log_prior(self) -> NDArray[np.float64]:
        """The model's log prior of every predicate, measured once."""
        if self._prior is None:
            self._prior = self._measured_prior()
        return self._prior

    def _measured_prior(self) -> NDArray[np.float64]:
        """Mean log p of every predicate over questions that do not ask for it, (predicates,).

        The questions are training questions far apart, each with its own name.
        """
        rows = self.data.train_set or []
        step = max(1, len(rows) // PRIOR_QUESTIONS)
        chosen = [rows[i] for i in range(0, len(rows), step)][:PRIOR_QUESTIONS]
        questions = self.data.question_tokens([r["question"] for r in chosen])
        names = self.data.encode([r["key"][0] for r in chosen])
        sep = self.index.separator
        count = int(self.index.base[2] - self.index.base[1])
        total = np.zeros(count)
        blocks = [range(a, min(a + BRANCHES, count)) for a in range(0, count, BRANCHES)]
        branches = [[self._segment(1, p) for p in block] for block in blocks]
        for i in range(len(chosen)):
            sources = [self._source(questions[i])] * len(blocks)
            prefixes = [[*names[i], sep]] * len(blocks)
            total += np.concatenate(self.model.branch_log_p(sources, prefixes, branches))
        return np.asarray(total / max(1, len(chosen)))

    def _by_rule(self, texts: Sequence[str]) -> list[list[Found]]:
        rows = rule(self.index, self.data.question_tokens(texts), self.vocabulary)
        return [[Found(self._answer(r, r + 1), 0.0, True)] if r >= 0 else [] for r in rows.tolist()]

    def _freely(self, texts: Sequence[str]) -> list[list[Found]]:
        ids, mask = self._sources(texts)
        found = free_beam_search(
            self.model.step_decoder(ids, mask),
            len(texts),
            separator=self.index.separator,
            segments=self.index.segments,
            beams=self.settings.beams,
        )
        best = [[(score, tokens) for score, tokens in pool[:1]] for pool in found]
        keys = [tokens[:-1] for pool in best for _, tokens in pool]
        lo, hi = self.index.lookup(keys)
        ranges = iter(zip(lo.tolist(), hi.tolist(), strict=True))
        return [[self._free(s, tokens, *next(ranges)) for s, tokens in pool] for pool in best]

    def _free(self, score: float, tokens: tuple[int, ...], lo: int, hi: int) -> Found:
        if lo >= 0:
            return Found(self._answer(lo, hi), score, True)
        parts: list[list[int]] = [[]]
        for token in tokens[:-1]:
            if token == self.index.separator:
                parts.append([])
            else:
                parts[-1].append(token)
        texts = [self.data.tokenizer.decode(p) for p in parts] + [""] * 3
        return Found(Answer(join_subject(texts[0], texts[2]), texts[1], ""), score, False)

    def _shown(self, hypotheses: list[Hypothesis]) -> list[Found]:
        return [Found(self._answer(h.lo, h.hi), h.score, True) for h in hypotheses]

    def _answer(self, lo: int, hi: int) -> Answer:
        """The triple of a range of rows with one key; of several values the first in order."""
        value = min(str(self.index.value(row)) for row in range(lo, hi))
        texts = self.index.texts(lo)
        if self.index.segments == 1:
            return Answer(texts[0], "", value)
        meaning = texts[2] if len(texts) > 2 else ""
        return Answer(join_subject(texts[0], meaning), texts[1], value)

    def _sources(self, texts: Sequence[str]) -> tuple[Any, Any]:
        device = self.model.embeddings.weight.device
        ids, mask = self.data.sources(texts)
        return ids.to(device), mask.to(device)

    def _source(self, question: list[int]) -> list[int]:
        return [self.data.tokenizer.cls_token_id, *question, self.index.separator]

    def _segment(self, segment: int, rank: int) -> list[int]:
        string = np.array([int(self.index.base[segment]) + rank])
        return [*self.index.pool_strings(string)[0], self.index.separator]
