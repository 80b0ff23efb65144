"""Problems without data: the toy of CAGrad and Nash-MTL, and quadratics with a known front."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kexue_pl.balancers import MGDA, Equal, InverseGradNorm
from kexue_pl.data.quadratics import Quadratics
from kexue_pl.data.toy import FRONT, Toy, toy_losses


def published(x1: float, x2: float) -> tuple[float, float]:
    """The losses as the papers' code states them, in NumPy."""
    f1 = np.clip(np.log(np.maximum(np.abs(0.5 * (-x1 - 7) - np.tanh(-x2)), 5e-6)) + 6, None, None)
    f2 = np.log(np.maximum(np.abs(0.5 * (-x1 + 3) + np.tanh(-x2) + 2), 5e-6)) + 6
    c1, c2 = max(np.tanh(x2 * 0.5), 0), max(np.tanh(-x2 * 0.5), 0)
    g1 = ((-x1 + 7) ** 2 + 0.1 * (x2 + 8) ** 2) / 10 - 20
    g2 = ((-x1 - 7) ** 2 + 0.1 * (x2 + 8) ** 2) / 10 - 20
    return float(f1 * c1 + g1 * c2), float(f2 * c1 + g2 * c2)


@pytest.mark.parametrize("x", [(-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (3.0, -4.0)])
def test_toy_equals_the_published_losses_and_has_their_gradient(x: tuple[float, float]) -> None:
    point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    np.testing.assert_allclose(
        [float(f.detach()) for f in toy_losses(point)], published(*x), rtol=1e-9
    )
    if x != (0.0, 0.0):
        assert torch.autograd.gradcheck(toy_losses, (point,))


def test_toy_front_is_stationary_and_its_start_is_not() -> None:
    def residual(x: tuple[float, float]) -> float:
        point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        rows = torch.stack(
            [torch.autograd.grad(f, point, retain_graph=True)[0] for f in toy_losses(point)]
        )
        return float((MGDA().weights(rows @ rows.T) @ rows).norm())

    assert residual((1.0, FRONT)) < 1e-3 < residual((1.0, -5.0))


def descend(rule: object, steps: int = 4000, **settings: object) -> tuple[Quadratics, torch.Tensor]:
    data = Quadratics(**settings)  # type: ignore[arg-type]
    x = torch.tensor(data.start, dtype=torch.float64)
    rate = 0.1
    for k in range(steps):
        off = x - data.centres
        rows = data.scales[:, None] * (off @ data.hessian)
        w = rule.weights(rows @ rows.T)  # type: ignore[attr-defined]
        x = (
            x
            - rate
            * (1 - k / steps)
            * (w / w.abs().max() / data.scales.max() if isinstance(rule, Equal) else w * 1.0)
            @ rows
        )
    return data, x


def test_equal_weights_reach_the_scaled_mean_of_the_centres() -> None:
    data, x = descend(Equal(), tasks=3, condition=1.0, gap=10.0, dimensions=4)
    want = (data.scales[:, None] * data.centres).sum(0) / data.scales.sum()
    torch.testing.assert_close(x, want, atol=1e-6, rtol=1e-6)
    assert data.measure(x)["front_distance"] < 1e-6


def test_reciprocal_norm_reaches_the_geometric_median() -> None:
    data, x = descend(InverseGradNorm(), tasks=5, condition=1.0, gap=100.0, dimensions=3)
    y = data.centres.mean(0)
    for _ in range(2000):
        inverse = 1 / (y - data.centres).norm(dim=1)
        y = (inverse[:, None] * data.centres).sum(0) / inverse.sum()
    torch.testing.assert_close(x, y, atol=2e-4, rtol=1e-3)


def test_measures_of_known_points() -> None:
    data = Quadratics(tasks=2, gap=100.0)
    middle = data.measure(data.centres.mean(0))
    assert middle["front_distance"] == pytest.approx(0, abs=1e-9)
    assert middle["balance"] == pytest.approx(0.75)
    assert data.measure(data.centres[0])["balance"] == pytest.approx(0, abs=1e-6)
    assert data.measure(torch.tensor(data.start))["front_distance"] > 0.1


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"data\.tasks=1"):
        Quadratics(tasks=1)
    with pytest.raises(ValueError, match=r"data\.steps=0"):
        Toy(steps=0)
    with pytest.raises(ValueError, match=r"data\.start=\[1\.0\]"):
        Toy(start=[1.0])
