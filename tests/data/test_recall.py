"""Associative recall: every hidden value stands at the key's other place."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.data.recall import Recall, RecallRows


def test_each_key_has_a_shown_and_a_hidden_value():
    rows = RecallRows(20, 64, keys=1024, values=32, seed=0)
    for row in (rows[i] for i in range(20)):
        ids, keys, labels = (row[n].long() for n in ("input_ids", "token_type_ids", "labels"))
        hidden = labels >= 0
        assert hidden.sum() == 32
        assert (ids[hidden] == 0).all()
        assert ids[~hidden].min() >= 1
        assert ids[~hidden].max() <= 32
        shown = dict(zip(keys[~hidden].tolist(), ids[~hidden].tolist()))
        assert len(shown) == 32
        assert [shown[k] for k in keys[hidden].tolist()] == labels[hidden].tolist()


def test_order_and_keys_are_random():
    rows = RecallRows(2000, 8, keys=16, values=4, seed=0)
    hidden = (rows.labels >= 0).float().mean(0)
    assert (hidden - 0.5).abs().max() < 0.05
    counts = torch.bincount(rows.keys.flatten().long(), minlength=16).float()
    assert (counts / counts.sum() - 1 / 16).abs().max() < 0.005


def test_training_depends_on_the_seed_and_the_test_does_not():
    first, second = Recall(rows=64, seed=0), Recall(rows=64, seed=1)
    for data in (first, second):
        data.setup("fit")
    assert not torch.equal(first.train_set.keys, second.train_set.keys)
    assert torch.equal(first.length_set(256).keys, second.length_set(256).keys)
    assert not torch.equal(first.train_set.keys[:8], first.length_set(64).keys[:8])
    shapes = [next(iter(loader))["input_ids"].shape for loader in first.test_dataloader()]
    assert shapes == [(64, 64), (32, 128), (16, 256), (8, 512), (4, 1024)]
    assert len(first.tokenizer) == 34
    assert first.tokenizer.mask_token_id == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train_length": 63}, "train_length=63"),
        ({"eval_lengths": [33]}, "eval_lengths=33"),
        ({"keys": 100}, "at least half the longest row, 512"),
    ],
)
def test_faulty_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        Recall(**settings)
