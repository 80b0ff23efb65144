"""Unconstrained search: scores are true, and constraint by a full base changes nothing."""

from __future__ import annotations

import itertools

import pytest

from kexue_pl.retrieval import PrefixIndex
from kexue_pl.retrieval.beam_search import constrained_beam_search
from kexue_pl.retrieval.free_search import free_beam_search
from tests.retrieval.oracle import SEP
from tests.retrieval.table_decoder import VOCABULARY, TableDecoder


def test_free_search_over_everything_equals_the_constraint_that_excludes_nothing() -> None:
    letters = [t for t in range(VOCABULARY) if t != SEP]
    strings = [s for n in range(3) for s in itertools.product(letters, repeat=n)]
    index = PrefixIndex.build([(s, 0) for s in strings], separator=SEP)
    decoder = TableDecoder(2, 3)
    # A likely end makes the best strings short, inside the base.
    decoder.table[..., SEP] += 4
    free = free_beam_search(decoder, 2, separator=SEP, segments=1, beams=4, max_steps=3)
    bound = constrained_beam_search(index, decoder, 2, beams=4, renormalise=False)
    for a, b in zip(free, bound, strict=True):
        assert a[0][1] == b[0].tokens and a[0][0] == pytest.approx(b[0].score)


def test_strings_without_end_are_dropped() -> None:
    decoder = TableDecoder(1, 0)
    decoder.table[..., SEP] = -1e9
    assert free_beam_search(decoder, 1, separator=SEP, segments=1, max_steps=3) == [[]]
