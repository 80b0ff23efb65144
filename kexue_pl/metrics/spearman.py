"""Spearman rank correlation with ties, exact for millions of rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kexue_pl.metrics.checks import paired
from kexue_pl.metrics.pearson import correlation

__all__ = ["mean_ranks", "spearman"]


def mean_ranks(x: Tensor) -> Tensor:
    """(N,) float64 ranks 1..N of a vector on the host; equal values share the mean of their ranks.

    >>> mean_ranks(torch.tensor([0.5, 0.1, 0.5])).tolist()
    [2.5, 1.0, 2.5]
    """
    values, order = x.sort()
    new = torch.ones(len(x), dtype=torch.bool)
    torch.ne(values[1:], values[:-1], out=new[1:])
    start = new.nonzero().flatten()
    end = torch.cat([start[1:], start.new_tensor([len(x)])])
    shared = (start + end + 1).double() / 2
    ranks = torch.empty(len(x), dtype=torch.float64)
    ranks[order] = shared.repeat_interleave(end - start)
    return ranks


def spearman(x: Any, y: Any) -> float:
    """Pearson correlation of the mean ranks, in float64.

    Equal to `scipy.stats.spearmanr`. Torchmetrics 1.9 sums ranks of ties in 32-bit integers and
    flips the sign of large tied sets.

    Args:
        x, y: (N,) numbers without NaN.

    Returns:
        Within -1..1; NaN, with a warning that names the side, where a side is constant or N < 2.

    >>> round(spearman([0.1, 0.4, 0.2, 0.9], [0, 1, 1, 2]), 6)
    0.948683
    """
    a, b = paired("spearman", x, y)
    return correlation("spearman", mean_ranks(a), mean_ranks(b))
