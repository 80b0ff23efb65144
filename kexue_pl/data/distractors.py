"""Knowledge bases with distractors around the triples of question files."""

from __future__ import annotations

import collections
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from kexue_pl.retrieval.lcs import lcs_table

MODES = ("qa", "rich", "hard")
CHUNK = 2000
CLOSEST = 12  # hard distractors are drawn from this many best matches of a question


class Question(NamedTuple):
    """A question with the parts of its triple; the subject without its meaning."""

    question: str
    subject: str
    predicate: str
    meaning: str
    object: str


Triple = tuple[str, str, str, str]  # subject, predicate, meaning, object


def knowledge_base(rows: Sequence[Question], mode: str, *, seed: int = 0) -> list[Triple]:
    """Unique (S, P, M, O) around the triples of ``rows``, in shuffled order.

    A base made of the question files alone asks only for the name: each has one predicate. A
    distractor never replaces a triple of the files, and the order is shuffled, so that a position
    says nothing.

    Args:
        rows: questions whose triples the base must hold.
        mode: ``qa`` the triples alone; ``rich`` with predicates by frequency, two that share a
            character with the right one, second meanings, names that are parts or extensions;
            ``hard`` with four of the twelve predicates most like the question, two by frequency,
            and 10 % of the questions with a second meaning that answers the same predicate, which
            nothing can decide.
        seed: of the draws; the same seed gives the same base.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"data.base={mode!r}: accepted are {', '.join(MODES)}")
    builder = _Builder(rows, seed)
    if mode == "rich":
        builder.rich()
    elif mode == "hard":
        builder.hard()
    unique: dict[tuple[str, str, str], str] = {}
    for s, p, m, o in builder.base:
        unique.setdefault((s, p, m), o)
    out = [(*key, o) for key, o in unique.items()]
    random.Random(seed + 1).shuffle(out)
    return out


class _Builder:
    def __init__(self, rows: Sequence[Question], seed: int) -> None:
        self.rows, self.random = rows, random.Random(seed)
        self.gold: list[Triple] = [(r.subject, r.predicate, r.meaning, r.object) for r in rows]
        frequency = collections.Counter(r.predicate for r in rows)
        self.predicates = sorted(frequency)
        self.mass = list(accumulate(frequency[p] for p in self.predicates))
        self.meanings = [r.meaning for r in rows if r.meaning] or [""]
        self.objects = [r.object for r in rows]
        self.base = list(self.gold)

    def by_frequency(self, count: int) -> list[str]:
        return self.random.choices(self.predicates, cum_weights=self.mass, k=count)

    def add(self, subject: str, predicates: Sequence[str], meaning: str) -> None:
        for p in predicates:
            self.base.append((subject, p, meaning, self.random.choice(self.objects)))

    def neighbours(self, subject: str) -> None:
        """A second meaning of the name, and a name that is a part or an extension of it."""
        if self.random.random() < 0.3:
            other = self.random.choice(self.meanings)
            self.add(subject, self.by_frequency(4), other)
        if self.random.random() < 0.5 and len(subject) > 2:
            cut = self.random.randrange(1, len(subject))
            extended = subject + self.random.choice(subject)
            near = self.random.choice([subject[:cut], subject[cut:], extended])
            self.add(near, self.by_frequency(3), "")

    def rich(self) -> None:
        sharing = collections.defaultdict(list)
        for p in self.predicates:
            for c in p:
                sharing[c].append(p)
        for s, p, m, _ in self.gold:
            near = (
                [self.random.choice(sharing[self.random.choice(p)]) for _ in range(2)] if p else []
            )
            count = 1 + int(self.random.expovariate(1 / 5.6))
            self.add(s, self.by_frequency(count) + near, m)
            self.neighbours(s)

    def hard(self) -> None:
        size = np.sqrt([max(1, len(p)) for p in self.predicates])
        for start in range(0, len(self.rows), CHUNK):
            part = self.rows[start : start + CHUNK]
            rest = [r.question.replace(r.subject, "", 1) for r in part]
            likeness = lcs_table(rest, self.predicates) / size
            top = np.argsort(-likeness, axis=1, kind="stable")[:, :CLOSEST]
            for best, (s, p, m, _) in zip(top.tolist(), self.gold[start : start + CHUNK]):
                others = [self.predicates[j] for j in best if self.predicates[j] != p]
                near = self.random.sample(others, min(4, len(others)))
                self.add(s, near + self.by_frequency(2), m)
                if self.random.random() < 0.1:
                    self.add(s, [p], self.random.choice(self.meanings))
                self.neighbours(s)
