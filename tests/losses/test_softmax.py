"""Cross-entropy of classes."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.losses import BCE, PairOutputs, Softmax


def test_softmax_of_two_classes_is_bce_of_the_difference():
    z, y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
    softmax = Softmax()(PairOutputs(logits=z), y)
    torch.testing.assert_close(softmax, BCE()(PairOutputs(logits=z[:, 1] - z[:, 0]), y))
    torch.testing.assert_close(
        Softmax().score(PairOutputs(logits=z)), torch.sigmoid(z[:, 1] - z[:, 0])
    )


def test_softmax_score_is_the_expected_class():
    z = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 50.0]])
    assert Softmax(classes=3).score(PairOutputs(logits=z)).tolist() == pytest.approx([1, 2])
    with pytest.raises(ValueError, match=r"reads logits \(B, 2\), got shape \(2, 3\)"):
        Softmax()(PairOutputs(logits=z), torch.tensor([0, 1]))
