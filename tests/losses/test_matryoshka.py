"""Matryoshka over several inner losses."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.losses import BCE, CoSENT, InfoNCE, Matryoshka, PairOutputs, SBERTSoftmax, SimCSE


def outputs(width=8):
    u, v = torch.randn(2, 6, width, generator=torch.Generator().manual_seed(0))
    return PairOutputs(left=u, right=v, negatives=torch.stack([u + v, u - v], 1))


def test_is_the_weighted_sum():
    whole, labels, inner = outputs(), torch.tensor([0, 1, 1, 0, 1, 0]), InfoNCE(5.0)
    loss = Matryoshka(inner, dimensions=[8, 3], weights=[1.0, 0.5])
    cut = PairOutputs(
        left=whole.left[:, :3], right=whole.right[:, :3], negatives=whole.negatives[..., :3]
    )
    want = inner(whole, labels) + 0.5 * inner(cut, labels)
    torch.testing.assert_close(loss(whole, labels), want)


def test_full_width_alone_is_the_inner_loss():
    whole, labels = outputs(), torch.tensor([0, 1, 2, 0, 1, 0])
    torch.testing.assert_close(
        Matryoshka(CoSENT(5.0), dimensions=[8])(whole, labels), CoSENT(5.0)(whole, labels)
    )


def test_default_widths_and_own_heads():
    loss = Matryoshka(SBERTSoftmax(classes=3))
    loss.prepare(8)
    assert loss.dimensions == [8, 4, 2]
    assert [tuple(p.shape) for p in loss.parameters()] == [(3, 24), (3, 12), (3, 6)]
    loss(outputs(), torch.tensor([0, 1, 2, 0, 1, 0])).backward()
    assert all(p.grad.any() for p in loss.parameters())


def test_twins_of_the_inner_loss():
    assert Matryoshka(SimCSE()).twins
    assert not Matryoshka(CoSENT()).twins
    # Twins of both texts of three pairs: six rows, three labels, which are not read.
    assert Matryoshka(SimCSE(), dimensions=[4])(outputs(), torch.tensor([0, 9, 1])).isfinite()


def test_eval_reaches_the_copies():
    loss = Matryoshka(CoSENT(), dimensions=[4, 2]).eval()
    assert not any(part.training for part in loss.parts)


def test_faults():
    with pytest.raises(ValueError, match=r"16 is not within 1..8"):
        Matryoshka(CoSENT(), dimensions=[16, 4]).prepare(8)
    with pytest.raises(ValueError, match="one weight for each dimension"):
        Matryoshka(CoSENT(), dimensions=[4], weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="reads logits"):
        Matryoshka(BCE())
