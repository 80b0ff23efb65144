"""Losses of single pairs: MSE, BCE, softmax, SBERT softmax, contrastive, distillation."""

from __future__ import annotations

import math

import pytest
import torch

from kexue_pl.losses import (
    BCE,
    Contrastive,
    CosineMSE,
    Distillation,
    PairOutputs,
    SBERTSoftmax,
    Softmax,
)


def test_cosine_mse_of_a_cross_encoder():
    outputs = PairOutputs(logits=torch.tensor([[0.0], [math.log(3)]]))
    assert float(CosineMSE()(outputs, torch.tensor([1, 1]))) == pytest.approx((0.25 + 0.0625) / 2)
    assert CosineMSE().score(outputs).tolist() == pytest.approx([0.5, 0.75])


def test_cosine_mse_names_labels_out_of_reach():
    with pytest.raises(ValueError, match=r"label 5 is beyond .*set loss.label_max=5"):
        CosineMSE()(PairOutputs(scores=torch.zeros(2)), torch.tensor([0, 5]))


def test_bce_by_hand_and_soft_labels():
    outputs = PairOutputs(logits=torch.tensor([[math.log(3)]]))  # probability 3/4
    loss = BCE()
    assert float(loss(outputs, torch.tensor([1]))) == pytest.approx(math.log(4 / 3))
    half = -(math.log(0.75) + math.log(0.25)) / 2
    assert float(loss(outputs, torch.tensor([0.5]))) == pytest.approx(half)
    assert loss.score(outputs).tolist() == pytest.approx([math.log(3)])


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


def test_distillation_margins_by_hand():
    outputs = PairOutputs(
        left=torch.tensor([[1.0, 0.0]]),
        right=torch.tensor([[2.0, 0.0]]),
        negatives=torch.tensor([[[0.5, 0.0], [0.0, 9.0]]]),
    )
    loss = Distillation(target="margin", similarity="dot", scale=2.0)
    # 2 (2 - 0.5) = 3 and 2 (2 - 0) = 4 against 1 and 4.
    assert float(loss(outputs, torch.tensor([[1.0, 4.0]]))) == pytest.approx(2.0)
    with pytest.raises(ValueError, match=r"shape \(1,\), expected \(1, 2\)"):
        loss(outputs, torch.tensor([1.0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distillation(target="soft"), "loss.target='soft'; choose one of score, margin"),
        (lambda: Distillation(similarity="l2"), "choose one of cosine, dot"),
        (lambda: Softmax(classes=1), "loss.classes=1"),
        (lambda: SBERTSoftmax(classes=0), "loss.classes=0"),
        (lambda: CosineMSE(label_max=0), "loss.label_max=0"),
        (lambda: Contrastive(margin=0), "loss.margin=0"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
