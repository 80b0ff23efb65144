from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.penalties import GradientBound, gradient_penalty_bound, gradient_penalty_bounds
from kexue_pl.penalties.bound import FORMS

ACTIVATIONS: list[Callable[[], nn.Module]] = [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid]


def _random_net(seed: int) -> tuple[nn.Sequential, Tensor, Callable[[Tensor], Tensor]]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    sizes = [rng.choice([1, 2, 4, 8, 16]) for _ in range(rng.randint(2, 6))]
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b, bias=rng.random() < 0.7), rng.choice(ACTIVATIONS)()]
        if rng.random() < 0.2 and b > 1:
            layers.append(nn.LayerNorm(b))
    net = nn.Sequential(*layers).double()
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(10 ** rng.uniform(-1, 1))
    x = torch.randn(3, sizes[0], dtype=torch.float64) * 10 ** rng.uniform(-1, 1)
    label = torch.full((3,), rng.randrange(sizes[-1]))
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda z: F.cross_entropy(z, label, reduction="none"),
        lambda z: (z - 1).square().sum(1),
        lambda z: z[:, 0],
    ]
    return net, x, rng.choice(losses)


def test_holds_on_random_nets_and_is_ordered() -> None:
    compared = 0
    for seed in range(40):
        net, x, loss = _random_net(seed)
        bounds = gradient_penalty_bounds(net, x, loss)
        assert list(bounds) == list(FORMS)
        for bound in bounds.values():
            assert (bound.ratio <= 1 + 1e-10).all(), seed
        alive = bounds["spectral"].upper > 1e-200
        compared += int(alive.sum())
        ratio = {form: bound.ratio[alive] for form, bound in bounds.items()}
        assert (ratio["frobenius"] <= ratio["spectral"] * (1 + 1e-9)).all()
        assert (ratio["spectral"] <= ratio["product"] * (1 + 1e-9)).all()
    assert compared > 80


def test_both_sides_equal_autograd() -> None:
    net, x, _ = _random_net(5)

    def loss(z: Tensor) -> Tensor:
        return (z - 1).square().sum(1)

    bound = gradient_penalty_bound(net, x, loss)
    affine = [p for m in net if isinstance(m, nn.Linear) for p in m.parameters()]
    for row in range(3):
        one = x[row : row + 1].clone().requires_grad_()
        found = torch.autograd.grad(loss(net(one))[0], [one, *affine])
        assert torch.allclose(bound.input_square[row], found[0].square().sum(), rtol=1e-12)
        square = torch.stack([g.square().sum() for g in found[1:]]).sum()
        assert torch.allclose(bound.upper[row], square, rtol=1e-12)


def test_one_layer_is_tight_along_the_top_singular_vector() -> None:
    net = nn.Linear(3, 1).double()
    bound = gradient_penalty_bound(net, torch.randn(4, 3).double(), lambda z: z[:, 0])
    assert torch.allclose(bound.ratio, torch.ones(4, dtype=torch.float64))


def test_a_dead_layer_contributes_nothing() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    nn.init.constant_(net[0].bias, -100.0)  # type: ignore[arg-type]
    bound = gradient_penalty_bound(net, torch.ones(1, 2).double(), lambda z: z[:, 0])
    assert bound.ratio.tolist() == [0.0]
    assert torch.isfinite(bound.coefficient).all()


def test_the_batch_mean_gradient_does_not_bound() -> None:
    """Two samples with opposite gradients: the mean loss has none, its samples have."""
    net = nn.Linear(1, 1, bias=False).double()
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64, requires_grad=True)
    losses = net(x)[:, 0]
    (batch,) = torch.autograd.grad(losses.mean(), net.weight)
    lower, upper = gradient_penalty_bound(net, x, lambda z: z[:, 0]).mean()
    assert batch.square().sum() == 0 < lower
    assert lower <= upper * (1 + 1e-12)


def _sides_by_hand(h: Tensor, weight: Tensor, x: Tensor, loss: Tensor, jacobian: Tensor) -> float:
    """Ratio of the spectral form for one affine layer without bias and one sample."""
    (gx, gw) = torch.autograd.grad(loss, [x, weight])
    spectral = torch.linalg.matrix_norm(weight, 2) * torch.linalg.matrix_norm(jacobian, 2)
    ratio = gx.square().sum() * h.square().sum() / spectral.square() / gw.square().sum()
    return ratio.item()


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


def test_residual_fails_and_is_refused() -> None:
    net = _Residual().double()
    with torch.no_grad():
        net.layer.weight.copy_(torch.eye(2))
    x = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    ratio = _sides_by_hand(x, net.layer.weight, x, net(x)[0, 0], torch.eye(2).double())
    assert ratio > 3.9  # (2^2 * 2) / 1 / 2: the inequality is broken fourfold
    with pytest.raises(RuntimeError, match="residual"):
        gradient_penalty_bound(net, x, lambda z: z[:, 0])


def test_weights_shared_over_positions_fail_and_are_refused() -> None:
    net = nn.Linear(2, 1, bias=False).double()
    x = torch.ones(1, 2, 2, dtype=torch.float64, requires_grad=True)

    def difference(z: Tensor) -> Tensor:
        return z[:, 0, 0] - z[:, 1, 0]

    gx, gw = torch.autograd.grad(difference(net(x)).sum(), [x, net.weight])
    assert gw.abs().max() == 0 < gx.abs().max()
    with pytest.raises(RuntimeError, match="shared over positions"):
        gradient_penalty_bound(net, x, difference)


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


def test_refusals_name_the_reason() -> None:
    x = torch.randn(4, 2)
    with pytest.raises(RuntimeError, match="used twice"):
        gradient_penalty_bound(_Tied(), x, lambda z: z[:, 0])
    with pytest.raises(RuntimeError, match="mixes the samples"):
        net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        gradient_penalty_bound(net, x, lambda z: z[:, 0])
    with pytest.raises(RuntimeError, match=r"no nn\.Linear"):
        gradient_penalty_bound(nn.Tanh(), x, lambda z: z[:, 0])
    with pytest.raises(ValueError, match="accepted: spectral"):
        gradient_penalty_bound(nn.Linear(2, 1), x, lambda z: z[:, 0], form="nuclear")
    with pytest.raises(ValueError, match="per-sample losses"):
        gradient_penalty_bound(nn.Linear(2, 1), x, lambda z: z.sum())
    with pytest.raises(RuntimeError, match="form='spectral'"):
        first = nn.Sequential(nn.Tanh(), nn.Linear(2, 1))
        gradient_penalty_bound(first, x, lambda z: z[:, 0], form="first_layer")


def test_ratio_of_nothing_is_zero() -> None:
    zero = torch.zeros(2)
    assert GradientBound(zero, zero, zero).ratio.tolist() == [0.0, 0.0]
