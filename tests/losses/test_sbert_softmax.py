"""Sentence-BERT's head."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.losses import PairOutputs, SBERTSoftmax


def test_sbert_head_sees_both_and_their_difference():
    loss = SBERTSoftmax()
    with pytest.raises(RuntimeError, match="prepare"):
        loss(PairOutputs(left=torch.zeros(1, 2), right=torch.zeros(1, 2)), torch.tensor([0]))
    loss.prepare(2)
    with torch.no_grad():
        loss.head.weight.copy_(torch.tensor([[0.0] * 6, [1.0, 0, 0, 10, 100, 0]]))
    outputs = PairOutputs(left=torch.tensor([[2.0, 0.0]]), right=torch.tensor([[5.0, 1.0]]))
    # Logit of class 1: u_1 + 10 v_2 + 100 |u_1 - v_1| = 2 + 10 + 300, so the loss of class 0 is it.
    assert float(loss(outputs, torch.tensor([0])).detach()) == pytest.approx(312.0)
    torch.testing.assert_close(
        loss.score(outputs), torch.cosine_similarity(outputs.left, outputs.right)
    )
