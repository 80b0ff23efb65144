"""Every scaling against its formula in float64, by hand where a hand can."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kexue_pl.attention import (
    Calibrated,
    EntropyInvariant,
    Kappa,
    KeyNorm,
    LogNClipped,
    MuP,
    NaturalLog,
    QKNorm,
    Scaling,
    SqrtLog,
    SSMax,
    Standard,
    YaRN,
)

N = torch.tensor([1, 2, 16, 64, 512, 4096])


def reference(function, d=64):
    return torch.tensor([function(float(n), d) for n in N.tolist()], dtype=torch.float64)


CASES = [
    (Standard(), lambda n, d: d**-0.5),
    (EntropyInvariant(floor=1), lambda n, d: math.log(n) / math.log(512) / math.sqrt(d)),
    (EntropyInvariant(), lambda n, d: math.log(max(n, 16)) / math.log(512) / math.sqrt(d)),
    (
        EntropyInvariant(base=64, strength=0.5),
        lambda n, d: (0.5 + 0.5 * math.log(max(n, 16)) / math.log(64)) / math.sqrt(d),
    ),
    (LogNClipped(64), lambda n, d: max(1.0, math.log(n, 64)) / math.sqrt(d)),
    (Kappa(3.0), lambda n, d: 3.0 * math.log(n) / d),
    (Kappa(), lambda n, d: math.log(n) / math.log(512) / math.sqrt(d)),
    (NaturalLog(), lambda n, d: math.log(n) / math.sqrt(d)),
    (SSMax(0.43), lambda n, d: 0.43 * math.log(n) / math.sqrt(d)),
    (MuP(), lambda n, d: 1 / d),
    (YaRN(64), lambda n, d: (0.1 * math.log(max(1, n / 64)) + 1) ** 2 / math.sqrt(d)),
    (QKNorm(value=7.0), lambda n, d: 7.0),
    (QKNorm("log_n"), lambda n, d: 3.5 * math.log(n)),
    (QKNorm("learned", 4.0), lambda n, d: 4.0),
    (KeyNorm(), lambda n, d: 1.0),
    (SqrtLog(64), lambda n, d: math.sqrt(math.log(n) / math.log(64)) / math.sqrt(d)),
    (Calibrated(64), lambda n, d: d**-0.5),
]


@pytest.mark.parametrize(("scaling", "formula"), CASES, ids=lambda c: type(c).__name__)
def test_factor_equals_its_formula(scaling, formula):
    for d in (16, 64):
        exact = scaling.factor(N.double(), d).flatten()
        assert torch.allclose(exact, reference(formula, d), rtol=1e-6)  # parameters are float32
        single = scaling.factor(N, d).flatten()
        assert single.dtype == torch.float32
        assert torch.allclose(single.double(), reference(formula, d), rtol=1e-5)


@pytest.mark.parametrize("scaling", [case[0] for case in CASES], ids=lambda c: type(c).__name__)
def test_no_key_and_one_key_are_finite(scaling):
    assert scaling.factor(torch.tensor([0, 1]), 64).isfinite().all()


def test_author_code_rule():
    """bert4keras: n = sum of the mask, at least 16; logits times log n / log 512."""
    n = torch.arange(1, 600)
    rule = torch.log(n.clamp_min(16).float()) / math.log(512)
    assert torch.allclose(EntropyInvariant().ratio(n, 64), rule, rtol=1e-6)


@given(base=st.integers(17, 2000), d=st.sampled_from([8, 32, 64, 128]), strength=st.floats(-1, 3))
def test_entropy_invariant_is_standard_at_its_base(base, d, strength):
    at_base = EntropyInvariant(base=base, strength=strength).factor(torch.tensor(base), d)
    assert math.isclose(at_base.item(), d**-0.5, rel_tol=1e-6)
    off = EntropyInvariant(base=base, strength=0).factor(torch.tensor(base * 7), d)
    assert math.isclose(off.item(), d**-0.5, rel_tol=1e-6)


@given(n=st.integers(16, 10**6))
def test_log_scalings_grow_with_n_and_others_do_not(n):
    pair = torch.tensor([n, 2 * n])
    for scaling in (EntropyInvariant(), NaturalLog(), SSMax(), SqrtLog(), Kappa()):
        low, high = scaling.ratio(pair, 64).flatten().tolist()
        assert low < high
    for scaling in (Standard(), MuP(), KeyNorm(), QKNorm()):
        low, high = scaling.ratio(pair, 64).flatten().tolist()
        assert low == high


def test_learned_values_get_one_place_a_head_and_gradients():
    for scaling in (SSMax(bias=True), Kappa(learned=True), QKNorm("learned")):
        assert scaling.learned
        assert scaling.per_layer
        scaling.bind(3)
        ratio = scaling.ratio(torch.tensor([[[[5], [9]]]]), 16)
        assert ratio.shape == (1, 3, 2, 1)
        ratio.sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in scaling.parameters())


@pytest.mark.parametrize("make", [SSMax, lambda: Kappa(learned=True), lambda: QKNorm("learned")])
def test_gradcheck_of_learned_values(make):
    scaling: Scaling = make()
    scaling.bind(2)
    scaling.double()
    n = torch.tensor([[[[5.0], [70.0]]]], dtype=torch.float64)
    values = next(scaling.parameters())
    name = next(iter(dict(scaling.named_parameters())))

    def ratio(v):
        return torch.func.functional_call(_Ratio(scaling), {f"rule.{name}": v}, (n,))

    assert torch.autograd.gradcheck(ratio, values.detach().clone().requires_grad_())


class _Ratio(torch.nn.Module):
    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def forward(self, n):
        return self.rule.ratio(n, 16)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EntropyInvariant(base=1), "base=1 must be greater than 1"),
        (lambda: EntropyInvariant(base=8), "floor=16.0 must be between 1 and base=8"),
        (lambda: EntropyInvariant(floor=0.5), "attention.floor"),
        (lambda: LogNClipped(1), "train_length=1"),
        (lambda: Kappa(-1.0), "kappa=-1.0"),
        (lambda: SSMax(0.0), "init=0.0"),
        (lambda: MuP(0.0), "gain=0.0"),
        (lambda: KeyNorm(0.0), "gain=0.0"),
        (lambda: YaRN(0), "train_length=0"),
        (lambda: QKNorm("cosine"), "fixed, learned, log_n"),
        (lambda: SqrtLog(1.0), "base=1.0"),
        (lambda: Calibrated(64, bound=1.0), "bound=1.0"),
    ],
)
def test_faulty_settings_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
