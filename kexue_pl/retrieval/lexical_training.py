"""Training of the log-linear segment scores on questions with known names and predicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kexue_pl.retrieval.beam_state import Ints
from kexue_pl.retrieval.lexical import Lexical, stack
from kexue_pl.retrieval.lexical_scorer import LexicalScorer, cosine_rate, pad
from kexue_pl.retrieval.names import Names, find_names, masked
from kexue_pl.retrieval.prefix_index import PrefixIndex
from kexue_pl.retrieval.strings import Strings

NEAR = 13  # hard negatives are drawn from this many best LCS matches


@dataclass
class SegmentScorer:
    """A trained scorer with what it needs to look at a new question.

    Args:
        model: the learned weights.
        lexical: features, with the idf of the training questions.
        questions: training questions, whose names are counted for df.
        filler: token id that stands for the name in a masked question.
    """

    model: LexicalScorer
    lexical: Lexical
    questions: Strings
    filler: int

    @torch.no_grad()
    def names(self, questions: Strings, names: Names, df: Ints) -> NDArray[np.float64]:
        """Scores of the names found, (N,)."""
        self.model.eval()
        texts = masked(questions, names, self.filler)
        out = torch.zeros(len(names.name))
        order = np.argsort(texts.lengths, kind="stable")
        for start in range(0, len(order), 256):
            part = order[start : start + 256]
            ids, mask = pad(texts.take(part))
            of = (torch.from_numpy(x[part]) for x in (names.length, df))
            out[torch.from_numpy(part)] = self.model.names(ids, mask, *of)
        return np.asarray(out.double().numpy())

    @torch.no_grad()
    def predicates(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of predicates from their nine features (N, 9), (N,)."""
        given = torch.from_numpy(features.astype(np.float32))
        return np.asarray(self.model.predicates(given).double().numpy())

    def document_frequency(self, index: PrefixIndex) -> Ints:
        """Training questions that hold each name of the base, (names,) int64."""
        found = find_names(index, self.questions)
        return np.bincount(found.name, minlength=int(index.base[1]))


def train_segment_scorer(
    index: PrefixIndex,
    questions: Strings,
    names: list[list[int]],
    predicates: list[list[int]],
    *,
    vocabulary: int,
    silent: list[int],
    steps: int = 800,
    batch: int = 64,
    hard: int = 3,
    lr: float = 1e-3,
    seed: int = 0,
) -> SegmentScorer:
    """Cross-entropy of names against a wrong name of the same question, and of predicates against
    those of the batch and ``hard`` of the best LCS matches.

    Args:
        index: a base; its names are the wrong names of a question.
        questions: training questions without special tokens.
        names, predicates: token ids of the right name and predicate of each question.
        vocabulary: number of token ids; ``vocabulary`` itself stands for the masked name.
        silent: ids that share nothing.
        steps, batch, hard, lr, seed: of the training; 0 steps give a scorer whose weights are loaded
            afterwards, without the tables that training needs.
    """
    if steps == 0:
        lexical = _Questions(questions, names, vocabulary, silent).lexical
        return SegmentScorer(LexicalScorer(vocabulary + 1).eval(), lexical, questions, vocabulary)
    data = _Examples(index, questions, names, predicates, vocabulary, silent)
    # A first question may come in the middle of an evaluation, where gradients are off.
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        model = _fit(data, vocabulary, steps=steps, batch=batch, hard=hard, lr=lr, seed=seed)
    return SegmentScorer(model.eval(), data.lexical, questions, vocabulary)


def _fit(
    data: _Examples, vocabulary: int, *, steps: int, batch: int, hard: int, lr: float, seed: int
) -> LexicalScorer:
    torch.manual_seed(seed)
    model = LexicalScorer(vocabulary + 1)
    scalars = [model.lexical.weight, model.lexical.bias, model.name_weights]
    others = [p for p in model.parameters() if all(p is not s for s in scalars)]
    groups: list[dict[str, Any]] = [
        {"params": others},
        {"params": scalars, "lr": 10 * lr, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: cosine_rate(s, steps))
    rng, order = np.random.default_rng(seed), np.zeros(0, np.int64)
    size = min(batch, len(data.gold))
    for _ in range(steps):
        if len(order) < size:
            order = rng.permutation(len(data.gold))
        rows, order = order[:size], order[size:]
        loss = data.predicate_loss(model, rows, hard, rng) + data.name_loss(model, rows, rng)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


class _Questions:
    """Where the right names stand in the training questions, and idf without them."""

    def __init__(
        self, questions: Strings, names: list[list[int]], vocabulary: int, silent: list[int]
    ) -> None:
        self.right, self.usable = _right_names(questions, names)
        self.texts = masked(questions, self.right, vocabulary)
        self.lexical = Lexical(self.texts, vocabulary + 1, [*silent, vocabulary])


class _Examples:
    """Tables of all training questions against all training predicates, and the wrong names."""

    def __init__(
        self,
        index: PrefixIndex,
        questions: Strings,
        names: list[list[int]],
        predicates: list[list[int]],
        vocabulary: int,
        silent: list[int],
    ) -> None:
        self.questions, self.filler = questions, vocabulary
        known = _Questions(questions, names, vocabulary, silent)
        self.right, self.lexical = right, lexical = known.right, known.lexical
        found = find_names(index, questions)
        self.df = np.bincount(found.name, minlength=int(index.base[1]))
        wrong = (right.start[found.question] != found.start) | (
            right.length[found.question] != found.length
        )
        self.wrong = found.take(np.flatnonzero(wrong))
        self.first_wrong = np.searchsorted(self.wrong.question, np.arange(len(questions) + 1))
        self.own_df = self._own_df(found)
        distinct = sorted({tuple(p) for p in predicates})
        number = {p: i for i, p in enumerate(distinct)}
        self.q, self.p = lexical.side(known.texts), lexical.side(Strings.of(distinct))
        self.lcs, self.shared, self.pairs = lexical.table(self.q, self.p)
        size = np.maximum(self.p.strings.lengths, 1)
        near = min(NEAR, len(distinct))
        self.near = np.argsort(-(self.lcs / np.sqrt(size)), axis=1, kind="stable")[:, :near]
        self.usable = np.flatnonzero(known.usable)
        self.target = np.array([number[tuple(p)] for p in predicates])
        self.gold = self.target[self.usable]

    def _own_df(self, found: Names) -> Ints:
        own = np.zeros(len(self.questions), np.int64)
        mine = (self.right.start[found.question] == found.start) & (
            self.right.length[found.question] == found.length
        )
        own[found.question[mine]] = self.df[found.name[mine]]
        return own

    def predicate_loss(
        self, model: LexicalScorer, rows: Ints, hard: int, rng: np.random.Generator
    ) -> Tensor:
        row = self.usable[rows]
        picks = rng.integers(0, self.near.shape[1], (len(rows), hard))
        negative = self.near[row[:, None], picks].reshape(-1)
        candidates = np.unique(np.concatenate([self.target[row], negative]))
        at = np.ix_(row, candidates)
        size, idf = self.p.strings.lengths[candidates], self.p.idf[candidates]
        features = stack(
            self.lcs[at], self.shared[at], self.pairs[at], size, idf, self.q.idf[row][:, None]
        )
        gold = torch.from_numpy(np.searchsorted(candidates, self.target[row]))
        return F.cross_entropy(model.predicates(torch.from_numpy(features)), gold)

    def name_loss(self, model: LexicalScorer, rows: Ints, rng: np.random.Generator) -> Tensor:
        row = self.usable[rows]
        count = self.first_wrong[row + 1] - self.first_wrong[row]
        row, count = row[count > 0], count[count > 0]
        if len(row) == 0:
            return torch.zeros(())
        pick = self.first_wrong[row] + (rng.random(len(row)) * count).astype(np.int64)
        wrong = self.wrong.take(pick)
        right = self.right.take(row)
        # Not counting the question itself: a wrong name is always found in its own.
        others = np.maximum(self.df[wrong.name] - 1, 0)
        own = np.maximum(self.own_df[row] - 1, 0)
        texts = masked(
            self.questions, Names(*(_join(a, b) for a, b in zip(right, wrong))), self.filler
        )
        ids, mask = pad(texts)
        length = torch.from_numpy(_join(right.length, wrong.length))
        score = model.names(ids, mask, length, torch.from_numpy(_join(own, others)))
        half = len(row)
        return F.softplus(score[half:] - score[:half]).sum() / len(rows)


def _join(a: Ints, b: Ints) -> Ints:
    return np.concatenate([a, b])


def _right_names(questions: Strings, names: list[list[int]]) -> tuple[Names, NDArray[np.bool_]]:
    """Where the right name stands in each question; questions without it are not usable."""
    start, length = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    usable = np.zeros(len(names), bool)
    for i, name in enumerate(names):
        question = questions[i]
        spots = (k for k in range(len(question)) if question[k : k + len(name)] == name)
        at = next(spots, -1) if name else -1
        if at >= 0:
            start[i], length[i], usable[i] = at, len(name), True
    numbers = np.arange(len(names))
    return Names(numbers, np.full(len(names), -1), start, length), usable
