"""Holding out pairs without sharing sentences, and counting what two sets share."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Leak",
    "Repeats",
    "leak",
    "length_correlation",
    "pair_key",
    "repeats",
    "split_components",
]

_LOG = logging.getLogger(__name__)

Texts = Sequence[tuple[str, str]]


def pair_key(left: str, right: str) -> tuple[str, str]:
    """The pair without its order.

    >>> pair_key("b", "a")
    ('a', 'b')
    """
    return (left, right) if left <= right else (right, left)


def split_components(pairs: Texts, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Row numbers of a training and a held-out part that have no sentence in common.

    Rows are the edges of a graph of sentences; whole connected components are held out. Components
    of more than 2 % of the rows stay in training. A random part of BQ, for comparison, shares
    sentences with 98 % of its rows and so is not held out.

    Args:
        pairs: the texts of all rows.
        share: wanted part of held-out rows, 0 to 1.
        seed: of the choice.

    >>> split_components([("a", "b"), ("c", "d"), ("b", "e"), ("f", "g")], 0.5, 0)
    ([1, 3], [0, 2])
    """
    parts = _components(pairs)
    random.Random(seed).shuffle(parts)
    limit = max(1.0, share * len(pairs))
    held: list[int] = []
    train: list[int] = []
    for part in parts:
        small = len(part) <= max(1.0, 0.02 * len(pairs)) or len(pairs) < 100
        fits = len(held) + len(part) <= limit
        (held if small and fits and share > 0 else train).extend(part)
    return sorted(train), sorted(held)


def _components(pairs: Texts) -> list[list[int]]:
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while parent.setdefault(text, text) != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for left, right in pairs:
        parent[root(left)] = root(right)
    parts: dict[str, list[int]] = {}
    for row, (left, _) in enumerate(pairs):
        parts.setdefault(root(left), []).append(row)
    return list(parts.values())


@dataclass(frozen=True)
class Leak:
    """What an evaluation set shares with the training set.

    Attributes:
        rows: rows of the evaluation set.
        pairs: rows whose pair, in any order, is a training row.
        both: rows of whose sentences both occur in training.
        any: rows with at least one sentence of training.
        train_rows: training rows whose pair is in the evaluation set.
    """

    rows: int
    pairs: int
    both: int
    any: int
    train_rows: tuple[int, ...]


def leak(train: Texts, other: Texts) -> Leak:
    """Count shared pairs and sentences; pairs are compared without their order.

    >>> leak([("a", "b"), ("c", "d")], [("b", "a"), ("a", "x")])
    Leak(rows=2, pairs=1, both=1, any=2, train_rows=(0,))
    """
    known = {pair_key(*pair) for pair in train}
    texts = {text for pair in train for text in pair}
    keys = {pair_key(*pair) for pair in other}
    return Leak(
        rows=len(other),
        pairs=sum(pair_key(*pair) in known for pair in other),
        both=sum(left in texts and right in texts for left, right in other),
        any=sum(left in texts or right in texts for left, right in other),
        train_rows=tuple(row for row, pair in enumerate(train) if pair_key(*pair) in keys),
    )


@dataclass(frozen=True)
class Repeats:
    """Rows of one set whose pair occurs before.

    Attributes:
        same: rows that repeat an earlier pair, with a label it had before or without labels.
        other: rows that repeat an earlier pair with a label it did not have before.
    """

    same: int
    other: int


def repeats(pairs: Texts, labels: Sequence[float] | None = None) -> Repeats:
    """Count rows whose pair, in any order, occurs before.

    >>> repeats([("a", "b"), ("b", "a"), ("a", "b"), ("c", "d")], [1, 1, 0, 0])
    Repeats(same=1, other=1)
    """
    seen: dict[tuple[str, str], set[float]] = {}
    same = other = 0
    for row, pair in enumerate(pairs):
        label = 0.0 if labels is None else labels[row]
        known = seen.setdefault(pair_key(*pair), set())
        same += label in known
        other += bool(known) and label not in known
        known.add(label)
    return Repeats(same, other)


def length_correlation(pairs: Texts, labels: Sequence[float]) -> float:
    """Spearman correlation of the total length of a pair and its label; nan if either is constant.

    A set in which long pairs are more often positive rewards a model that reads the length alone;
    where another set lacks that cue, the model fails there.
    """
    import numpy as np
    from scipy.stats import rankdata

    lengths = rankdata([len(left) + len(right) for left, right in pairs])
    ranks = rankdata(labels)
    if np.ptp(lengths) == 0 or np.ptp(ranks) == 0:
        return float("nan")
    return float(np.corrcoef(lengths, ranks)[0, 1])
