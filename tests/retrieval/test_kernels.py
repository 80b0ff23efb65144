"""Compiled loops give what the numpy passes give."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from kexue_pl.retrieval import Lookahead, PrefixIndex, Strings, constrained_beam_search, sorted_rows
from kexue_pl.retrieval.kernels import WORTH, kernels, wanted
from tests.retrieval.oracle import SEP, bases, tree
from tests.retrieval.table_decoder import TableDecoder
from tests.retrieval.test_prefix_index import walk

FIELDS = ("ptr", "beam", "token", "lo", "hi", "counts")


def same(a: Any, b: Any) -> None:
    for name in FIELDS:
        x, y = getattr(a, name), getattr(b, name)
        assert np.array_equal(x, y) and x.dtype == y.dtype, name


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(bases())
def test_every_node_equals_the_nested_dict(items: list[tuple[list[int], int]]) -> None:
    index = PrefixIndex.build(items, separator=SEP).compile()
    assert walk(index, *tree(items)) >= 2


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(bases())
def test_states_children_and_lookahead_equal_the_passes(items: list[tuple[list[int], int]]) -> None:
    plain, fast = (PrefixIndex.build(items, separator=SEP) for _ in range(2))
    fast.compile()
    questions = Strings.of([[0, 3, 4, 5, SEP], [0, 5, 4, 3, 3, SEP]])
    look = Lookahead(questions, vocabulary=64)
    state, rows, question = plain.start(2), look.start(np.arange(2)), np.arange(2)
    for _ in range(12):
        children = plain.allowed(state)
        same(children, fast.allowed(state))
        args = (state, children, question, rows)
        assert np.array_equal(look.exponents(plain, *args), look.exponents(fast, *args))
        picks = np.arange(len(children.token))[:40]
        if not len(picks):
            break
        chosen = plain.choose(state, children, picks)
        for x, y in zip(chosen, fast.choose(state, children, picks), strict=True):
            assert np.array_equal(x, y)
        parent = children.beam[picks]
        rows = look.advance(rows[parent], question[parent], children.token[picks])
        state, question = chosen, question[parent]


@pytest.mark.slow
def test_more_children_than_there_was_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [([3 + a, 3 + b], a) for a in range(9) for b in range(9)]
    plain, fast = (PrefixIndex.build(items, separator=SEP) for _ in range(2))
    monkeypatch.setattr(sorted_rows, "ROOM", 2)
    same(plain.children(plain.start(3)), fast.compile().children(plain.start(3)))


@pytest.mark.slow
def test_the_search_finds_the_same_keys() -> None:
    rng = np.random.default_rng(0)
    items = [([*rng.integers(3, 8, 3), SEP, *rng.integers(3, 8, 2)], i) for i in range(200)]
    found = []
    for compiled in (False, True):
        index = PrefixIndex.build(items, separator=SEP)
        decoder = TableDecoder(4, seed=1)
        look = Lookahead(Strings.of([[0, 3 + q, 5, 4, SEP] for q in range(4)]), 8)
        index = index.compile() if compiled else index
        found.append(constrained_beam_search(index, decoder, 4, beams=3, lookahead=look))
    assert found[0] == found[1]


def test_auto_compiles_for_large_bases_where_numba_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [wanted("auto", rows) for rows in (WORTH - 1, WORTH)] == [False, True]
    monkeypatch.setattr("kexue_pl.retrieval.kernels.find_spec", lambda name: None)
    assert not wanted("auto", WORTH) and wanted(True, 1) and not wanted(False, WORTH)
    with pytest.raises(ValueError, match=r"task.compiled='yes': true, false or auto"):
        wanted("yes", 1)


def test_missing_numba_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ModuleNotFoundError, match=r"task.compiled=true needs numba: pip install"):
        PrefixIndex.build([([3], 0)], separator=SEP).compile()
    kernels.cache_clear()
