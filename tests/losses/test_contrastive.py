"""Positives together, negatives apart."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.losses import Contrastive, PairOutputs


def test_contrastive_by_hand():
    outputs = PairOutputs(
        left=torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
        right=torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 1.0]]),
    )
    loss = Contrastive(margin=2.0, distance="euclidean")
    want = 0.5 * (25 + 0 + 1) / 3
    assert float(loss(outputs, torch.tensor([1, 0, 0]))) == pytest.approx(want)
    assert loss.score(outputs).tolist() == pytest.approx([-5, -5, -1])


def test_contrastive_of_equal_vectors_has_a_finite_gradient():
    x = torch.ones(2, 3, requires_grad=True)
    loss = Contrastive(distance="euclidean")(PairOutputs(left=x, right=x), torch.tensor([1, 0]))
    assert torch.autograd.grad(loss, x)[0].isfinite().all()
