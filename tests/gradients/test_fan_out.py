"""The encoding level in one process: values, loss scale, broken and absent tasks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kexue_pl import balancers as b
from kexue_pl.gradients import fan_out, gram_matrix, window_backward
from tests.balancers.rules import FACTS

RULES = [name for name in FACTS if FACTS[name].make().needs_gram]


def setting(tasks: int = 4) -> tuple[Tensor, Tensor, list[Tensor]]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, generator=g, dtype=torch.float64)
    w = torch.randn(3, 4, generator=g, dtype=torch.float64, requires_grad=True)
    heads = [
        torch.randn(4, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(tasks)
    ]
    return x, w, heads


def terms(views: tuple[Tensor, ...], heads: list[Tensor]) -> list[Tensor]:
    return [
        ((v.tanh() @ h) - t).square().mean() * 3**t for t, (v, h) in enumerate(zip(views, heads))
    ]


@pytest.mark.parametrize("name", RULES)
def test_equals_the_written_out_computation(name: str) -> None:
    x, w, heads = setting()
    z = x @ w
    fan = fan_out(z, FACTS[name].make(), tasks=4)
    fan.join(terms(fan.views, heads)).backward()
    copy = (x @ w).detach().requires_grad_()
    losses = terms((copy,) * 4, heads)
    rows = torch.stack([torch.autograd.grad(v, copy, retain_graph=True)[0] for v in losses])
    weights = FACTS[name].make().weights(gram_matrix(rows), torch.stack(losses))
    torch.testing.assert_close(fan.weights, weights)
    torch.testing.assert_close(w.grad, x.T @ torch.einsum("t,tbh->bh", weights, rows))
    for t, head in enumerate(heads):
        own = torch.autograd.grad(losses[t], head, retain_graph=True)[0]
        torch.testing.assert_close(head.grad, own)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("scale", [1024.0, 1 / 7])
def test_a_loss_scale_scales_the_gradient_and_nothing_else(name: str, scale: float) -> None:
    def run(factor: float) -> tuple[Tensor, Tensor | None]:
        x, w, heads = setting()
        fan = fan_out(x @ w, FACTS[name].make(), tasks=4)
        (fan.join(terms(fan.views, heads)) * factor).backward()
        assert w.grad is not None
        return w.grad / factor, fan.weights

    (one, first), (two, second) = run(1.0), run(scale)
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9 * float(one.norm()))


@pytest.mark.parametrize(
    "name", ["mgda", "inverse_grad_norm", "geometric", "primary", "upgrad", "equal"]
)
@pytest.mark.parametrize("how", ["absent", "nan loss", "nan gradient"])
def test_a_broken_task_leaves_the_update_of_the_others(name: str, how: str) -> None:
    def run(broken: bool) -> Tensor:
        x, w, heads = setting()
        tasks = 4 if broken else 3
        fan = fan_out(x @ w, FACTS[name].make(), tasks=tasks)
        losses: list[Tensor | None] = list(terms(fan.views, heads)[:3])
        if broken:
            bad = fan.views[3].sum()
            losses.append(
                {"absent": None, "nan loss": bad * float("nan"), "nan gradient": (bad * 0).sqrt()}[
                    how
                ]
            )
        fan.join(losses).backward()
        assert w.grad is not None
        return w.grad

    want, got = run(False), run(True)
    assert bool(got.isfinite().all())
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_an_overflow_of_all_tasks_is_passed_on() -> None:
    x, w, heads = setting(2)
    fan = fan_out(x @ w, b.MGDA(), tasks=2)
    fan.join([v * float("inf") for v in terms(fan.views, heads)]).backward()
    assert w.grad is not None and not bool(w.grad.isfinite().all())


def test_batch_without_any_task_gives_zero() -> None:
    x, w, _ = setting(2)
    fan = fan_out(x @ w, b.MGDA(), tasks=2)
    fan.join([None, None]).backward()
    assert w.grad is None or bool((w.grad.nan_to_num() == 0).all())


def test_backward_past_the_join_is_an_error() -> None:
    x, w, heads = setting(2)
    fan = fan_out(x @ w, b.MGDA(), tasks=2)
    with pytest.raises(RuntimeError, match=r"join\(losses\)"):
        sum(terms(fan.views, heads)).backward()  # type: ignore[union-attr]


def test_misuse_is_named() -> None:
    z = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(ValueError, match="level=parameters"):
        fan_out(z, b.GradDrop(), tasks=2)
    with pytest.raises(ValueError, match="either a rule or fixed weights"):
        fan_out(z, None, tasks=2)
    with pytest.raises(ValueError, match="2 tasks"):
        fan_out(z, b.MGDA(), tasks=2).join([z.sum()])
    with pytest.raises(ValueError, match="not a scalar"):
        fan_out(z, b.MGDA(), tasks=2).join([z, z.sum()])
    with pytest.raises(ValueError, match="no batch"):
        window_backward([], b.MGDA(), tasks=2, encode=lambda x: x, heads=lambda v, x: ([], []))


def test_window_replays_dropout() -> None:
    drop = nn.Dropout(0.5)
    seen: list[Tensor] = []

    def encode(x: Tensor) -> Tensor:
        out: Tensor = drop(x * w)
        seen.append(out.detach())
        return out

    w = torch.ones(50, requires_grad=True)
    data = [torch.ones(50), 2 * torch.ones(50)]
    window_backward(
        data,
        b.MGDA(),
        tasks=2,
        encode=encode,
        heads=lambda v, x: ([v[0].sum(), v[1].square().sum()], [1.0, 1.0]),
    )
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0] == 0, seen[1] == 0)


def test_gram_in_chunks_is_exact_where_one_float32_product_is_not() -> None:
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 300_000, generator=g) + 1.0
    want = rows.double() @ rows.double().T
    assert float((gram_matrix(rows, chunk=1000) / want - 1).abs().max()) < 1e-12
    torch.testing.assert_close(gram_matrix(rows), want, rtol=1e-12, atol=0)
