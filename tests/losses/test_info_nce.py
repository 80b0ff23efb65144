"""InfoNCE: by hand, symmetric, negatives, anchors, SimCSE."""

from __future__ import annotations

import math

import pytest
import torch

from kexue_pl.losses import InfoNCE, PairOutputs, SimCSE, info_nce_loss


def pair(rows=5, seed=0):
    return torch.randn(2, rows, 4, generator=torch.Generator().manual_seed(seed)).double()


def test_by_hand_with_a_hard_negative():
    u = torch.eye(2)
    negatives = torch.tensor([[[-1.0, 0.0]], [[0.0, -1.0]]])
    # Row 1: s = (1, 0, -1, 0); row 2: s = (0, 1, 0, -1).
    want = math.log(math.e + 1 + math.exp(-1) + 1) - 1
    assert float(info_nce_loss(u, u, scale=1.0, negatives=negatives)) == pytest.approx(want)


def test_symmetric_is_the_mean_of_both_ways():
    u, v = pair()
    both = info_nce_loss(u, v, symmetric=True)
    torch.testing.assert_close(both, (info_nce_loss(u, v) + info_nce_loss(v, u)) / 2)
    assert not torch.isclose(info_nce_loss(u, v), info_nce_loss(v, u))


def test_negative_rows_offer_candidates_only():
    u, v = pair()
    labels = torch.tensor([1, 0, 1, 1, 0])
    loss = InfoNCE(5.0)(PairOutputs(left=u, right=v), labels)
    logits = 5 * torch.nn.functional.normalize(u) @ torch.nn.functional.normalize(v).T
    rows = labels.nonzero().flatten()
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits[rows], rows))


def test_no_positive_pair_gives_zero_with_a_gradient():
    u, v = pair()
    u.requires_grad_()
    loss = InfoNCE()(PairOutputs(left=u, right=v), torch.zeros(5))
    loss.backward()
    assert loss.item() == 0
    assert not u.grad.any()


def test_permutation_and_length_invariance():
    u, v = pair()
    order = torch.tensor([3, 1, 4, 0, 2])
    loss = info_nce_loss(u, v)
    torch.testing.assert_close(info_nce_loss(u[order], v[order]), loss)
    torch.testing.assert_close(info_nce_loss(2 * u, 3 * v), loss)
    assert not torch.isclose(info_nce_loss(u[order], v), loss)


def test_simcse_is_info_nce_of_twins():
    u, v = pair()
    outputs = PairOutputs(left=u, right=v)
    assert SimCSE().twins
    assert not InfoNCE().twins
    torch.testing.assert_close(
        SimCSE(7.0)(outputs, torch.tensor([0, 0, 9, 0, 0])), info_nce_loss(u, v, scale=7.0)
    )
