"""Constrained beam search over a prefix index, batched over questions, no Python per beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kexue_pl.retrieval.beam_state import BeamState, Children, Ints
from kexue_pl.retrieval.decoder import StepDecoder
from kexue_pl.retrieval.lookahead import Lookahead
from kexue_pl.retrieval.prefix_index import PrefixIndex

Floats = NDArray[np.float64]
MOST_STEPS = 256


@dataclass(frozen=True)
class Hypothesis:
    """A finished key.

    Args:
        score: sum of log-probabilities over its tokens.
        lo, hi: its sorted rows in the index.
        tokens: the key with the separator after each segment.
    """

    score: float
    lo: int
    hi: int
    tokens: tuple[int, ...]


@torch.no_grad()
def constrained_beam_search(
    index: PrefixIndex,
    decoder: StepDecoder,
    batch: int,
    *,
    beams: int = 3,
    answers: int = 1,
    renormalise: bool = True,
    lookahead: Lookahead | None = None,
    skip_forced: bool = True,
    segments: int | None = None,
    max_steps: int = MOST_STEPS,
) -> list[list[Hypothesis]]:
    """Most probable keys of the base for each question, best first (kexue.fm/archives/8802).

    Only children of the prefix tree may be written. The score of a key is the sum over its tokens
    of log p, p normalised over the allowed children (so that a forced token costs nothing and all
    keys share a probability of one); there is no length penalty. Finished keys wait in a pool and
    the search of a question ends when no live beam can still pass its ``answers`` best: exact,
    since scores fall.

    Args:
        index: the base.
        decoder: the model, bound to the ``batch`` questions.
        batch: number of questions, B.
        beams: live beams a question.
        answers: how many best keys must be exact with respect to the beam before stopping, <=
            beams.
        renormalise: normalise over the allowed children; False scores with the model's own p.
        lookahead: exponents of the article on p over the whole vocabulary, before it is
            normalised over the children; None for none.
        skip_forced: with ``renormalise``, finish a beam as soon as one key is left below it: what
            remains has probability one, so neither score nor model are asked.
        segments: stop after this many segments, for a search over names alone; None for whole keys.
        max_steps: longest key in tokens.

    Returns:
        B lists of at most ``beams`` hypotheses.

    Raises:
        ValueError: ``answers`` above ``beams``, or either below 1.
    """
    if not 1 <= answers <= beams:
        raise ValueError(f"beams={beams}, answers={answers}: 1 <= answers <= beams is required")
    search = _Search(index, beams, answers, renormalise, lookahead, segments or index.segments)
    search.skip_forced = skip_forced and renormalise and segments is None
    search.begin(batch)
    logits = decoder.start()
    for _ in range(max_steps):
        parent, token = search.extend(logits)
        if len(token) == 0:
            break
        logits = decoder.step(search.question, parent, token)
    return [sorted(pool, key=lambda h: -h.score)[:beams] for pool in search.done]


@dataclass
class _Search:
    index: PrefixIndex
    beams: int
    answers: int
    renormalise: bool
    lookahead: Lookahead | None
    segments: int
    skip_forced: bool = False

    def begin(self, batch: int) -> None:
        self.state = self.index.start(batch)
        self.question = np.arange(batch)
        self.score = np.zeros(batch)
        self.tokens: Ints = np.zeros((batch, 0), np.int64)
        self.rows = None if self.lookahead is None else self.lookahead.start(self.question)
        self.done: list[list[Hypothesis]] = [[] for _ in range(batch)]

    def extend(self, logits: Tensor) -> tuple[Ints, Ints]:
        """One step: keep the best children, move finished ones to the pool; (parent, token)."""
        children = self.index.allowed(self.state)
        beam = children.beam
        total = self.score[beam] + self._log_p(logits, children, beam)
        keep = best_per_group(self.question[beam], total, self.beams)
        parent, token = beam[keep], children.token[keep]
        self.state = self.index.choose(self.state, children, keep)
        self.question, self.score = self.question[parent], total[keep]
        self.tokens = np.concatenate([self.tokens[parent], token[:, None]], axis=1)
        if self.rows is not None and self.lookahead is not None:
            self.rows = self.lookahead.advance(self.rows[parent], self.question, token)
        live = self._finish()
        self._keep(live)
        return parent[live], token[live]

    def _log_p(self, logits: Tensor, children: Children, beam: Ints) -> Floats:
        """Log-probability of every child."""
        if self.lookahead is not None or not self.renormalise:
            logits = log_probabilities(logits)  # powers of p, and p itself, are over the vocabulary
        flat = torch.from_numpy(beam * logits.shape[-1] + children.token).to(logits.device)
        log_p = logits.reshape(-1)[flat].double().cpu().numpy()
        if self.lookahead is not None and self.rows is not None:
            args = (self.index, self.state, children, self.question, self.rows)
            log_p = log_p / self.lookahead.exponents(*args)
        if self.renormalise:
            log_p = log_p - segment_logsumexp(log_p, children.ptr)[beam]
        return np.asarray(log_p)

    def _finish(self) -> NDArray[np.bool_]:
        """Move finished beams to their pools; which beams may still win."""
        ended = self.state.segment >= self.segments
        if self.skip_forced:
            ended |= self.index.single(self.state)
        lo, hi = self.index.leaves(self.state)
        for i in np.flatnonzero(ended).tolist():
            key = tuple(self.tokens[i].tolist())
            if self.state.segment[i] < self.segments:
                key = tuple(self.index.key(int(lo[i])))
            found = Hypothesis(float(self.score[i]), int(lo[i]), int(hi[i]), key)
            self.done[int(self.question[i])].append(found)
        bar = np.full(len(self.done), -np.inf)
        for q in np.unique(self.question).tolist():
            pool = sorted((h.score for h in self.done[q]), reverse=True)
            if len(pool) >= self.answers:
                bar[q] = pool[self.answers - 1]
        return np.asarray(~ended & (self.score > bar[self.question]))

    def _keep(self, live: NDArray[np.bool_]) -> None:
        self.state = BeamState(*(x[live] for x in self.state))
        self.question, self.score = self.question[live], self.score[live]
        self.tokens = self.tokens[live]
        if self.rows is not None:
            self.rows = self.rows[live]


def log_probabilities(logits: Tensor) -> Tensor:
    """``log_softmax`` over the last dimension, in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def segment_logsumexp(x: Floats, ptr: Ints) -> Floats:
    """log sum exp over ragged groups, none of them empty.

    Example:
        >>> out = segment_logsumexp(np.log([1.0, 3.0, 5.0]), np.array([0, 2, 3]))
        >>> np.exp(out).round(6).tolist()
        [4.0, 5.0]
    """
    top = np.maximum.reduceat(x, ptr[:-1])
    top = np.where(np.isfinite(top), top, 0.0)
    summed = np.add.reduceat(np.exp(x - np.repeat(top, np.diff(ptr))), ptr[:-1])
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(summed))


def best_per_group(group: Ints, score: Floats, most: int) -> Ints:
    """Positions of the ``most`` highest scores of each group; groups ascending, scores descending.

    Example:
        >>> best_per_group(np.array([0, 0, 0, 1]), np.array([1.0, 3.0, 2.0, 0.0]), 2).tolist()
        [1, 2, 3]
    """
    order = np.lexsort((-score, group))
    ordered = group[order]
    place = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    return np.asarray(order[place < most])
