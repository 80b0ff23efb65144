"""The index equals the nested dict on every node of small bases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.retrieval import BeamState, PrefixIndex, sorted_rows
from tests.retrieval.oracle import SEP, bases, tree, walk


@settings(max_examples=60, deadline=None)
@given(bases(), st.booleans())
def test_every_node_equals_the_nested_dict(items: list[tuple[list[int], int]], split: bool) -> None:
    root, leaves = tree(items)
    index = PrefixIndex.build(items, separator=SEP)
    linear = sorted_rows.LINEAR_ROWS
    sorted_rows.LINEAR_ROWS = 0 if split else linear
    try:
        assert walk(index, root, leaves) >= 2
    finally:
        sorted_rows.LINEAR_ROWS = linear


@settings(max_examples=30, deadline=None)
@given(bases(), st.randoms(use_true_random=False))
def test_row_order_changes_nothing_but_the_order_of_values(items: Any, random: Any) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    a, b = (PrefixIndex.build(x, separator=SEP) for x in (items, shuffled))
    for name in ("tok", "off", "base", "indptr", "ids"):
        assert np.array_equal(a.arrays[name], b.arrays[name])


@settings(max_examples=30, deadline=None)
@given(bases())
def test_lookup_count_and_values_of_whole_keys(items: Any) -> None:
    _, leaves = tree(items)
    index = PrefixIndex.build(items, separator=SEP)
    keys = [list(k[:-1]) for k in leaves]
    lo, hi = index.lookup(keys)
    for key, a, b in zip(keys, lo.tolist(), hi.tolist(), strict=True):
        values = sorted(leaves[(*key, SEP)])
        assert sorted(index.value(r) for r in range(a, b)) == values
        assert sorted(index.values([*key, SEP])) == values
        assert index.count([*key, SEP]) == len(values)
    for row in range(len(index)):
        lo_, hi_ = index.key_range(np.array([row]))
        same = [r for r in range(len(index)) if index.key(r) == index.key(row)]
        assert (int(lo_[0]), int(hi_[0])) == (same[0], same[-1] + 1)
    assert index.lookup([[99]])[0].tolist() == [-1] and index.values([99]) == []


@settings(max_examples=30, deadline=None)
@given(bases())
def test_suffixes_complete_every_state_to_its_keys(items: Any) -> None:
    index = PrefixIndex.build(items, separator=SEP)
    for row in range(len(index)):
        key = index.key(row)
        state = index.start(1)
        for i, token in enumerate(key[:-1]):
            state = index.advance(state, np.array([token]))
            if state.segment[0] == 0:
                continue
            suffixes = index.suffixes(state)
            lo, hi = index.leaves(state)
            keys = [index.key(r)[i + 1 : -1] for r in range(int(lo[0]), int(hi[0]))]
            assert [suffixes[j] for j in range(len(suffixes))] == keys


def test_batched_states_equal_single_ones() -> None:
    index = PrefixIndex.build([([5, 2, 8], 0), ([5, 6, 2, 9], 1), ([7, 2], 2)], separator=SEP)
    parts = [index.start(1), index.advance(index.start(1), np.array([5]))]
    parts.append(index.advance(parts[1], np.array([SEP])))
    batch = BeamState.concatenate(parts)
    together = index.allowed(batch)
    for b, part in enumerate(parts):
        alone, a, z = index.allowed(part), together.ptr[b], together.ptr[b + 1]
        assert np.array_equal(alone.token, together.token[a:z])
        assert np.array_equal(alone.counts, together.counts[a:z])


def test_advance_names_the_beam_and_what_was_accepted() -> None:
    index = PrefixIndex.build([([5], 0), ([6], 1)], separator=SEP)
    with pytest.raises(ValueError, match=r"tokens\[1\] is 9.*beam 1; accepted there: \[5, 6\]"):
        index.advance(index.start(2), np.array([5, 9]))
    done = index.advance(index.advance(index.start(1), np.array([5])), np.array([SEP]))
    with pytest.raises(ValueError, match=r"accepted there: \[\]"):
        index.advance(done, np.array([SEP]))


def test_wide_vocabulary_and_text_values() -> None:
    index = PrefixIndex.build([([70_000], "甲"), ([70_001], "乙")], separator=SEP)
    assert index.tok.dtype == np.uint32 and index.values([70_001]) == ["乙"]


def test_a_negative_number_is_no_token() -> None:
    index = PrefixIndex.build([([], 1), ([5, 6], 2)], separator=0)
    assert index.values([-1]) == index.values([5, -1]) == [] and index.count([-2]) == 0
    assert index.values([0]) == [1]
    with pytest.raises(ValueError, match=r"segment 0 holds the token -1; ids begin at 0"):
        PrefixIndex.build([([-1], 1)], separator=0)
