"""Alignment and uniformity against their definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from kexue_pl.metrics import Alignment, Uniformity, alignment, uniformity


def points(n, seed=0):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_alignment_is_the_mean_distance(power):
    u, v = points(7), points(7, 1)
    unit = torch.nn.functional.normalize
    want = (unit(u) - unit(v)).norm(dim=1).pow(power).mean()
    torch.testing.assert_close(alignment(u, v, power=power), want)
    torch.testing.assert_close(alignment(2 * u, 3 * v, power=power), want)


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_uniformity_is_the_mean_over_pairs(block, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["kexue_pl.metrics.uniformity"], "_BLOCK", block)
    x = points(9)
    rows = torch.nn.functional.normalize(x)
    terms = [
        math.exp(-2 * float((a - b).square().sum())) for a, b in itertools.combinations(rows, 2)
    ]
    assert uniformity(x).item() == pytest.approx(math.log(sum(terms) / len(terms)))


def test_a_collapsed_set_is_least_uniform():
    assert uniformity(torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-5)
    assert uniformity(points(50)) < -1


def test_metrics_equal_the_functions():
    u, v = points(8).float(), points(8, 1).float()
    metric, spread = Alignment(), Uniformity(max_rows=6)
    for part in (slice(0, 3), slice(3, 8), slice(8, 8)):
        metric.update(u[part], v[part])
        spread.update(u[part])
    torch.testing.assert_close(metric.compute(), alignment(u, v))
    torch.testing.assert_close(spread.compute(), uniformity(u[:6]))


def test_faults_are_named():
    with pytest.raises(ValueError, match="two rows or more, got 1"):
        uniformity(torch.ones(1, 2))
    with pytest.raises(ValueError, match="max_rows=1"):
        Uniformity(max_rows=1)
