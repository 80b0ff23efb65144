"""Uniformity against its definition."""

from __future__ import annotations

import itertools
import math
import sys

import pytest
import torch

from kexue_pl.metrics import Uniformity, uniformity


def points(n, seed=0):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_uniformity_is_the_mean_over_pairs(block, monkeypatch):
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


def test_metric_keeps_the_first_rows():
    u = points(8).float()
    metric = Uniformity(max_rows=6)
    for part in (slice(0, 3), slice(3, 8), slice(8, 8)):
        metric.update(u[part])
    torch.testing.assert_close(metric.compute(), uniformity(u[:6]))


def test_faults_are_named():
    with pytest.raises(ValueError, match="two rows or more, got 1"):
        uniformity(torch.ones(1, 2))
    with pytest.raises(ValueError, match="max_rows=1"):
        Uniformity(max_rows=1)
