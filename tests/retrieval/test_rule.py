"""The model-free rule, against a plain one, and blind to the order of rows."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kexue_pl.retrieval import PrefixIndex, Strings
from kexue_pl.retrieval.rule import rule
from tests.retrieval.oracle import SEP
from tests.retrieval.test_lcs import plain


def plain_rule(keys: list[list[list[int]]], question: list[int]) -> list[list[list[int]]]:
    """Longest name, then likeness, then the shorter meaning: all keys that are equal so far."""

    def at(name: list[int]) -> int:
        spots = (i for i in range(len(question)) if question[i : i + len(name)] == name)
        return next(spots, -1)

    names = [k[0] for k in keys if k[0] and at(k[0]) >= 0]
    if not names:
        return []
    name = min(names, key=lambda n: (-len(n), at(n)))
    spot = at(name)
    rest = [*question[:spot], SEP, *question[spot + len(name) :]]
    mine = [k for k in keys if k[0] == name]
    cost = [(-plain(k[1], rest) / max(1, len(k[1])) ** 0.5, len(k[2])) for k in mine]
    return [k for k, c in zip(mine, cost, strict=True) if c == min(cost)]


def test_rule_equals_a_plain_one_whatever_the_order_of_rows() -> None:
    rng = random.Random(0)
    word = lambda most: [rng.randrange(3, 9) for _ in range(rng.randrange(0, most))]  # noqa: E731
    keys = [[word(4), word(4), word(3)] for _ in range(60)]
    questions = [word(10) for _ in range(300)]
    found = []
    for seed in range(2):
        random.Random(seed).shuffle(keys)
        items = [([*s, SEP, *p, SEP, *m], 0) for s, p, m in keys]
        index = PrefixIndex.build(items, separator=SEP)
        rows = rule(index, Strings.of(questions), 9)
        found.append([index.key(r) if r >= 0 else None for r in rows.tolist()])
    assert found[0] == found[1]
    for question, key in zip(questions, found[0], strict=True):
        best = [[*s, SEP, *p, SEP, *m, SEP] for s, p, m in plain_rule(keys, question)]
        assert key in best if best else key is None


def test_ties_fall_to_frequent_tokens_no_more_often_than_to_others() -> None:
    # Every name has two predicates that share nothing with the question; token 5 sorts first.
    items = [([100 + i, SEP, p, SEP], 0) for i in range(400) for p in (5, 9)]
    index = PrefixIndex.build(items, separator=SEP)
    rows = rule(index, Strings.of([[100 + i] for i in range(400)]), 600)
    first = sum(index.key(r)[2] == 5 for r in rows.tolist())
    assert abs(first - 200) < 4 * 10


def test_flat_keys_are_refused() -> None:
    index = PrefixIndex.build([([5], 0)], separator=SEP)
    with pytest.raises(ValueError, match="at least 2 segments, the index has 1"):
        rule(index, Strings.of([[5]]), 9)
    assert len(rule(PrefixIndex.build([([5, 2], 0)], separator=SEP), Strings.of([]), 9)) == 0
    assert np.array_equal(
        rule(PrefixIndex.build([([5, 2], 0)], separator=SEP), Strings.of([[4]]), 9), [-1]
    )
