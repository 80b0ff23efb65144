from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.data.batching import mend_single_label, pair_batches

LABELS = st.lists(st.integers(0, 2), min_size=4, max_size=60)


@settings(max_examples=60, deadline=None)
@given(LABELS, st.integers(2, 8), st.booleans(), st.integers(0, 5))
def test_every_row_at_most_once_and_batches_are_full(
    labels: list[int], size: int, bucket: bool, epoch: int
) -> None:
    lengths = [7 * label % 5 + i % 3 for i, label in enumerate(labels)] if bucket else None
    rows = len(labels)
    batches = pair_batches(size, seed=1, epoch=epoch, labels=labels, lengths=lengths, rows=rows)
    flat = [row for batch in batches for row in batch]
    assert len(set(flat)) == len(flat) and set(flat) <= set(range(rows))
    assert [len(batch) for batch in batches] == [min(size, rows)] * (rows // min(size, rows))


@settings(max_examples=60, deadline=None)
@given(LABELS, st.integers(2, 8), st.booleans())
def test_single_label_batches_only_where_unavoidable(
    labels: list[int], size: int, bucket: bool
) -> None:
    lengths = list(range(len(labels))) if bucket else None
    batches = pair_batches(size, seed=0, epoch=0, labels=labels, lengths=lengths, rows=len(labels))
    used = [labels[row] for batch in batches for row in batch]
    top = max(map(used.count, set(used)))
    single = sum(len({labels[row] for row in batch}) == 1 for batch in batches)
    # Each mixed batch needs one row that is not of the most frequent label value.
    unavoidable = max(0, len(batches) - (len(used) - top))
    assert single <= unavoidable


def test_plain_shuffling_would_give_single_label_batches() -> None:
    labels = [0] * 90 + [1] * 10
    mixed = pair_batches(10, seed=0, epoch=0, labels=labels, rows=100)
    plain = pair_batches(10, seed=0, epoch=0, rows=100)
    kinds = lambda batches: [len({labels[r] for r in b}) for b in batches]  # noqa: E731
    assert min(kinds(mixed)) == 2 and min(kinds(plain)) == 1


def test_epochs_differ_and_repeat() -> None:
    make = lambda epoch: pair_batches(4, seed=3, epoch=epoch, rows=40)  # noqa: E731
    assert make(0) == make(0) != make(1)


def test_bucketing_brings_like_lengths_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 400).tolist()
    spread = lambda bs: np.mean([np.ptp([lengths[r] for r in b]) for b in bs])  # noqa: E731
    bucketed = pair_batches(20, seed=0, epoch=0, rows=400, lengths=lengths)
    plain = pair_batches(20, seed=0, epoch=0, rows=400)
    assert spread(bucketed) < 0.3 * spread(plain)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [0, 1, 0, 1]])
def test_mending_by_hand(labels: list[int]) -> None:
    batches = mend_single_label([[0, 2], [1, 3]], labels)
    kinds = sorted(len({labels[r] for r in batch}) for batch in batches)
    assert kinds == ([1, 2] if sum(labels) == 1 else [2, 2])
