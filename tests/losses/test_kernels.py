"""The kernels against the dense definition, in both precisions."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.losses.kernels import KERNELS, choose
from tests.losses.reference import dense_cosent, dense_cosent_blocks, labels_of, value_and_grad

KINDS = ("binary", "grades", "real", "equal")


@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [5.0, 20.0, 140.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_kernel_equals_the_definition(kernel, kind, scale, dtype):
    tight = dtype == torch.float64
    for seed, rows in enumerate((1, 2, 3, 17, 64, 199)):
        g = torch.Generator().manual_seed(seed)
        s = ((torch.rand(rows, generator=g) * 2 - 1) * scale).to(dtype)
        y = labels_of(kind, rows, seed)
        x = s.double().clone().requires_grad_()
        want, want_gradient = value_and_grad(dense_cosent(x, y), x)
        loss, gradient = KERNELS[kernel](s, y.to(dtype))
        loss, gradient = loss.detach(), gradient.detach()
        assert loss.dtype == gradient.dtype == dtype
        # Log-sum-exps of float32 scores beyond 100 keep one digit less.
        less = 10 if kernel == "log" and scale > 100 and not tight else 1
        rtol = 1e-13 if tight else 1e-6 * less**2
        torch.testing.assert_close(loss.double(), want, rtol=rtol, atol=1e-15)
        error = (gradient.double() - want_gradient).norm()
        assert error <= (1e-12 if tight else 1e-5 * less) * want_gradient.norm()
        assert abs(float(gradient.double().sum())) < 1e-4


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_ties_in_scores_and_labels(kernel):
    s = torch.tensor([0.5, 0.5, 0.5, -1.0, -1.0], dtype=torch.float64)
    y = torch.tensor([0, 1, 1, 0, 1])
    loss, gradient = KERNELS[kernel](s, y)
    x = s.clone().requires_grad_()
    want, want_gradient = value_and_grad(dense_cosent(x, y), x)
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(gradient, want_gradient)


def test_sum_kernel_needs_scores_of_moderate_size():
    s, y = torch.tensor([400.0, -400.0]), torch.tensor([0, 1])
    assert float(KERNELS["log"](s, y)[0]) == pytest.approx(800)
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert not KERNELS["sum"](s, y)[0].isfinite()


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([-3, 7, 7, 0, 63]),
        torch.tensor([-3, 7, 7, 0, 64], dtype=torch.int32),
        torch.tensor([-3.0, 7, 7, 0, 1e9]),
        torch.tensor([0.5, 1, 1, 0, 1.5]),
        torch.tensor([1e9, 1e9 + 1, 2, 1, 1], dtype=torch.float64),
        torch.tensor([True, False, True, True, False]).to(torch.uint8),
    ],
)
def test_labels_of_every_sort(labels):
    s = torch.tensor([0.3, -0.1, 0.7, 2.0, -1.0], dtype=torch.float64)
    want = dense_cosent(s, labels)
    for kernel in KERNELS.values():
        torch.testing.assert_close(kernel(s, labels)[0], want)


def test_blocks_are_the_dense_definition():
    s, y = torch.randn(150, dtype=torch.float64, requires_grad=True), labels_of("grades", 150)
    want, want_gradient = value_and_grad(dense_cosent(s, y), s)
    loss, gradient = dense_cosent_blocks(s.detach(), y)
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(gradient, want_gradient)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rows"), [("binary", 4096), ("real", 2048), ("grades", 32768)])
def test_large_batches_in_float32(kind, rows):
    g = torch.Generator().manual_seed(rows)
    s = (torch.rand(rows, generator=g) * 2 - 1) * 20
    y = labels_of(kind, rows).float()
    want, want_gradient = dense_cosent_blocks(s, y)
    for name in KERNELS:
        loss, gradient = KERNELS[name](s, y)
        assert abs(float(loss) / float(want) - 1) < 1e-6
        assert float((gradient.double() - want_gradient).norm() / want_gradient.norm()) < 1e-5
        assert abs(float(gradient.double().sum())) < 1e-4


@pytest.mark.parametrize(
    ("scores", "want"),
    [
        (torch.tensor([20.0, -20.0]), "sum"),
        (torch.tensor([301.0]), "log"),
        (torch.tensor([-301.0]), "log"),
        (torch.tensor([0.0, torch.nan]), "log"),
    ],
)
def test_choice(scores, want):
    assert choose(scores) == want
