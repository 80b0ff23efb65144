"""Calibration by hand and against scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn.calibration import calibration_curve as sk_curve

from kexue_pl.metrics import Calibration, calibration_curve, expected_calibration_error


def test_curve_of_scikit_learn():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(500, generator=g).double()
    y = (torch.rand(500, generator=g) < p**2).long()
    share, mean = sk_curve(y.numpy(), p.numpy(), n_bins=10)
    confidence, frequency, count = calibration_curve(p, y, bins=10)
    assert confidence.tolist() == pytest.approx(mean.tolist())
    assert frequency.tolist() == pytest.approx(share.tolist())
    assert count.sum() == 500


def test_perfect_and_inverted_forecasts():
    y = torch.tensor([0, 1, 1, 0])
    assert expected_calibration_error(y.double(), y) == 0
    assert expected_calibration_error(1 - y.double(), y) == 1


def test_metric_equals_the_function():
    g = torch.Generator().manual_seed(0)
    p, y = torch.rand(60, generator=g), torch.randint(0, 2, (60,), generator=g)
    metric = Calibration(bins=5)
    metric.update(p[:20], y[:20])
    metric.update(p[20:], y[20:])
    got = metric.compute()
    assert got["ece"].item() == pytest.approx(expected_calibration_error(p, y, bins=5), abs=1e-6)
    torch.testing.assert_close(got["count"].double(), calibration_curve(p, y, bins=5)[2])


def test_faults_are_named():
    with pytest.raises(ValueError, match=r"1.5 in row 1 is no probability"):
        expected_calibration_error([0.5, 1.5], [0, 1])
    with pytest.raises(ValueError, match="label 2 in row 0"):
        expected_calibration_error([0.5], [2])
    with pytest.raises(ValueError, match="bins=0"):
        Calibration(bins=0)
