"""Main and auxiliary tasks, and the projections behind UPGrad and DualProj."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.balancers import DualProj, PCGrad, Primary, UPGrad
from tests.balancers.rules import cosine, draw, gram_of


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_one_auxiliary_is_the_relu_formula(seed: int) -> None:
    rows, _ = draw(seed, 2, 5, decades=6)
    g0, g1 = rows
    want = float(torch.relu(-(g0 @ g1)) / (g1 @ g1))
    got = Primary().weights(gram_of(rows))
    assert got[0] == 1
    assert abs(float(got[1]) - want) <= 1e-9 * max(want, float(g0.norm() / g1.norm()) * 1e-3)


@given(st.integers(0, 10**6), st.integers(2, 8))
@settings(max_examples=50, deadline=None)
def test_optimality_conditions(seed: int, tasks: int) -> None:
    rows, _ = draw(seed, tasks, 10, decades=4)
    w = Primary(main=1).weights(gram_of(rows))
    u = w @ rows
    assert w[1] == 1 and bool((w >= 0).all())
    for i in (i for i in range(tasks) if i != 1):
        inner = float(u @ rows[i] / (rows[i].norm() * rows[1].norm()))
        assert inner >= -1e-10
        assert float(w[i] * rows[i].norm() / rows[1].norm()) * inner == pytest.approx(0, abs=1e-9)
    assert float(u @ rows[1]) == pytest.approx(
        float(u @ u), rel=1e-8, abs=1e-10 * float(rows[1] @ rows[1])
    )


@pytest.mark.parametrize("gap", [1.0, 1e2, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("rule", [Primary, UPGrad, DualProj])
def test_never_conflicts_at_any_ratio_of_norms(rule: type, gap: float) -> None:
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        norms = torch.logspace(0, torch.log10(torch.tensor(gap)).item(), 4)[:, None]
        rows = (torch.randn(4, 10, generator=g) * norms).double()
        u = rule().weights(gram_of(rows)) @ rows
        first = 1 if rule is Primary else 0
        assert min(cosine(u, r) for r in rows[first:]) > -1e-6


def test_the_scale_of_an_auxiliary_does_not_matter() -> None:
    rows, _ = draw(9)
    u = Primary().weights(gram_of(rows)) @ rows
    scaled = rows * torch.tensor([[1.0], [1e6], [1e-6], [3.0]])
    torch.testing.assert_close(
        Primary().weights(gram_of(scaled)) @ scaled, u, rtol=1e-8, atol=1e-10
    )


def test_greedy_reaches_the_exact_solution() -> None:
    for seed in range(10):
        gram = gram_of(draw(seed, 4, 12)[0])
        exact = Primary().weights(gram)
        torch.testing.assert_close(
            Primary(method="greedy", rounds=20000).weights(gram), exact, atol=1e-6, rtol=1e-6
        )


def test_opposite_auxiliary_stops_and_missing_main_gives_nothing() -> None:
    g = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.stack([g, -3 * g])
    assert float((Primary().weights(gram_of(rows)) @ rows).norm()) < 1e-12 * float(g.norm())
    lonely = Primary().weights(gram_of(rows), torch.tensor([float("nan"), 1.0]))
    assert lonely.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"balancer.main=2 is no task"):
        Primary(main=2).weights(gram_of(rows))


def test_dual_projection_of_the_main_task_is_primary_and_two_task_upgrad_is_half_of_pcgrad() -> (
    None
):
    for seed in range(20):
        gram = gram_of(draw(seed, 4)[0])
        torch.testing.assert_close(
            DualProj([1.0, 0, 0, 0]).weights(gram) @ gram @ DualProj([1.0, 0, 0, 0]).weights(gram),
            Primary().weights(gram) @ gram @ Primary().weights(gram),
        )
        two = gram_of(draw(seed, 2)[0])
        torch.testing.assert_close(PCGrad().weights(two), 2 * UPGrad().weights(two))
