"""Pairs of questions with binary and graded labels, generated from a seed."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

from kexue_pl.data.world.facts import Fact
from kexue_pl.data.world.questions import split_facts
from kexue_pl.data.world.templates import phrasings

COUNTS: dict[str, int] = {"train": 8000, "valid": 1000, "test": 2000}
"""Pairs of each split unless told otherwise."""

_MIX = (("same", 0.42), ("subject", 0.24), ("predicate", 0.24), ("kind", 0.05), ("any", 0.05))
_NEW_WORDING = 0.25  # share of wordings in validation and test that training never shows
_GRADE = {"same": 5, "subject": 3, "predicate": 2, "kind": 1, "any": 0}


@dataclass(frozen=True)
class Pair:
    """Two questions and how near their meanings are.

    Args:
        text1: the first question.
        text2: the second question.
        label: 1 if both ask for the same fact, else 0.
        grade: 5 the same fact, 3 another fact about the same subject, 2 the same predicate of
            another subject of the same kind, 1 the same kind only, 0 nothing in common.
        fact: what the first question asks for.
    """

    text1: str
    text2: str
    label: int
    grade: int
    fact: Fact


class _Maker:
    """Draws partners of a fact inside one split."""

    def __init__(self, facts: list[Fact], split: str, rng: random.Random) -> None:
        self.facts, self.split, self.rng = facts, split, rng
        self.by_subject: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        self.by_predicate: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        self.by_kind: dict[str, list[Fact]] = defaultdict(list)
        for fact in facts:
            self.by_subject[fact.kind, fact.subject].append(fact)
            self.by_predicate[fact.kind, fact.predicate].append(fact)
            self.by_kind[fact.kind].append(fact)

    def partner(self, fact: Fact, relation: str) -> Fact | None:
        """A fact standing in ``relation`` to ``fact``, None if there is none."""
        if relation == "same":
            return fact
        if relation == "subject":
            pool = [f for f in self.by_subject[fact.kind, fact.subject] if f != fact]
            return self.rng.choice(pool) if pool else None
        if relation == "predicate":
            pool = [f for f in self.by_predicate[fact.kind, fact.predicate] if f != fact]
            return self._near(fact, pool) if pool else None
        source = self.by_kind[fact.kind] if relation == "kind" else self.facts
        pool = [f for f in self.rng.sample(source, min(20, len(source))) if _strange(f, fact)]
        pool = [f for f in pool if (f.kind == fact.kind) == (relation == "kind")]
        return pool[0] if pool else None

    def _near(self, fact: Fact, pool: list[Fact]) -> Fact:
        """Half of the time the subject whose name shares the most characters."""
        if self.rng.random() < 0.5:
            return self.rng.choice(pool)
        name = set(fact.subject)
        return max(self.rng.sample(pool, min(8, len(pool))), key=lambda f: _shared(name, f.subject))

    def texts(self, first: Fact, second: Fact, relation: str) -> tuple[str, str]:
        """Wordings: always two different ones for the same fact, often one for a negative."""
        one = self.rng.choice(self._wordings(first))
        options = self._wordings(second)
        if relation == "same":
            options = [option for option in options if option != one]
        elif relation == "predicate" and self.rng.random() < 0.7:
            options = [one]
        two = self.rng.choice(options)
        return one.replace("{s}", first.subject), two.replace("{s}", second.subject)

    def _wordings(self, fact: Fact) -> list[str]:
        """Those of training, or (one time in four) those that only this split uses."""
        own = self.rng.random() < _NEW_WORDING
        return phrasings(fact.predicate, self.split if own else "train")


def _shared(name: set[str], other: str) -> float:
    return len(name & set(other)) / len(name | set(other))


def _strange(one: Fact, two: Fact) -> bool:
    return one.subject != two.subject and one.predicate != two.predicate


def pairs(seed: int, split: str, *, count: int | None = None) -> list[Pair]:
    """Pairs of questions; 42 % mean the same, the rest are mostly near misses.

    A near miss asks for another fact about the same subject, or for the same predicate of a
    subject with a like name, often in the very same words. A bag of characters therefore says
    little. Subjects of validation and test are unseen in training, and so is a part of the wording.

    Args:
        seed: the same seed gives the same pairs on any machine.
        split: ``train``, ``valid`` or ``test``.
        count: how many pairs (default: :data:`COUNTS`).

    Raises:
        ValueError: unknown split, or ``count`` not positive or beyond what the split can give.

    >>> rows = pairs(0, "test", count=500)
    >>> len(rows), rows == pairs(0, "test", count=500)
    (500, True)
    >>> all((row.label == 1) == (row.grade == 5) for row in rows)
    True
    """
    facts = split_facts(seed, split)
    wanted = COUNTS[split] if count is None else count
    if not 1 <= wanted <= 10 * len(facts):
        raise ValueError(f"count={wanted}: expected 1 to {10 * len(facts)} for split={split!r}")
    rng = random.Random(f"{seed}/pairs/{split}")
    maker = _Maker(facts, split, rng)
    relations, weights = [name for name, _ in _MIX], [weight for _, weight in _MIX]
    rows: list[Pair] = []
    seen: set[frozenset[str]] = set()
    while len(rows) < wanted:
        fact, relation = rng.choice(facts), rng.choices(relations, weights)[0]
        other = maker.partner(fact, relation)
        if other is None:
            continue
        one, two = maker.texts(fact, other, relation)
        if one == two or frozenset((one, two)) in seen:
            continue
        seen.add(frozenset((one, two)))
        grade = _GRADE[relation]
        rows.append(Pair(one, two, int(grade == 5), grade, fact))
    return rows
