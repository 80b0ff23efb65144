from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kexue_pl.optim import EGD


def one_step(w: Tensor, gradient: Tensor, **options: Any) -> Tensor:
    p = nn.Parameter(w.clone())
    p.grad = gradient.clone()
    EGD([p], **options).step()
    return p.detach()


def minimise(start: Tensor, objective: Callable[[Tensor], Tensor]) -> Tensor:
    z = start.clone().requires_grad_()
    lbfgs = torch.optim.LBFGS([z], max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-16)

    def closure() -> Tensor:
        lbfgs.zero_grad()
        value = objective(z)
        value.backward()
        return value

    for _ in range(3):
        lbfgs.step(closure)  # type: ignore[arg-type]
    return z.detach()


def drawn(seed: int = 0, n: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    w = torch.rand(n, generator=g, dtype=torch.float64) + 0.1
    return w, torch.randn(n, generator=g, dtype=torch.float64)


def test_unnormalised_step_minimises_the_linear_loss_plus_relative_entropy() -> None:
    w, g = drawn()

    def objective(z: Tensor) -> Tensor:
        u = z.exp()
        return 0.3 * (g @ u) + (u * (z - w.log()) - u + w).sum()

    found = minimise(w.log(), objective).exp()
    assert torch.allclose(one_step(w, g, lr=0.3), found, atol=1e-7)
    assert torch.allclose(one_step(w, g, lr=0.3), w * torch.exp(-0.3 * g), rtol=1e-12)


def test_simplex_step_minimises_on_the_simplex() -> None:
    w, g = drawn()
    p = w / w.sum()

    def objective(z: Tensor) -> Tensor:
        u = z.softmax(0)
        return 0.3 * (g @ u) + (u * (u / p).log()).sum()

    found = minimise(p.log(), objective).softmax(0)
    assert torch.allclose(one_step(p, g, lr=0.3, normalize="simplex"), found, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(-50, 50), st.floats(0.5, 20))
def test_simplex_ignores_a_constant_and_keeps_the_sum(
    seed: int, shift: float, total: float
) -> None:
    w, g = drawn(seed)
    options: dict[str, Any] = {"lr": 0.1, "normalize": "simplex", "total": total}
    plain, shifted = one_step(w, g, **options), one_step(w, g + shift, **options)
    assert torch.allclose(plain, shifted, rtol=1e-9)
    assert (plain > 0).all()
    assert plain.sum().item() == pytest.approx(total, rel=1e-9)


def test_the_unnormalised_step_does_not_ignore_a_constant() -> None:
    w, g = drawn()
    assert not torch.allclose(one_step(w, g, lr=0.1), one_step(w, g + 1, lr=0.1), rtol=1e-3)


def test_signed_step_is_a_hyperbolic_sine() -> None:
    """w = 2 s sinh(theta) with theta moving by gradient descent."""
    w, g = torch.tensor([0.5, -2.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.5, -1.0])
    found = one_step(w, g.double(), lr=0.2, normalize="signed", scale=0.01)
    expected = 0.02 * torch.sinh(torch.asinh(w / 0.02) - 0.2 * g)
    assert torch.allclose(found, expected, rtol=1e-10)


def test_one_step_is_gradient_descent_with_rate_eta_w_to_second_order() -> None:
    w, g = drawn()
    errors = [(one_step(w, g, lr=lr) - (w - lr * w * g)).abs().max().item() for lr in (1e-2, 1e-3)]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)


def test_hedge_regret_is_within_its_bound() -> None:
    n, rounds = 10, 1000
    p = nn.Parameter(torch.full((n,), 1 / n, dtype=torch.float64))
    egd = EGD([p], lr=math.sqrt(8 * math.log(n) / rounds), normalize="simplex")
    g = torch.Generator().manual_seed(0)
    paid, total = 0.0, torch.zeros(n, dtype=torch.float64)
    for _ in range(rounds):
        p.grad = torch.rand(n, generator=g, dtype=torch.float64)
        p.grad[3] *= 0.7
        paid += float(p.detach() @ p.grad)
        total += p.grad
        egd.step()
    regret = paid - total.min().item()
    assert 0 < regret <= math.sqrt(rounds * math.log(n) / 2)
    assert p.argmax() == 3


def test_signed_finds_a_sparse_solution_better_than_gradient_descent() -> None:
    torch.manual_seed(0)
    a, truth = torch.randn(60, 200), torch.zeros(200)
    truth[:3] = torch.tensor([1.0, -1.0, 2.0])
    y, errors = a @ truth, []
    for make in (
        lambda p: EGD(p, lr=0.3, normalize="signed", scale=1e-3),
        lambda p: torch.optim.SGD(p, lr=0.1),
    ):
        w = nn.Parameter(torch.zeros(200))
        optimizer = make([w])
        for _ in range(300):
            optimizer.zero_grad()
            ((a @ w - y).square().sum() / 120).backward()
            optimizer.step()
        errors.append((w.detach() - truth).norm().item())
    assert errors[0] < 0.2 * errors[1]


def test_learns_mixture_weights() -> None:
    """Weights of three experts on the simplex, by a loss in the mixture."""
    p = nn.Parameter(torch.full((2, 3), 1 / 3))
    egd = EGD([p], lr=0.5, normalize="simplex", momentum=0.5)
    experts, target = torch.eye(3), torch.tensor([[0.2, 0.3, 0.5], [0.8, 0.1, 0.1]])
    for _ in range(200):
        egd.zero_grad()
        (p @ experts - target).square().sum().backward()
        egd.step()
    assert torch.allclose(p.detach(), target, atol=1e-2)
    assert torch.allclose(p.detach().sum(-1), torch.ones(2), atol=1e-6)


def test_a_huge_gradient_stays_finite_and_zero_stays_zero() -> None:
    w, g = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1e30, -1e30, -1.0])
    found = one_step(w, g, lr=1.0)
    assert torch.isfinite(found).all()
    assert found[2] == 0
    assert one_step(w, g, lr=1.0, floor=1e-3)[2] == pytest.approx(1e-3)


def test_state_resumes_bitwise_also_for_bfloat16() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        p = nn.Parameter(torch.full((4,), 0.25, dtype=dtype))
        egd = EGD([p], lr=0.01, normalize="simplex", momentum=0.9)
        steps = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
        for step in range(10):
            if step == 5:
                saved = copy.deepcopy((egd.state_dict(), p.detach()))
            p.grad = steps[step]
            egd.step()
        q = nn.Parameter(saved[1])
        again = EGD([q], lr=0.01, normalize="simplex", momentum=0.9)
        again.load_state_dict(saved[0])
        for step in range(5, 10):
            q.grad = steps[step]
            again.step()
        assert torch.equal(p, q)
        assert again.state[q]["log_weight"].dtype == torch.float32


def test_messages_name_the_setting() -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\) has the entry -1; .*normalize=signed"):
        EGD([nn.Parameter(torch.tensor([1.0, -1.0]))])
    with pytest.raises(ValueError, match=r"lr=0"):
        EGD([nn.Parameter(torch.ones(1))], lr=0)
    with pytest.raises(ValueError, match=r"accepted: none, simplex, signed"):
        EGD([nn.Parameter(torch.ones(1))], normalize="l1")
    with pytest.raises(ValueError, match=r"momentum=1"):
        EGD([nn.Parameter(torch.ones(1))], momentum=1.0)
