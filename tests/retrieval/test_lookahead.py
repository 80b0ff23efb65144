"""The carried exponents equal the article's rule written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.retrieval import PrefixIndex, Strings
from kexue_pl.retrieval.lookahead import Lookahead
from tests.retrieval.oracle import SEP, bases
from tests.retrieval.test_lcs import plain


@settings(max_examples=60, deadline=None)
@given(bases(), st.lists(st.integers(3, 7), max_size=80), st.lists(st.integers(3, 7), max_size=8))
def test_exponents_equal_the_plain_rule(items: Any, long: list[int], short: list[int]) -> None:
    index = PrefixIndex.build(items, separator=SEP)
    sources = [[1, *q, SEP] for q in (long, short)]
    look = Lookahead(Strings.of(sources), vocabulary=8)
    question = np.array([1, 0])
    for row in range(0, len(index), 3):
        key = index.key(row)
        state, rows = index.start(2), look.start(question)
        for i, token in enumerate(key):
            children = index.allowed(state)
            got = look.exponents(index, state, children, question, rows)
            assert got.tolist() == [
                n for b in (1, 0) for n in reference(index, state, children, key[:i], sources[b])
            ]
            state = index.advance(state, np.full(2, token))
            rows = look.advance(rows, question, np.full(2, token))


def reference(
    index: PrefixIndex, state: Any, children: Any, prefix: list[int], q: list[int]
) -> Any:
    one = slice(children.ptr[0], children.ptr[1])
    if SEP not in prefix or state.segment[0] == index.segments or children.ptr[1] < 2:
        return [1] * int(children.ptr[1])
    have = plain(prefix, q)
    pairs = zip(children.lo[one].tolist(), children.hi[one].tolist(), strict=True)
    return [
        max(1, *(1 + plain(index.key(r)[:-1], q) - have for r in range(a, z))) for a, z in pairs
    ]


def test_too_many_rows_are_left_alone_with_a_warning() -> None:
    index = PrefixIndex.build([([5, 2, 7], 0), ([5, 2, 9], 1)], separator=SEP)
    look = Lookahead(Strings.of([[5, 7]]), vocabulary=10, most_rows=1)
    state = index.advance(index.advance(index.start(1), np.array([5])), np.array([SEP]))
    rows, zero = look.start(np.array([0])), np.array([0])
    with pytest.warns(UserWarning, match="2 keys below one beam"):
        out = look.exponents(index, state, index.allowed(state), zero, rows)
    assert out.tolist() == [1, 1]
    look.most_rows = 2
    assert look.exponents(index, state, index.allowed(state), zero, rows).tolist() == [2, 1]
