"""Which tokens are hidden, and behind what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue_pl.data.masking import IGNORED, MaskRule, WordEdges, choose, hide

RULE = MaskRule(rate=0.15, mask_id=1, vocab_size=100, first=5)


def rng(seed=0):
    return np.random.default_rng(seed)


@given(n=st.integers(2, 200), seed=st.integers(0, 10))
def test_number_and_place_of_the_chosen(n, seed):
    ids = rng(seed).integers(0, 100, n)
    chosen = choose(ids, RULE, rng(seed))
    assert len(chosen) == min((ids >= 5).sum(), max(1, round(0.15 * n)))
    assert (ids[chosen] >= 5).all()
    assert (np.diff(chosen) > 0).all()


def test_shares_of_masks_random_and_kept_tokens():
    ids = np.full(200_000, 50)
    chosen = np.arange(100_000)
    inputs, labels = hide(ids, chosen, RULE, rng())
    assert (labels[:100_000] == 50).all()
    assert (labels[100_000:] == IGNORED).all()
    assert (inputs[100_000:] == 50).all()
    shown = inputs[:100_000]
    assert abs((shown == 1).mean() - 0.8) < 0.01
    assert abs(((shown != 1) & (shown != 50)).mean() - 0.1 * 94 / 95) < 0.01
    assert shown[shown != 1].min() >= 5


def test_evaluation_hides_all_chosen_tokens():
    ids = np.arange(10, 30)
    inputs, labels = hide(ids, np.array([3, 7]), RULE, None)
    assert np.flatnonzero(inputs == 1).tolist() == [3, 7]
    assert labels[[3, 7]].tolist() == [13, 17]


class FakeTokenizer:
    names = (
        "[PAD]",
        "[MASK]",
        "un",
        "##believ",
        "##able",
        "Ġfoo",
        "bar",
        "Ċ",
        "(",
        "中",
        "文",
        "_x",
    )
    all_special_tokens = ("[PAD]", "[MASK]")

    def __len__(self):
        return len(self.names)

    def convert_ids_to_tokens(self, ids):
        return [self.names[i] for i in ids]


def test_word_starts():
    edges = WordEdges.of(FakeTokenizer())
    #            un ##believ ##able Ġfoo bar _x  (   bar  Ċ  bar 中 文 [MASK] bar
    ids = np.array([2, 3, 4, 5, 6, 11, 8, 6, 7, 6, 9, 10, 1, 6])
    expected = [1, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert edges.starts(ids).astype(int).tolist() == expected


@pytest.mark.parametrize("seed", range(20))
def test_whole_words_are_hidden_whole(seed):
    ids = np.array([2, 3, 4, 5, 6, 8, 2, 3, 9, 10, 2, 4])
    rule = MaskRule(
        rate=0.3, mask_id=1, vocab_size=12, first=2, edges=WordEdges.of(FakeTokenizer())
    )
    words = [{0, 1, 2}, {3, 4}, {5}, {6, 7}, {8}, {9}, {10, 11}]
    chosen = set(choose(ids, rule, rng(seed)).tolist())
    assert len(chosen) >= round(0.3 * 12)
    whole = [word for word in words if word & chosen]
    assert set().union(*whole) == chosen
    assert len(chosen) - max(len(word) for word in whole) < round(0.3 * 12)
