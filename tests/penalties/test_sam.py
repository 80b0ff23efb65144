from __future__ import annotations

import torch
from torch import nn

from kexue_pl.penalties import SAM
from tests.penalties.nets import closure_of, mlp


def _expected(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, adaptive: bool
) -> list[torch.Tensor]:
    parameters = list(net.parameters())
    g = torch.autograd.grad(closure_of(net, x, y)(), parameters)
    measure = [p.detach() * v if adaptive else v for p, v in zip(parameters, g, strict=True)]
    climb = [p.detach() * m if adaptive else m for p, m in zip(parameters, measure, strict=True)]
    norm = torch.cat([m.flatten() for m in measure]).norm()
    names = [name for name, _ in net.named_parameters()]
    moved = [
        (p.detach() + 0.1 * c / norm).requires_grad_()
        for p, c in zip(parameters, climb, strict=True)
    ]
    out = torch.func.functional_call(net, dict(zip(names, moved, strict=True)), (x,))
    return list(torch.autograd.grad(nn.functional.cross_entropy(out, y), moved))


def test_gradient_is_taken_at_the_climbed_point_and_weights_come_back() -> None:
    for adaptive in (False, True):
        net, x, y = mlp()
        before = [p.detach().clone() for p in net.parameters()]
        expected = _expected(net, x, y, adaptive)
        sam = SAM(rho=0.1, adaptive=adaptive)
        sam.loss(
            closure_of(net, x, y), parameters=list(net.parameters()), embeddings=None
        ).backward()
        sam.after_backward()
        for p, g, old in zip(net.parameters(), expected, before, strict=True):
            assert p.grad is not None
            assert torch.allclose(p.grad, g, rtol=1e-10, atol=1e-14)
            assert torch.equal(p, old)


def test_the_climb_is_rho_long() -> None:
    net, x, y = mlp()
    before = torch.cat([p.detach().flatten().clone() for p in net.parameters()])
    sam = SAM(rho=0.1)
    sam.loss(closure_of(net, x, y), parameters=list(net.parameters()), embeddings=None)
    after = torch.cat([p.detach().flatten() for p in net.parameters()])
    assert torch.allclose((after - before).norm(), torch.tensor(0.1, dtype=torch.float64))


def test_a_forgotten_backward_does_not_leave_the_weights_moved() -> None:
    net, x, y = mlp()
    before = [p.detach().clone() for p in net.parameters()]
    sam = SAM(rho=0.1)
    for _ in range(3):
        sam.loss(closure_of(net, x, y), parameters=list(net.parameters()), embeddings=None)
    sam.after_backward()
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_zero_gradient_does_not_move_to_nan() -> None:
    w = nn.Parameter(torch.ones(2))
    sam = SAM()
    loss = sam.loss(lambda: (w * 0).sum(), parameters=[w], embeddings=None)
    assert torch.isfinite(loss)
    assert torch.isfinite(w).all()
