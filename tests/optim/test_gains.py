from __future__ import annotations

import pytest
import torch

from kexue_pl.optim.alignment import measure
from kexue_pl.optim.gains import BLOCK, blocks, move_log_gain, scale_delta

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
    p, d = torch.randn(1000), torch.randn(1000)
    for gain in (None, torch.zeros(1000)):
        q = p.clone()
        scale_delta(q, d, log_gain=gain, log_scale=0.0)
        assert torch.equal(p, q)
    q = p.double()
    scale_delta(q, d.double(), log_gain=None, log_scale=0.5)
    factor = torch.tensor(0.5).double().exp() - 1
    assert torch.allclose(q, p.double() + factor * d.double(), rtol=1e-12)
