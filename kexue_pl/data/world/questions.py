"""Questions about the embedded facts, generated from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from kexue_pl.data.world.facts import Fact, entity_kinds, load_facts
from kexue_pl.data.world.templates import check_split, phrasings

_SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}


@dataclass(frozen=True)
class Question:
    """A question with the fact that answers it.

    Args:
        question: the text asked.
        subject: the entity asked about; it occurs in the text.
        predicate: the relation asked for; the text may or may not name it.
        object: the answer.
        kind: the kind of the subject.
    """

    question: str
    subject: str
    predicate: str
    object: str
    kind: str


def split_subjects(seed: int, split: str) -> set[tuple[str, str]]:
    """The (kind, subject) pairs of a split: 70 % train, 10 % valid, 20 % test of every kind.

    >>> parts = [split_subjects(0, name) for name in ("train", "valid", "test")]
    >>> parts[0] & parts[1], parts[0] & parts[2], parts[1] & parts[2]
    (set(), set(), set())
    """
    check_split(split)
    chosen: set[tuple[str, str]] = set()
    for kind, subjects in entity_kinds().items():
        order = sorted(subjects)
        random.Random(f"{seed}/subjects/{kind}").shuffle(order)
        first = round(_SHARES["train"] * len(order))
        second = first + max(1, round(_SHARES["valid"] * len(order)))
        part = {"train": order[:first], "valid": order[first:second], "test": order[second:]}
        chosen.update((kind, subject) for subject in part[split])
    return chosen


def split_facts(seed: int, split: str) -> list[Fact]:
    """The facts whose subject belongs to ``split``, in the order of the files."""
    subjects = split_subjects(seed, split)
    return [fact for fact in load_facts() if (fact.kind, fact.subject) in subjects]


def questions(seed: int, split: str, *, per_fact: int = 1) -> list[Question]:
    """Questions about the facts of a split, shuffled; subjects and wording of the test are new.

    Args:
        seed: the same seed gives the same questions on any machine.
        split: ``train``, ``valid`` or ``test``.
        per_fact: different wordings of one fact, at most as many as there are.

    Raises:
        ValueError: unknown split, or ``per_fact`` below 1.

    >>> questions(0, "test") == questions(0, "test")
    True
    >>> all(row.subject in row.question for row in questions(0, "train"))
    True
    """
    if per_fact < 1:
        raise ValueError(f"per_fact={per_fact}: expected at least 1")
    rng = random.Random(f"{seed}/questions/{split}")
    rows: list[Question] = []
    for fact in split_facts(seed, split):
        templates = phrasings(fact.predicate, split)
        for template in rng.sample(templates, min(per_fact, len(templates))):
            text = template.replace("{s}", fact.subject)
            rows.append(Question(text, fact.subject, fact.predicate, fact.object, fact.kind))
    rng.shuffle(rows)
    return rows
