"""Calibration: whether pairs called positive with probability p are so in a share p of cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kexue_pl.metrics.checks import binary_labels, paired

__all__ = ["calibration_curve", "expected_calibration_error"]


def histogram(probabilities: Any, labels: Any, bins: int) -> Tensor:
    """(3, bins) float64: number of rows, sum of probabilities and positives, by equal-width bin.

    >>> histogram([0.25, 0.75], [0, 1], 2).tolist()
    [[1.0, 1.0], [0.25, 0.75], [0.0, 1.0]]
    """
    p, y = paired("calibration", probabilities, labels)
    p = p.double()
    if len(p) and not bool(((p >= 0) & (p <= 1)).all()):
        row = int(((p < 0) | (p > 1)).nonzero()[0, 0])
        value = float(p[row])
        raise ValueError(f"calibration: {value:g} in row {row} is no probability within 0..1")
    positive = binary_labels("calibration", y).double()
    place = (p * bins).long().clamp_max(bins - 1)
    sums = torch.zeros(3, bins, dtype=torch.float64)
    for row, values in enumerate((torch.ones_like(p), p, positive)):
        sums[row].index_add_(0, place, values)
    return sums


def calibration_error(sums: Tensor) -> Tensor:
    """The expected calibration error from the sums of `histogram`."""
    return (sums[1] - sums[2]).abs().sum() / sums[0].sum()


def calibration_curve(probabilities: Any, labels: Any, *, bins: int = 15) -> Tensor:
    """(3, filled bins): mean probability, share of positives, number of rows; empty bins left out.

    Args:
        probabilities: (N,) within 0..1. labels: (N,) 0/1. bins: number of equal-width bins.

    >>> calibration_curve([0.25, 0.25, 0.75], [0, 1, 1], bins=2).tolist()
    [[0.25, 0.75], [0.5, 1.0], [2.0, 1.0]]
    """
    sums = histogram(probabilities, labels, bins)
    count, p, positive = sums[:, sums[0] > 0]
    return torch.stack([p / count, positive / count, count])


def expected_calibration_error(probabilities: Any, labels: Any, *, bins: int = 15) -> float:
    """Mean gap between mean probability and share of positives over bins, weighted by rows.

        ECE = sum over bins b of (n_b / N) |share of positives in b - mean probability in b|

    Source: Guo et al., arXiv 1706.04599.

    Args:
        probabilities: (N,) within 0..1, N > 0. labels: (N,) 0/1. bins: number of equal-width bins.

    >>> expected_calibration_error([0.25, 0.25, 0.75], [0, 1, 1], bins=2)  # (0.5 + 0.25) / 3
    0.25
    """
    return float(calibration_error(histogram(probabilities, labels, bins)))
