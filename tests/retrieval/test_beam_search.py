"""Wide beams equal enumeration; narrow ones report true scores of true keys."""

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
from tests.retrieval.table_decoder import VOCABULARY, TableDecoder, enumerate_keys

BATCH, WIDE = 3, 500


@settings(max_examples=20, deadline=None)
@given(bases(), st.integers(0, 1000), st.booleans(), st.booleans())
def test_wide_search_is_enumeration(items: Any, seed: int, renormalise: bool, skip: bool) -> None:
    index, decoder = PrefixIndex.build(items, separator=SEP), TableDecoder(BATCH, seed)
    options = {"renormalise": renormalise, "skip_forced": skip}
    wide = constrained_beam_search(index, decoder, BATCH, beams=WIDE, answers=WIDE, **options)
    best = constrained_beam_search(index, decoder, BATCH, beams=WIDE, **options)
    narrow = constrained_beam_search(index, decoder, BATCH, beams=2, **options)
    for q in range(BATCH):
        truth = enumerate_keys(index, decoder, q, renormalise)
        if renormalise:
            assert sum(np.exp(list(truth.values()))) == pytest.approx(1)
        got = {h.tokens: h.score for h in wide[q]}
        assert got == pytest.approx(truth)
        assert best[q][0].score == pytest.approx(max(truth.values()))
        assert [h.score for h in wide[q]] == sorted(got.values(), reverse=True)
        for h in narrow[q]:
            assert h.score == pytest.approx(truth[h.tokens])
            assert tuple(index.key(h.lo)) == h.tokens == tuple(index.key(h.hi - 1))
            assert h.hi - h.lo == index.count(h.tokens)


@settings(max_examples=20, deadline=None)
@given(bases(), st.integers(0, 1000))
def test_batch_equals_one_by_one(items: Any, seed: int) -> None:
    index, decoder = PrefixIndex.build(items, separator=SEP), TableDecoder(BATCH, seed)
    together = constrained_beam_search(index, decoder, BATCH, beams=2, answers=2)
    for q in range(BATCH):
        alone = TableDecoder(1, seed)
        alone.table = decoder.table[q : q + 1]
        assert constrained_beam_search(index, alone, 1, beams=2, answers=2)[0] == together[q]


@settings(max_examples=20, deadline=None)
@given(bases(), st.integers(0, 1000), st.lists(st.integers(3, 7), max_size=10))
def test_lookahead_keeps_a_distribution_over_keys(items: Any, seed: int, q: list[int]) -> None:
    index, decoder = PrefixIndex.build(items, separator=SEP), TableDecoder(1, seed)
    look = Lookahead(Strings.of([[1, *q, SEP]]), VOCABULARY)
    options = {"beams": WIDE, "answers": WIDE}
    found = constrained_beam_search(index, decoder, 1, lookahead=look, **options)[0]
    assert sum(np.exp([h.score for h in found])) == pytest.approx(1)
    # A question that shares nothing weights nothing.
    nothing = Lookahead(Strings.of([[1]]), VOCABULARY)
    same = constrained_beam_search(index, decoder, 1, lookahead=nothing, **options)[0]
    plain = constrained_beam_search(index, decoder, 1, **options)[0]
    assert {h.tokens: h.score for h in same} == pytest.approx({h.tokens: h.score for h in plain})


def test_lookahead_by_hand() -> None:
    index = PrefixIndex.build([([5, 2, 6], 0), ([5, 2, 7], 1)], separator=SEP)
    decoder = TableDecoder(1, 0)
    decoder.table[...] = np.log(0.84 / 6)  # what may not follow takes its share of p
    decoder.table[..., 6] = np.log(0.04)
    decoder.table[..., 7] = np.log(0.12)
    look = Lookahead(Strings.of([[1, 5, 2, 6]]), VOCABULARY)
    found = constrained_beam_search(index, decoder, 1, beams=2, answers=2, lookahead=look)[0]
    # LCS(5 2 6, Q') - LCS(5 2, Q') = 3 - 2, so n(6) = 2; 7 is not in Q', so n(7) = 1.
    # The power is of p over the whole vocabulary; only then is p normalised over 6 and 7.
    p = {6: 0.2, 7: 0.12}
    want = {k: v / sum(p.values()) for k, v in p.items()}
    assert {h.tokens[2]: np.exp(h.score) for h in found} == pytest.approx(want)


def test_names_alone_and_forced_paths_ask_the_model_less() -> None:
    index = PrefixIndex.build([([5, 2, 6, 6, 6], 0), ([7, 2, 6], 1)], separator=SEP)
    decoder = TableDecoder(1, 0)
    names = constrained_beam_search(index, decoder, 1, beams=2, answers=2, segments=1)[0]
    assert {h.tokens for h in names} == {(5, 2), (7, 2)}
    decoder.calls = 0
    constrained_beam_search(index, decoder, 1, beams=2, answers=2)
    assert decoder.calls == 0
    constrained_beam_search(index, decoder, 1, beams=2, answers=2, skip_forced=False)
    assert decoder.calls == 5


def test_beams_below_answers_are_refused() -> None:
    index = PrefixIndex.build([([5], 0)], separator=SEP)
    with pytest.raises(ValueError, match="beams=2, answers=3"):
        constrained_beam_search(index, TableDecoder(1, 0), 1, beams=2, answers=3)
