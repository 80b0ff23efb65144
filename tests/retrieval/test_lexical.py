"""Features equal a plain count; pairs and the whole table agree."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.retrieval import Strings
from kexue_pl.retrieval.lexical import HASH, Lexical, stack
from tests.retrieval.test_lcs import plain

texts = st.lists(st.lists(st.integers(3, 11), max_size=8), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(texts, texts)
def test_features_equal_a_plain_count(left: list[list[int]], right: list[list[int]]) -> None:
    silent = [0, 1, 2, 11]
    lexical = Lexical(Strings.of(left), 12, silent)
    q, p = lexical.side(Strings.of(left)), lexical.side(Strings.of(right))
    i, j = (x.reshape(-1) for x in np.meshgrid(range(len(left)), range(len(right)), indexing="ij"))
    got = lexical.at(q, p, i, j)
    lcs, shared, pairs = lexical.table(q, p)
    size = p.strings.lengths
    table = stack(lcs, shared, pairs, size, p.idf, q.idf[:, None])
    np.testing.assert_allclose(got.reshape(table.shape), table, rtol=1e-5, atol=1e-6)
    for k in range(len(i)):
        a, b = left[i[k]], right[j[k]]
        both = (set(a) & set(b)) - set(silent)
        assert got[k, 0] == pytest.approx(plain(a, b) / max(1, len(b)) ** 0.5, abs=1e-5)
        assert got[k, 3] == pytest.approx(sum(lexical.idf[t] for t in both), abs=1e-5)
        hashed = [{(x * 4099 + y * 31) % HASH for x, y in pairwise(s)} for s in (a, b)]
        assert got[k, 6] == len(hashed[0] & hashed[1])


def test_idf_falls_with_frequency_and_is_silent_where_told() -> None:
    lexical = Lexical(Strings.of([[3, 4], [3], [3, 5]]), 8, [5])
    assert lexical.idf[3] < lexical.idf[4] < lexical.idf[7] == 1.0
    assert lexical.idf[5] == 0
