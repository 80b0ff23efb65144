"""Alignment against its definition."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.metrics import Alignment, alignment


def points(n, seed=0):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_alignment_is_the_mean_distance(power):
    u, v = points(7), points(7, 1)
    unit = torch.nn.functional.normalize
    want = (unit(u) - unit(v)).norm(dim=1).pow(power).mean()
    torch.testing.assert_close(alignment(u, v, power=power), want)
    torch.testing.assert_close(alignment(2 * u, 3 * v, power=power), want)


def test_metric_equals_the_function():
    u, v = points(8).float(), points(8, 1).float()
    metric = Alignment()
    for part in (slice(0, 3), slice(3, 8), slice(8, 8)):
        metric.update(u[part], v[part])
    torch.testing.assert_close(metric.compute(), alignment(u, v))
