"""Rotary, NTK-aware, rectified and linear-bias positions against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.attention import (
    NTK,
    ALiBi,
    EntropyInvariant,
    Positions,
    ReRoPE,
    RoPE,
    ScaledAttention,
    Standard,
)
from kexue_pl.attention.positions import alibi_slopes, rotary_tables, turn


class Layer(torch.nn.Module):
    def __init__(self, causal=False, groups=1):
        super().__init__()
        self.is_causal = causal
        self.num_key_value_groups = groups


def distance_logit(q, k, gap, *, interleaved, base=10_000.0):
    """q . R(-gap) k as complex numbers: Re(q conj(k) e^{i gap theta})."""
    d = q.shape[-1]
    pairs = (lambda x: (x[::2], x[1::2])) if interleaved else (lambda x: (x[: d // 2], x[d // 2 :]))
    a, b = (torch.complex(*(part.double() for part in pairs(x))) for x in (q, k))
    theta = base ** (-torch.arange(0, d, 2).double() / d)
    return float((a * b.conj() * torch.polar(torch.ones_like(theta), gap * theta)).real.sum())


@pytest.mark.parametrize("interleaved", [True, False])
def test_rope_logits_are_functions_of_distance(interleaved):
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 3, 8), torch.randn(1, 1, 7, 8)
    turned_q, turned_k = RoPE(interleaved=interleaved).rotate(q, k, offset=4)
    for i in range(3):
        for j in range(7):
            want = distance_logit(q[0, 0, i], k[0, 0, j], 4 + i - j, interleaved=interleaved)
            got = float(turned_q[0, 0, i] @ turned_k[0, 0, j])
            assert math.isclose(got, want, abs_tol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 12), window=st.integers(1, 14), offset=st.integers(0, 5), half=st.booleans()
)
def test_rerope_logits_have_clipped_distances(n, window, offset, half):
    torch.manual_seed(n)
    q, k = torch.randn(1, 1, n, 4), torch.randn(1, 1, n + offset, 4)
    positions = ReRoPE(window=window, interleaved=not half)
    rows = slice(n // 3, n)
    got = positions.logits(q, k, rows, offset)
    assert got.shape == (1, 1, n - n // 3, n + offset)
    for i in range(rows.start, n):
        for j in range(n + offset):
            gap = max(-window, min(window, offset + i - j))
            want = distance_logit(q[0, 0, i], k[0, 0, j], gap, interleaved=not half)
            assert math.isclose(float(got[0, 0, i - rows.start, j]), want, abs_tol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [9, 300])
def test_rerope_with_a_wide_window_is_rope(causal, length):
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(2, 4, length, 8),
        torch.randn(2, 2, length, 8),
        torch.randn(2, 2, length, 8),
    )
    mask = torch.ones(2, 1, length, length, dtype=torch.bool)
    mask[1, :, :, length - 3 :] = False
    scaling = EntropyInvariant(base=64)
    wide = ScaledAttention("wide", scaling, ReRoPE(window=length - 1))
    narrow = ScaledAttention("narrow", scaling, ReRoPE(window=3))
    rope = ScaledAttention("rope", scaling, RoPE())
    layer = Layer(causal, groups=2)
    assert torch.equal(narrow(layer, q, k, v, None)[0], rope(layer, q, k, v, None)[0])
    layer.eval()
    for given_mask in (None, mask):
        want = rope(layer, q, k, v, given_mask)[0]
        assert torch.allclose(wide(layer, q, k, v, given_mask)[0], want, atol=1e-5)
        assert not torch.allclose(narrow(layer, q, k, v, given_mask)[0], want, atol=1e-2)


def test_cached_positions_equal_the_full_pass():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 10, 8) for _ in range(3))
    for positions in (RoPE(), ReRoPE(window=3), ALiBi()):
        function = ScaledAttention("cached", EntropyInvariant(base=16), positions)
        whole = function(Layer(causal=True).eval(), q, k, v, None)[0]
        for t in (4, 9):
            step = function(
                Layer(causal=True).eval(),
                q[:, :, t : t + 1],
                k[:, :, : t + 1],
                v[:, :, : t + 1],
                None,
            )[0]
            assert torch.allclose(step[:, 0], whole[:, t], atol=1e-5)


def test_left_padding_moves_nothing():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 6, 8) for _ in range(3))
    pad = [torch.cat([torch.randn(1, 2, 3, 8), x], 2) for x in (q, k, v)]
    mask = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    mask[..., :3] = False
    for positions in (RoPE(), ReRoPE(window=2), ALiBi(), Positions()):
        function = ScaledAttention("left", EntropyInvariant(base=16), positions)
        alone = function(Layer().eval(), q, k, v, None)[0]
        assert torch.allclose(function(Layer().eval(), *pad, mask)[0][:, 3:], alone, atol=1e-5)


def test_no_positions_do_not_tell_the_order():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, 6, 8) for _ in range(3))
    order = torch.randperm(6)
    nope = ScaledAttention("nope", Standard())
    want = nope(Layer(), q, k, v, None)[0]
    assert torch.allclose(
        nope(Layer(), q, k[:, :, order], v[:, :, order], None)[0], want, atol=1e-6
    )
    rope = ScaledAttention("rope", Standard(), RoPE())
    assert not torch.allclose(
        rope(Layer(), q, k[:, :, order], v[:, :, order], None)[0],
        rope(Layer(), q, k, v, None)[0],
        atol=1e-2,
    )


def test_ntk_base():
    ntk = NTK(train_length=64)
    assert ntk.base_at(32, 8) == ntk.base_at(64, 8) == 10_000.0
    # The slowest pair turns at n as far as it did at the training length (up to the -2 of d - 2).
    d, stretch = 64, 16
    slowest = ntk.base_at(64 * stretch, d) ** (-(d - 2) / d)
    assert math.isclose(slowest * stretch, 10_000.0 ** (-(d - 2) / d), rel_tol=1e-9)


def test_alibi():
    assert alibi_slopes(8)[0] == 0.5
    assert alibi_slopes(6) == [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]
    q = torch.zeros(1, 2, 4, 8)
    v = torch.eye(4).expand(1, 2, 4, 4)
    weights = ScaledAttention("alibi", Standard(), ALiBi())(Layer(), q, q, v, None)[0]
    gap = (torch.arange(4)[:, None] - torch.arange(4)).abs()
    for head, slope in enumerate(alibi_slopes(2)):
        assert torch.allclose(weights[0, :, head], (-slope * gap).softmax(-1), atol=1e-6)


def test_tables_turn_pairs():
    cos, sin = rotary_tables(torch.arange(5), 6, 100.0, interleaved=True)
    x = torch.randn(5, 6)
    assert torch.allclose(turn(x, cos, sin, interleaved=True).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turn(x, cos, sin, interleaved=True)[0], x[0])


@pytest.mark.parametrize(
    "make", [lambda: RoPE(base=1.0), lambda: ReRoPE(window=0), lambda: NTK(train_length=0)]
)
def test_faulty_settings_are_named(make):
    with pytest.raises(ValueError, match=r"set (model|data)\."):
        make()
