"""Texts gathered in blocks come out in another order as they went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.retrieval import PrefixIndex, Strings, text_column, triples
from kexue_pl.retrieval.text_column import TextColumn

texts = st.lists(st.text("a甲😀\n", max_size=3), max_size=9)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, max_size=4), st.integers(1, 5), st.randoms(use_true_random=False))
def test_any_order_of_any_blocks(blocks: list[list[str]], block: int, random: Any) -> None:
    column, flat = TextColumn(), [text for part in blocks for text in part]
    for part in blocks:
        # A slice of a longer array: its offsets do not begin at 0.
        column.append(pa.array(["before", *part, "behind"]).slice(1, len(part)))
    order = np.array(random.sample(range(len(flat)), len(flat)), np.int64)
    kept = text_column.BLOCK
    text_column.BLOCK = block
    try:
        raw, offsets = column.reordered(order)
    finally:
        text_column.BLOCK = kept
    ends = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    assert [bytes(raw[a:z]).decode() for a, z in ends] == [flat[i] for i in order.tolist()]
    assert len(column) == len(flat)


def characters(texts: list[str]) -> Strings:
    return Strings.of([[ord(c) for c in text] for text in texts])


def test_many_small_blocks_give_the_index_of_one(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    rows = [
        f"n{rng.integers(60)}（m{rng.integers(3)}）\tp{rng.integers(9)}\tv{i}" for i in range(400)
    ]
    path = tmp_path / "base.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    whole = PrefixIndex.from_triples(path, characters, separator=2)
    monkeypatch.setattr("kexue_pl.retrieval.key_files.BLOCK", 300)
    monkeypatch.setattr(triples, "PENDING", 3)
    parts = PrefixIndex.from_triples(path, characters, separator=2)
    assert {n: a.tolist() for n, a in parts.arrays.items()} == {
        n: a.tolist() for n, a in whole.arrays.items()
    }
    assert sorted(str(whole.value(r)) for r in range(400)) == sorted(f"v{i}" for i in range(400))
