"""The bit-parallel table equals the textbook programme, for one word and several."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.retrieval import Strings, lcs


def plain(a: list[int] | str, b: list[int] | str) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


text = st.text("abcd", max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(text, min_size=1, max_size=6), st.lists(text, min_size=1, max_size=6))
def test_table_and_pairs_equal_the_programme(left: list[str], right: list[str]) -> None:
    want = [[plain(a, b) for b in right] for a in left]
    assert lcs.lcs_table(left, right).tolist() == want
    size = min(len(left), len(right))
    assert lcs.lcs_pairs(left[:size], right[:size]).tolist() == [want[i][i] for i in range(size)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(2, 5))
def test_carries_between_words(seed: int, columns: int, alphabet: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, alphabet, columns), rng.integers(0, alphabet, 90)
    masks = lcs.match_masks(Strings.of([a.tolist()]), alphabet)
    rows = lcs.start_rows(1, masks.width)
    for i, token in enumerate(b.tolist(), 1):
        rows = lcs.advance(rows, masks.at(slice(None), token))
        if i % 30 == 0:
            have = lcs.lengths(rows, np.array([columns]))[0]
            assert have == plain(b[:i].tolist(), a.tolist())


def test_a_full_word_of_matches_carries_over() -> None:
    ones = [1] * 130
    masks = lcs.match_masks(Strings.of([ones]), 2)
    out = lcs.run(lcs.start_rows(1, 3), masks, np.array([0]), Strings.of([ones]))
    assert lcs.lengths(out, np.array([130])).tolist() == [130]


def test_run_is_independent_of_the_other_strings() -> None:
    rng = np.random.default_rng(1)
    strings = [rng.integers(0, 4, n).tolist() for n in (5, 0, 9, 2)]
    columns = Strings.of([rng.integers(0, 4, 20).tolist() for _ in range(2)])
    masks, of = lcs.match_masks(columns, 4), np.array([0, 1, 1, 0])
    out = lcs.run(lcs.start_rows(4, 1), masks, of, Strings.of(strings))
    got = lcs.lengths(out, columns.lengths[of]).tolist()
    assert got == [plain(s, columns[o]) for s, o in zip(strings, of.tolist(), strict=True)]


def test_long_subsequences_are_capped_in_the_table() -> None:
    assert lcs.lcs_table(["a" * 300], ["a" * 300]).tolist() == [[255]]
