"""CoSENT: a value by hand, what the article says of it, edges, derivatives, ranks."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.losses import CoSENT, PairOutputs, cosent_loss
from kexue_pl.losses.kernels import KERNELS
from tests.losses.reference import dense_cosent, labels_of, value_and_grad

batches = st.integers(0, 10_000).flatmap(
    lambda seed: st.tuples(
        st.just(seed), st.integers(2, 40), st.sampled_from(["binary", "grades", "real"])
    )
)


def drawn(case):
    seed, rows, kind = case
    g = torch.Generator().manual_seed(seed)
    return 10 * torch.randn(rows, generator=g).double(), labels_of(kind, rows, seed)


def test_value_by_hand():
    s = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64, requires_grad=True)
    loss, gradient = value_and_grad(cosent_loss(s, torch.tensor([0, 1, 1])), s)
    e, r = math.e, math.exp(0.5)
    assert float(loss) == pytest.approx(math.log(1 + e + r), rel=1e-14)
    want = [(e + r) / (1 + e + r), -e / (1 + e + r), -r / (1 + e + r)]
    assert gradient.tolist() == pytest.approx(want, rel=1e-12)


def test_direction_larger_label_wants_larger_score():
    y = torch.tensor([0, 1])
    assert cosent_loss(torch.tensor([0.0, 5.0]), y) < cosent_loss(torch.tensor([5.0, 0.0]), y)


@settings(max_examples=60, deadline=None)
@given(batches)
def test_invariances(case):
    s, y = drawn(case)
    loss = cosent_loss(s, y)
    order = torch.randperm(len(s), generator=torch.Generator().manual_seed(case[0]))
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(cosent_loss(s + 3.5, y), loss, **close)
    torch.testing.assert_close(cosent_loss(s[order], y[order]), loss, **close)
    torch.testing.assert_close(cosent_loss(s, torch.exp(2 * y) - 7), loss, **close)
    torch.testing.assert_close(cosent_loss(-s, -y), loss, **close)
    assert loss >= 0
    assert cosent_loss(torch.cat([s, s[:1]]), torch.cat([y, y[:1] + 1])) >= loss - 1e-12


def test_invariances_do_not_hold_for_anything():
    s, y = drawn((1, 12, "grades"))
    loss = cosent_loss(s, y)
    assert not torch.isclose(cosent_loss(2 * s, y), loss)
    assert not torch.isclose(cosent_loss(-s, y), loss)
    assert not torch.isclose(cosent_loss(s, y.flip(0)), loss)


@settings(max_examples=30, deadline=None)
@given(batches, st.integers(2, 4))
def test_repeated_batch(case, times):
    s, y = drawn(case)
    want = torch.log1p(times**2 * torch.expm1(cosent_loss(s, y)))
    torch.testing.assert_close(cosent_loss(s.repeat(times), y.repeat(times)), want)


def test_large_scale_tends_to_the_largest_violation():
    s, y = drawn((3, 20, "grades"))
    worst = max(float(s[j] - s[i]) for i in range(20) for j in range(20) if y[i] > y[j])
    assert float(cosent_loss(1e4 * s, y)) / 1e4 == pytest.approx(max(0.0, worst), rel=1e-3)


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_first_and_second_derivative(kernel):
    g = torch.Generator().manual_seed(0)
    s = (5 * torch.rand(9, generator=g)).double().requires_grad_()
    y = torch.randint(0, 2, (9,), generator=g)
    assert torch.autograd.gradcheck(lambda x: cosent_loss(x, y, kernel=kernel), (s,))
    assert torch.autograd.gradgradcheck(lambda x: cosent_loss(x, y, kernel=kernel), (s,))


def test_second_derivative_with_grades_and_one_label():
    g = torch.Generator().manual_seed(1)
    s = torch.rand(7, generator=g).double().requires_grad_()
    for y in (torch.randint(0, 4, (7,), generator=g), torch.ones(7)):
        assert torch.autograd.gradgradcheck(lambda x, y=y: cosent_loss(x, y), (s,))


@pytest.mark.parametrize("rows", [0, 1, 8, 2000])
@pytest.mark.parametrize("kernel", ["auto", *KERNELS])
def test_one_label_gives_zero_loss_and_zero_gradient(rows, kernel):
    s = torch.randn(rows, requires_grad=True)
    loss, gradient = value_and_grad(cosent_loss(s, torch.ones(rows), kernel=kernel), s)
    assert float(loss) == 0.0
    assert gradient.shape == s.shape
    assert not gradient.any()


def test_extreme_scores_stay_finite():
    s = torch.tensor([1e6, -1e6, 5.0, 3.0], requires_grad=True)
    loss, gradient = value_and_grad(cosent_loss(s, torch.tensor([0, 1, 1, 0])), s)
    assert float(loss) == pytest.approx(2e6)
    assert gradient.tolist() == pytest.approx([1, -1, 0, 0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    s = torch.randn(30, generator=torch.Generator().manual_seed(0)).to(dtype)
    y = torch.arange(30) % 3
    loss = cosent_loss(s, y)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), dense_cosent(s.double(), y), rtol=1e-6, atol=0)


def test_bool_labels():
    s, y = torch.randn(8), torch.arange(8) % 2 == 0
    torch.testing.assert_close(cosent_loss(s, y), cosent_loss(s, y.long()))


@pytest.mark.parametrize(
    ("scores", "labels", "kernel", "message"),
    [
        (torch.zeros(2), torch.tensor([0.0, math.nan]), "auto", "label nan in row 1"),
        (torch.zeros(2), torch.zeros(3), "auto", r"shapes \(2,\) and \(3,\)"),
        (torch.zeros(2, 1), torch.zeros(2, 1), "auto", "must be"),
        (
            torch.zeros(2),
            torch.zeros(2),
            "fast",
            "choose one of auto, sum, log",
        ),
    ],
)
def test_faults_are_named(scores, labels, kernel, message):
    with pytest.raises(ValueError, match=message):
        cosent_loss(scores, labels, kernel=kernel)


def test_module_scales_cosines_and_leaves_logits():
    g = torch.Generator().manual_seed(0)
    u, v, y = torch.randn(6, 4, generator=g), torch.randn(6, 4, generator=g), torch.arange(6) % 2
    cosines = torch.cosine_similarity(u, v)
    torch.testing.assert_close(
        CoSENT(scale=7.0)(PairOutputs(left=u, right=v), y), cosent_loss(7 * cosines, y)
    )
    logits = torch.randn(6, 1, generator=g)
    torch.testing.assert_close(
        CoSENT(scale=7.0)(PairOutputs(logits=logits), y), cosent_loss(logits[:, 0], y)
    )


def test_infinite_logit_is_clipped():
    logits = torch.tensor([torch.inf, 0.0], requires_grad=True)
    loss, gradient = value_and_grad(
        CoSENT()(PairOutputs(logits=logits), torch.tensor([0, 1])), logits
    )
    assert float(loss) == pytest.approx(1e6)
    assert gradient.isfinite().all()


def test_zero_vector_has_a_finite_gradient():
    u = torch.zeros(2, 3, requires_grad=True)
    loss = CoSENT()(PairOutputs(left=u, right=torch.ones(2, 3)), torch.tensor([0, 1]))
    assert torch.autograd.grad(loss, u)[0].isfinite().all()


def test_autocast_does_not_reach_the_loss():
    g = torch.Generator().manual_seed(0)
    u, v, y = torch.randn(9, 8, generator=g), torch.randn(9, 8, generator=g), torch.arange(9) % 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = CoSENT()(PairOutputs(left=u, right=v), y)
    assert torch.equal(inside, CoSENT()(PairOutputs(left=u, right=v), y))


def test_single_label_batches_are_counted_and_told(caplog):
    loss, pairs = CoSENT(), PairOutputs(scores=torch.zeros(2))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            loss(pairs, torch.tensor([1, 1]))
        loss(pairs, torch.tensor([0, 1]))
    assert loss.diagnostics() == {"single_label_batches": 3.0}
    assert len(caplog.records) == 1
    loss.eval()
    loss(pairs, torch.tensor([1, 1]))
    assert loss.diagnostics() == {"single_label_batches": 3.0}


def test_scale_must_be_positive():
    with pytest.raises(ValueError, match=r"loss.scale=0"):
        CoSENT(scale=0)
