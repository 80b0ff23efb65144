"""Two classifiers on the same examples: is one right more often?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["McNemar", "mcnemar"]


@dataclass(frozen=True)
class McNemar:
    """Result of :func:`mcnemar`.

    Attributes:
        wins: examples that only the second has right.
        losses: examples that only the first has right.
        difference: accuracy of the second minus that of the first, -1 ... 1.
        error: standard error of the difference, examples taken as independent.
        cluster_error: standard error with clusters taken as independent; None without clusters.
        p: probability of a split at least as uneven if both were equally good (exact, two-sided,
            examples taken as independent).
    """

    wins: int
    losses: int
    difference: float
    error: float
    cluster_error: float | None
    p: float


def mcnemar(first: Tensor, second: Tensor, clusters: Tensor | None = None) -> McNemar:
    """Paired comparison of two sets of predictions, McNemar (1947).

    Only examples on which the two differ count. The error is ``sqrt(wins + losses) / N``; where
    examples share a text the clustered error, ``sqrt(sum over clusters of (wins - losses)^2) / N``,
    is the one to trust.

    Args:
        first: (N,) bool, right or wrong.
        second: (N,) bool, of the same examples.
        clusters: (N,) int, the group of each example.

    Raises:
        ValueError: shapes that differ, or no examples.

    >>> a = torch.tensor([1, 1, 0, 0, 0]).bool()
    >>> b = torch.tensor([1, 0, 1, 1, 1]).bool()
    >>> result = mcnemar(a, b)
    >>> result.wins, result.losses, result.difference, result.p  # 2 * (1 + 4) / 16
    (3, 1, 0.4, 0.625)
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(
            f"mcnemar: first {tuple(first.shape)} and second {tuple(second.shape)} must be two "
            "vectors of the same examples"
        )
    change = second.long() - first.long()
    wins, losses = int((change > 0).sum()), int((change < 0).sum())
    cluster_error = None
    if clusters is not None:
        _, number = torch.unique(clusters, return_inverse=True)
        sums = torch.zeros(int(number.max()) + 1, dtype=torch.long).index_add_(0, number, change)
        cluster_error = math.sqrt(float(sums.square().sum())) / len(change)
    return McNemar(
        wins=wins,
        losses=losses,
        difference=(wins - losses) / len(change),
        error=math.sqrt(wins + losses) / len(change),
        cluster_error=cluster_error,
        p=_exact(wins, losses),
    )


def _exact(wins: int, losses: int) -> float:
    from scipy.stats import binomtest

    total = wins + losses
    return float(binomtest(wins, total).pvalue) if total else 1.0
