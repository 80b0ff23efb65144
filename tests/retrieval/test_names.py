"""Names found by walking equal names found by substring search."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.retrieval import PrefixIndex, Strings
from kexue_pl.retrieval.names import find_names, masked
from tests.retrieval.oracle import SEP, bases

questions = st.lists(st.lists(st.integers(3, 7), max_size=9), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(bases(), questions)
def test_names_equal_substring_search(items: Any, texts: list[list[int]]) -> None:
    index = PrefixIndex.build(items, separator=SEP)
    found = find_names(index, Strings.of(texts))
    got = list(zip(*(x.tolist() for x in found), strict=True))
    want = []
    for q, text in enumerate(texts):
        for rank in range(int(index.base[1])):
            name = index.pool_strings(np.array([rank]))[0]
            places = [i for i in range(len(text)) if text[i : i + len(name)] == name]
            if name and places:
                want.append((q, rank, places[0], len(name)))
    assert got == want
    rest = masked(Strings.of(texts), found, 99)
    for k, (q, _, start, length) in enumerate(got):
        assert rest[k] == [*texts[q][:start], 99, *texts[q][start + length :]]
