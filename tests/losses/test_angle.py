"""AnglE's similarity in complex numbers."""

from __future__ import annotations

import torch

from kexue_pl.losses import AnglE, PairOutputs, angle_similarity, cosent_loss


def test_is_the_complex_quotient():
    g = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 5, 6, generator=g, dtype=torch.float64)
    z, w = torch.complex(u[:, :3], u[:, 3:]), torch.complex(v[:, :3], v[:, 3:])
    quotient = (z * w.conj()).sum(1) / (z.abs().norm(dim=1) * w.abs().norm(dim=1))
    want = (quotient.real + quotient.imag).abs()
    torch.testing.assert_close(angle_similarity(u, v), want)


def test_odd_width_is_padded():
    u, v = torch.randn(2, 4, 5)
    pad = torch.nn.functional.pad
    torch.testing.assert_close(
        angle_similarity(u, v), angle_similarity(pad(u, (0, 1)), pad(v, (0, 1)))
    )


def test_blind_to_sign_and_length_not_to_order():
    u, v = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    same = angle_similarity(u, v)
    torch.testing.assert_close(angle_similarity(-3 * u, v), same)
    assert not torch.allclose(angle_similarity(v, u), same)


def test_loss_ranks_by_angle_and_evaluates_by_cosine():
    u, v = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    y, outputs = torch.tensor([0, 1, 2, 1]), PairOutputs(left=u, right=v)
    loss = AnglE(scale=3.0)
    torch.testing.assert_close(loss(outputs, y), cosent_loss(3 * angle_similarity(u, v), y))
    torch.testing.assert_close(loss.score(outputs), torch.cosine_similarity(u, v))
