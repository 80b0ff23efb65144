"""Batches for ranking losses: what is promised of them holds for all draws."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.data.base import global_batches
from kexue_pl.data.label_aware import label_aware_batches

cases = st.tuples(
    st.lists(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2]), min_size=1, max_size=60),
    st.integers(2, 9),
    st.integers(0, 1000),
    st.booleans(),
)


def one_valued(batches, labels):
    return sum(len({labels[row] for row in batch}) == 1 for batch in batches)


@settings(max_examples=300, deadline=None)
@given(cases)
def test_one_valued_batches_only_where_they_cannot_be_avoided(case):
    labels, size, seed, by_length = case
    lengths = [(7 * i) % 11 for i in range(len(labels))] if by_length else None
    got = label_aware_batches(len(labels), size, seed=seed, epoch=1, labels=labels, lengths=lengths)
    rows = [row for batch in got for row in batch]
    full = min(size, len(labels))
    assert all(len(batch) == full for batch in got)
    assert len(got) == len(labels) // full
    assert len(set(rows)) == len(rows)
    rare = len(labels) - max(Counter(labels).values())
    if full > 1:
        assert one_valued(got, labels) == max(0, len(got) - rare)


def test_plain_shuffling_does_not_keep_the_promise():
    labels = [int(i % 12 == 0) for i in range(240)]
    assert one_valued(global_batches(240, 8, seed=0, epoch=0), labels) > 5
    assert one_valued(label_aware_batches(240, 8, seed=0, epoch=0, labels=labels), labels) == 10


def test_proportions_are_kept():
    labels = [0] * 300 + [1] * 60 + [2] * 40
    for batch in label_aware_batches(400, 40, seed=3, epoch=0, labels=labels):
        counts = Counter(labels[row] for row in batch)
        assert abs(counts[0] - 30) <= 2
        assert abs(counts[1] - 6) <= 2
        assert abs(counts[2] - 4) <= 2


def test_depends_on_seed_and_epoch_alone():
    labels, lengths = [i % 3 for i in range(50)], [i % 17 for i in range(50)]

    def draw(seed, epoch):
        return label_aware_batches(50, 4, seed=seed, epoch=epoch, labels=labels, lengths=lengths)

    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2) != draw(1, 3)
    assert draw(1, 2) != draw(2, 2)


def test_rows_left_over_differ_between_epochs():
    left = set()
    for epoch in range(20):
        batches = label_aware_batches(10, 4, seed=0, epoch=epoch, labels=[0] * 5 + [1] * 5)
        left |= set(range(10)) - {row for batch in batches for row in batch}
    assert len(left) >= 6


def padding(batches, lengths):
    return sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)


def test_lengths_share_batches():
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 100, 2000).tolist()
    labels = rng.integers(0, 2, 2000).tolist()
    plain = padding(label_aware_batches(2000, 20, seed=0, epoch=0, labels=labels), lengths)
    grouped = label_aware_batches(2000, 20, seed=0, epoch=0, labels=labels, lengths=lengths)
    assert padding(grouped, lengths) < 1.05 * sum(lengths)
    assert plain > 1.6 * sum(lengths)
    middle = [np.mean([lengths[row] for row in batch]) for batch in grouped]
    assert abs(np.corrcoef(middle[:-1], middle[1:])[0, 1]) < 0.3  # short and long ones alternate


def test_repairs_go_to_batches_of_like_length():
    # Short rows are all 0, middle ones mixed, long ones all 1: every batch needs a neighbour.
    lengths = [1] * 40 + [50] * 40 + [99] * 40
    labels = [0] * 40 + [i % 2 for i in range(40)] + [1] * 40
    batches = label_aware_batches(120, 10, seed=0, epoch=0, labels=labels, lengths=lengths)
    assert one_valued(batches, labels) == 0


def test_without_labels_it_only_shuffles():
    batches = label_aware_batches(10, 5, seed=0, epoch=0)
    assert sorted(row for batch in batches for row in batch) == list(range(10))


def test_real_labels_and_many_rows_are_quick():
    labels = np.random.default_rng(0).random(200_000)
    batches = label_aware_batches(200_000, 8, seed=0, epoch=0, labels=labels)
    assert len(batches) == 25_000
    skewed = (labels < 0.02).astype(int)
    rare = int(skewed.sum())
    got = label_aware_batches(200_000, 8, seed=0, epoch=0, labels=skewed)
    assert one_valued(got, skewed) == 25_000 - rare


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": [0, 1]}, "2 labels for 3 rows"),
        ({"lengths": [1]}, "1 lengths for 3 rows"),
    ],
)
def test_faults_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        label_aware_batches(3, 2, seed=0, epoch=0, **given)
    with pytest.raises(ValueError, match=r"data\.batch_size=0"):
        label_aware_batches(3, 0, seed=0, epoch=0)
