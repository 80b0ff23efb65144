"""The streaming probe against full matrices, and what the scalings do to entropy."""

from __future__ import annotations

import math

import pytest
import torch

from kexue_pl.attention import (
    ALiBi,
    EntropyInvariant,
    EntropyProbe,
    ReRoPE,
    RoPE,
    ScaledAttention,
    Standard,
    attention_entropy,
    install,
    log_slope,
    valid_rows,
)
from tests.attention.tiny import build, inputs, unilm


class Layer(torch.nn.Module):
    def __init__(self, causal=False):
        super().__init__()
        self.is_causal = causal
        self.num_key_value_groups = 2


def seen_call(positions, mask, causal, length=150):
    torch.manual_seed(0)
    q, k = torch.randn(2, 4, length, 8) * 1.5, torch.randn(2, 2, length, 8) * 1.5
    function = ScaledAttention("probe", EntropyInvariant(base=64), positions)
    calls = []
    function.observers.append(calls.append)
    weights = torch.eye(length).expand(2, 2, length, length)
    out = function(Layer(causal).eval(), q, k, weights, mask)[
        0
    ]  # values = identity: the output is p
    return calls[0], out.transpose(1, 2)


@pytest.mark.parametrize("positions", [None, RoPE(), ReRoPE(window=5), ALiBi()])
@pytest.mark.parametrize("kind", ["none", "causal", "padding", "unilm", "float"])
def test_row_entropies_equal_those_of_the_full_matrix(positions, kind):
    padding = torch.ones(2, 150, dtype=torch.long)
    padding[1, 90:] = 0
    mask = None if kind in ("none", "causal") else unilm(padding, 40)
    if kind == "padding":
        mask = padding[:, None, None, :].bool().expand(2, 1, 150, 150)
    if kind == "float":
        mask = torch.randn(2, 1, 150, 150).masked_fill(~mask, torch.finfo(torch.float32).min)
    call, p = seen_call(positions, mask, kind == "causal")
    want = -(p * p.clamp_min(1e-38).log()).sum(-1)
    for fused in (True, False):
        assert torch.allclose(attention_entropy(call, fused=fused), want, atol=2e-4)


def test_valid_rows_leave_padding_out():
    _, padding = inputs()
    for mask in (unilm(padding, 8), padding[:, None, None, :].bool()):
        model = build("bert", "sdpa")
        function = install(model, Standard())
        calls = []
        function.observers.append(calls.append)
        model(inputs()[0], attention_mask=mask.expand(2, 1, 16, 16))
        assert torch.equal(valid_rows(calls[0]).expand(2, 4, 16)[:, 0], padding.bool())


def test_probe_means_over_batches_without_padding():
    ids, padding = inputs()
    model = build("bert", "sdpa")
    function = install(model, EntropyInvariant(base=16))
    with EntropyProbe(function) as both, torch.no_grad():
        model(ids[:1])
        model(ids[1:], attention_mask=padding[1:])
    assert both.mean().shape == (2, 4)
    with EntropyProbe(function) as alone, torch.no_grad():
        model(ids[:1])
        model(ids[1:, :10])  # the second row without its padding
    assert torch.allclose(both.mean(), alone.mean(), atol=1e-5)
    assert not function.observers
    with pytest.raises(RuntimeError, match="saw no call"):
        EntropyProbe(function).mean()


def test_uniform_attention_has_slope_one():
    model = build("bert", "sdpa")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".query." in name:
                parameter.zero_()
    function = install(model, Standard())
    means = []
    for n in (8, 16, 32):
        with EntropyProbe(function) as probe, torch.no_grad():
            model(torch.randint(3, 50, (1, n)))
        means.append(probe.mean().mean().item())
    assert means == pytest.approx([math.log(8), math.log(16), math.log(32)], abs=1e-4)
    assert log_slope([8, 16, 32], means) == pytest.approx(1.0, abs=1e-4)


def test_log_slope_needs_two_lengths():
    with pytest.raises(ValueError, match="at least two"):
        log_slope([64, 64], [1.0, 1.0])


def test_entropy_of_fixed_random_logits():
    """d = 64, logits of standard deviation 3 at n = 64: the scale of the article damps the growth.

    Strict invariance is not claimed: at other temperatures the article's constant only damps it.
    """
    torch.manual_seed(0)
    d, growth = 64, {}
    for scaling in (Standard(), EntropyInvariant(base=64)):
        function = ScaledAttention("law", scaling)
        means = []
        for n in (64, 256, 1024, 4096):
            q, k = torch.randn(1, 1, 256, d), torch.randn(1, 1, n, d)
            q, k = (x / x.norm(dim=-1, keepdim=True) * math.sqrt(3 * d) for x in (q, k))
            calls = []
            function.observers[:] = [calls.append]
            function(Layer().eval(), q, k, k, None, scaling=d**-0.5)
            means.append(attention_entropy(calls[0], fused=False).mean().item())
        growth[type(scaling)] = (means[-1] - means[0], max(abs(m - means[0]) for m in means))
    assert growth[Standard][0] > 2.5
    assert growth[EntropyInvariant][1] < 0.3
