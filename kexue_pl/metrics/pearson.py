"""Pearson correlation in float64."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

from kexue_pl.metrics.checks import paired

__all__ = ["pearson"]

_LOG = logging.getLogger(__name__)


def pearson(x: Any, y: Any) -> float:
    """Linear correlation of two vectors, in float64.

        r = <x - mean x, y - mean y> / (||x - mean x|| ||y - mean y||)

    Args:
        x, y: (N,) numbers without NaN.

    Returns:
        r within -1..1; NaN, with a warning that names the side, where a side is constant or N < 2.

    >>> round(pearson([1, 2, 3], [2, 4, 7]), 6)  # 5 / sqrt(2 * 38 / 3)
    0.993399
    """
    a, b = paired("pearson", x, y)
    return correlation("pearson", a.double(), b.double())


def correlation(name: str, a: Tensor, b: Tensor) -> float:
    """Pearson correlation of two float64 vectors."""
    for side, values in (("first", a), ("second", b)):
        if len(values) < 2 or bool(values.min() == values.max()):
            _LOG.warning("%s: the %s argument (%d rows) is constant", name, side, len(values))
            return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return max(-1.0, min(1.0, float(a @ b / (a.norm() * b.norm()))))
