from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kexue_pl.penalties import FGM
from tests.penalties.nets import closure_of, flat_gradient, mlp


def test_equals_the_definition() -> None:
    net, x, y = mlp()
    total = FGM(epsilon=0.3, weight=0.5).loss(
        closure_of(net, x, y), parameters=[], embeddings=net[0]
    )
    inner = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(net(inner), y), inner)
    moved = x + 0.3 * g / g.norm(dim=1, keepdim=True)
    expected = F.cross_entropy(net(x), y) + 0.5 * F.cross_entropy(net(moved), y)
    assert torch.allclose(total, expected, rtol=1e-12)
    assert torch.allclose(flat_gradient(total, net), flat_gradient(expected, net), rtol=1e-10)


def test_to_first_order_it_is_the_mean_gradient_norm() -> None:
    net, x, y = mlp()
    inner = x.clone().requires_grad_()
    losses = F.cross_entropy(net(inner), y, reduction="none")
    (g,) = torch.autograd.grad(losses.sum(), inner)
    slope = g.norm(dim=1).mean()
    penalty = FGM(epsilon=1e-5)
    penalty.loss(closure_of(net, x, y), parameters=[], embeddings=net[0])
    assert penalty.value is not None
    assert abs((penalty.value - losses.mean()) / 1e-5 - slope) < 1e-3 * slope


def test_refuses_a_length_of_zero() -> None:
    with pytest.raises(ValueError, match=r"epsilon=0\.0 .*penalty\.epsilon"):
        FGM(epsilon=0.0)
