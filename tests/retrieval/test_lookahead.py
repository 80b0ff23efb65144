"""The carried exponents equal the article's rule written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.retrieval import PrefixIndex, Strings
from kexue_pl.retrieval.beam_search import constrained_beam_search
from kexue_pl.retrieval.lookahead import Lookahead
from tests.retrieval.oracle import SEP, bases
from tests.retrieval.table_decoder import VOCABULARY, TableDecoder
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


@settings(max_examples=30, deadline=None)
@given(bases(), st.integers(0, 99), st.lists(st.integers(3, 7), max_size=10), st.booleans())
def test_the_search_scores_as_the_article_does(
    items: Any, seed: int, question: list[int], renormalise: bool
) -> None:
    """The power is of p over the whole vocabulary; what may not follow is left out after it."""
    index, decoder, q = (
        PrefixIndex.build(items, separator=SEP),
        TableDecoder(1, seed),
        [1, *question],
    )
    found = constrained_beam_search(
        index, decoder, 1, beams=500, answers=500, skip_forced=False, renormalise=renormalise,
        lookahead=Lookahead(Strings.of([[*q, SEP]]), VOCABULARY),
    )[0]  # fmt: skip
    for hypothesis in found:
        key, state, total, last = hypothesis.tokens, index.start(1), 0.0, np.zeros((1, 2), np.int64)
        for i, token in enumerate(key):
            children = index.allowed(state)
            p = decoder.logits(np.zeros(1, np.int64), last)[0].softmax(-1).numpy()
            n = np.array(reference(index, state, children, list(key[:i]), [*q, SEP]))
            p = p[children.token] ** (1 / n)
            p /= p.sum() if renormalise else 1
            total += float(np.log(p[children.token == token])[0])
            state = index.advance(state, np.array([token]))
            last = np.array([[last[0, 1], token]])
        assert hypothesis.score == pytest.approx(total)


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
