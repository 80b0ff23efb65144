"""Min-norm: certificate, brute force, degenerate inputs, scale."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.balancers import MGDA, SmoothMin, frank_wolfe, min_norm, pair_min_norm, relative_gap
from tests.balancers.rules import cosine, draw, gram_of


def brute(gram: torch.Tensor) -> torch.Tensor:
    """Best feasible stationary point over every support."""
    n, best, out = len(gram), float("inf"), torch.zeros(len(gram), dtype=torch.float64)
    for k in range(1, n + 1):
        for s in map(list, itertools.combinations(range(n), k)):
            sub = gram[s][:, s]
            kkt = torch.zeros(k + 1, k + 1, dtype=torch.float64)
            kkt[:k, :k], kkt[:k, k], kkt[k, :k] = sub, 1, 1
            x = torch.linalg.pinv(kkt)[:k, k]
            if bool((x >= -1e-12).all()) and float(x @ sub @ x) < best:
                best = float(x @ sub @ x)
                out = torch.zeros(n, dtype=torch.float64)
                out[s] = x
    return out


@pytest.mark.parametrize("tasks", [2, 3, 4, 8, 16, 32])
def test_duality_gap_certifies(tasks: int) -> None:
    gaps = []
    for seed in range(60):
        gram = gram_of(draw(seed, tasks, 50, decades=4)[0])
        gaps.append(relative_gap(gram, min_norm(gram)))
    assert max(gaps) <= 1e-10


@given(st.integers(0, 10**6), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_equals_brute_force(seed: int, tasks: int) -> None:
    rows, _ = draw(seed, tasks, 8, decades=1)
    gram = gram_of(rows)
    u, v = min_norm(gram) @ rows, brute(gram) @ rows
    assert float((u - v).norm() / v.norm().clamp(min=1e-3)) < 1e-6


@pytest.mark.parametrize("gap", [1.0, 1e2, 1e4, 1e6, 1e8])
def test_never_conflicts_at_any_ratio_of_norms(gap: float) -> None:
    for seed in range(60):
        g = torch.Generator().manual_seed(seed)
        rows = (
            torch.randn(4, 10, generator=g)
            * torch.logspace(0, torch.log10(torch.tensor(gap)).item(), 4)[:, None]
        )
        u = min_norm(gram_of(rows)) @ rows.double()
        assert min(cosine(u, r.double()) for r in rows) > -1e-6


def test_frank_wolfe_at_the_usual_budget_is_far_from_optimal() -> None:
    gaps = [
        relative_gap(gram, frank_wolfe(gram, iterations=100))
        for gram in (gram_of(draw(seed, 8, 50, decades=4)[0]) for seed in range(20))
    ]
    assert max(gaps) > 1e-2


def test_two_task_closed_form_agrees() -> None:
    for seed in range(50):
        gram = gram_of(draw(seed, 2, 5, decades=3)[0])
        torch.testing.assert_close(pair_min_norm(gram), min_norm(gram), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="2 tasks"):
        pair_min_norm(torch.eye(3))


@pytest.mark.parametrize("factor", [1.0, 3.0, 1e4])
def test_opposite_gradients_are_stationary(factor: float) -> None:
    g = torch.randn(20, generator=torch.Generator().manual_seed(1))
    for rows in (torch.stack([g, -factor * g]), torch.stack([g, -factor * g, g])):
        assert MGDA().weights(gram_of(rows)).tolist() == [0.0] * len(rows)


def test_duplicated_task_leaves_the_update() -> None:
    rows, _ = draw(2)
    u = min_norm(gram_of(rows)) @ rows
    twice = torch.cat([rows, rows[1:2]])
    torch.testing.assert_close(min_norm(gram_of(twice)) @ twice, u, rtol=1e-7, atol=1e-9)


def test_smooth_minimum_satisfies_its_fixed_point_and_tends_to_the_hard_one() -> None:
    rows, _ = draw(4)
    gram = gram_of(rows)
    scale = float(gram.diagonal().mean())
    for t in (0.1, 1.0, 30.0):
        a = SmoothMin(temperature=t).weights(gram)
        torch.testing.assert_close(torch.softmax(-t * gram @ a / scale, 0), a, rtol=1e-7, atol=1e-9)
    hard = SmoothMin(temperature=1e5).weights(gram)
    torch.testing.assert_close(hard, min_norm(gram), atol=1e-3, rtol=0)
