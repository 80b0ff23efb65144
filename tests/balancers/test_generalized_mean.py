"""Loss-level rules of article 8870: values, gradients, claims and their negative controls."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.balancers import (
    Balancer,
    GeneralizedMean,
    Geometric,
    Initial,
    InverseGradNorm,
    Prior,
    RealTime,
    entropy,
    uniform_loss,
    variance,
)
from tests.balancers.rules import cosine

LOSSES = torch.tensor([0.3, 2.0, 7.5, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("gamma", [-3.0, -1.0, 0.0, 0.5, 1.0, 2.0])
def test_weights_are_the_gradient_of_the_mean(gamma: float) -> None:
    rule = GeneralizedMean(gamma)
    x = LOSSES.clone().requires_grad_()
    (want,) = torch.autograd.grad(rule.value(x), x)
    torch.testing.assert_close(rule.weights(None, LOSSES), want, rtol=1e-12, atol=1e-14)
    assert torch.autograd.gradcheck(rule.value, (x,))


def test_limits() -> None:
    assert float(GeneralizedMean(1e-4).value(LOSSES)) == pytest.approx(
        float(Geometric().value(LOSSES)), rel=1e-3
    )
    assert float(GeneralizedMean(300.0).value(LOSSES)) == pytest.approx(7.5, rel=1e-2)
    assert float(GeneralizedMean(-300.0).value(LOSSES)) == pytest.approx(0.3, rel=1e-2)


def test_many_large_losses_do_not_overflow() -> None:
    big = torch.full((60,), 1e6)
    assert not torch.isfinite(big.prod() ** (1 / 60))
    assert float(Geometric().value(big)) == pytest.approx(1e6, rel=1e-4)


def test_geometric_is_mean_over_count_times_real_time() -> None:
    mean = Geometric().value(LOSSES)
    torch.testing.assert_close(
        Geometric().weights(None, LOSSES), mean / 4 * RealTime().weights(None, LOSSES)
    )


def shifted(rule: Balancer, scale: float, shift: float) -> float:
    """Cosine of the update before and after L_1 -> scale * L_1 + shift on a toy with known gradients."""
    rows = torch.tensor([[1.0, 0.2], [-0.3, 2.0]], dtype=torch.float64)
    losses = torch.tensor([0.5, 1.5], dtype=torch.float64)
    before = rule.weights(rows @ rows.T, losses) @ rows
    rows, losses = rows.clone(), losses.clone()
    rows[1] *= scale
    losses[1] = scale * losses[1] + shift
    return cosine(rule.weights(rows @ rows.T, losses) @ rows, before)


def test_reciprocal_norm_ignores_scale_and_shift() -> None:
    for scale, shift in ((1.0, 5.0), (100.0, 0.0), (0.01, -3.0)):
        assert shifted(InverseGradNorm(), scale, shift) > 1 - 1e-12


@pytest.mark.parametrize("rule", [RealTime, Geometric])
def test_loss_rules_ignore_scale_but_not_shift(rule: type[Balancer]) -> None:
    assert shifted(rule(), 100.0, 0.0) > 1 - 1e-12
    assert shifted(rule(), 1.0, 5.0) < 0.99
    with pytest.raises(ValueError, match="task 1 has -"):
        shifted(rule(), 1.0, -5.0)


def test_equal_and_power_means_do_not_ignore_scale() -> None:
    assert shifted(GeneralizedMean(1.0), 100.0, 0.0) < 0.99
    assert shifted(GeneralizedMean(0.5), 100.0, 0.0) < 0.99


def test_initial_measures_late_tasks_and_averages() -> None:
    rule = Initial(steps=2)
    nan = float("nan")
    assert rule.weights(None, torch.tensor([2.0, nan])).tolist() == [0.5, 0.0]
    assert rule.weights(None, torch.tensor([6.0, 4.0])).tolist() == [0.25, 0.25]
    assert rule.weights(None, torch.tensor([1.0, 12.0])).tolist() == [0.25, 0.125]
    assert Initial([uniform_loss(2), 1.0]).weights(None, torch.ones(2)).tolist()[1] == 1.0
    with pytest.raises(ValueError, match="classes=1"):
        uniform_loss(1)


def test_prior_is_the_best_constant_prediction() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    counts = torch.bincount(labels)
    best = torch.nn.functional.cross_entropy((counts / 6).log().expand(6, 3), labels)
    assert entropy(counts) == pytest.approx(float(best), rel=1e-6)
    y = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    assert variance(y) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="start"):
        Prior().weights(None, torch.ones(2))


def test_moving_average_of_the_norm_is_unbiased() -> None:
    rule = InverseGradNorm(ema=0.5)
    assert rule.weights(torch.eye(1) * 4).item() == pytest.approx(0.5)
    assert rule.weights(torch.eye(1) * 16).item() == pytest.approx(
        1 / ((0.5 * 2 * 0.5 + 0.5 * 4) / 0.75)
    )
