from __future__ import annotations

import math

import torch

from kexue_pl.optim.alignment import Sums, measure, total


def test_cosine_of_tiny_values_does_not_underflow() -> None:
    assert Sums(1e-300, 1e-300, 1e-300).cosine == 1.0
    assert Sums(-1e-300, 1e-300, 1e-300).cosine == -1.0


def test_what_is_not_finite_has_no_angle() -> None:
    for bad in (math.nan, math.inf):
        sums = Sums(bad, 1.0, 1.0)
        assert not sums.finite
        assert sums.cosine == sums.sign == 0.0
        assert not total([sums, Sums(1.0, 1.0, 1.0)]).finite
    assert total([]) == Sums(0.0, 0.0, 0.0)


def test_layout_and_half_precision_do_not_matter() -> None:
    g, d = torch.randn(4, 6), torch.randn(4, 6)
    (plain,) = measure([(g, d)])
    (mixed,) = measure([(g.t().contiguous().t(), d)])
    assert torch.allclose(torch.tensor(plain), torch.tensor(mixed), rtol=1e-6)
    big = torch.full((4096,), 0.1, dtype=torch.bfloat16)
    (half,) = measure([(big, big)])
    assert abs(half.dot / (4096 * float(big[0]) ** 2) - 1) < 1e-5
