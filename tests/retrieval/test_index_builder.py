"""Building: what is merged, dropped or refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from kexue_pl.retrieval import PrefixIndex, Strings, build_index

SEP = 2


def test_equal_strings_become_one_and_are_counted() -> None:
    pool = Strings.of([[5], [6], [5]])
    index = build_index([pool], [np.array([0, 1, 2])], np.arange(3), separator=SEP)
    assert index.info.merged == 1
    assert index.allowed(index.start(1)).token.tolist() == [5, 6]
    assert sorted(index.values([5, SEP])) == [0, 2]


def test_unused_strings_lead_nowhere_and_are_dropped() -> None:
    pools = [Strings.of([[9], [5]]), Strings.of([[8], [7]])]
    index = build_index(pools, [np.array([1]), np.array([0])], np.arange(1), separator=SEP)
    assert index.allowed(index.start(1)).token.tolist() == [5]


def test_separator_inside_a_string_is_refused_with_the_string() -> None:
    with pytest.raises(ValueError, match=r"segment 0, string 1 holds the separator 2: \[5, 2\]"):
        build_index([Strings.of([[4], [5, 2]])], [np.array([0, 1])], np.arange(2), separator=SEP)


def test_empty_base_and_unequal_segments_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        PrefixIndex.build([], separator=SEP)
    with pytest.raises(ValueError, match="has 1 segments, the first key has 2"):
        PrefixIndex.build([([5, 2, 6], 0), ([5], 1)], separator=SEP)
    with pytest.raises(ValueError, match="unequal lengths"):
        build_index([Strings.of([[4]])], [np.array([0])], np.arange(2), separator=SEP)


def test_more_than_64_bits_of_ranks_sort_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pools = [Strings.of(rng.integers(3, 9, (50, 3)).tolist()) for _ in range(3)]
    columns = [rng.integers(0, 50, 300) for _ in range(3)]
    packed = build_index(pools, columns, np.arange(300), separator=SEP)
    monkeypatch.setattr("kexue_pl.retrieval.index_builder.KEY_BITS", 0)
    sorted_ = build_index(pools, columns, np.arange(300), separator=SEP)
    for name, array in packed.arrays.items():
        assert np.array_equal(array, sorted_.arrays[name]), name


def test_texts_show_one_original_of_each_string() -> None:
    texts = [pa.array(["Abc", "x"]), pa.array(["", "谓"])]
    pools = [Strings.of([[5, 6, 7], [8]]), Strings.of([[], [9]])]
    index = build_index(
        pools, [np.array([0, 1]), np.array([1, 0])], np.arange(2), separator=SEP, texts=texts
    )
    assert index.texts(0) == ("Abc", "谓") and index.texts(1) == ("x", "")
