from __future__ import annotations

import pytest
import torch

from kexue_pl.optim.alignment import measure
from kexue_pl.optim.gains import BLOCK, apply_gain, blocks, finish_step, move_log_gain

BOUNDS = (-1.0, 1.0)


@pytest.mark.parametrize("rule", ["sign", "raw", "cosine"])
def test_blocks_equal_the_whole(rule: str) -> None:
    torch.manual_seed(0)
    n = 2 * BLOCK + 17
    g, d, start = torch.randn(n), torch.randn(n), 0.1 * torch.randn(n)
    (sums,) = measure([(g, d)])
    cut = start.clone()
    move_log_gain(cut, g, d, rate=0.01, rule=rule, sums=sums, bounds=BOUNDS)
    agree = {
        "sign": g.sign() * d.sign(),
        "raw": g * d,
        "cosine": n * g * d / (g.norm() * d.norm()),
    }[rule]
    whole = (start + (0.01 * agree).clamp(-1, 1)).clamp(*BOUNDS)
    assert torch.allclose(cut, whole, atol=1e-5)


def test_signs_are_compared_where_the_product_underflows() -> None:
    gain, tiny = torch.zeros(2), torch.tensor([1e-23, -1e-23])
    assert (tiny * tiny).abs().max() < 1e-44
    (sums,) = measure([(tiny, tiny)])
    move_log_gain(gain, tiny, tiny, rate=0.1, rule="sign", sums=sums, bounds=BOUNDS)
    assert torch.allclose(gain, torch.full((2,), 0.1))


def test_other_layouts_are_one_block() -> None:
    a = torch.zeros(3, 5).t()
    assert len(list(blocks(a, torch.zeros(5, 3)))) == 1


def test_a_factor_of_one_is_bitwise_nothing() -> None:
    old, p = torch.randn(1000), torch.randn(1000)
    for gain in (None, torch.zeros(1000)):
        for decay in (0.0, 0.1):
            q = p.clone()
            finish_step(q, -old, log_gain=gain, log_scale=0.0, decay=decay)
            assert torch.equal(p, q)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("log_scale", [0.0, 0.5])
def test_equals_the_equation(decay: float, log_scale: float) -> None:
    old, data, gain = (torch.randn(50, dtype=torch.float64) for _ in range(3))
    p = (1 - decay) * old + data
    finish_step(p, delta := -old, log_gain=gain, log_scale=log_scale, decay=decay)
    s = torch.tensor(log_scale, dtype=torch.float64).exp()
    assert torch.allclose(p, old + s * (gain.exp() * data - decay * old), rtol=1e-10)
    assert torch.allclose(delta, data, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gain_on_a_gradient_is_its_product(dtype: torch.dtype) -> None:
    n = BLOCK + 17
    gradient, log_gain = torch.randn(n).to(dtype), 0.3 * torch.randn(n)
    apply_gain(gradient, log_gain, out=(out := torch.empty_like(gradient)))
    assert torch.equal(out, gradient * log_gain.exp().to(dtype))
