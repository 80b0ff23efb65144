"""Uniformity: how evenly embeddings fill the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["uniformity"]

_BLOCK = 1024  # rows compared at a time


def uniformity(embeddings: Tensor, *, t: float = 2.0) -> Tensor:
    """Log of the mean Gaussian potential over all pairs of different rows; lower is more even.

        log mean over i < j of exp(-t ||x_i - x_j||^2),   x on the unit sphere

    Source: Wang and Isola, arXiv 2005.10242. Cost O(N^2 H) time, O(N) memory.

    Args:
        embeddings: (N, H), N >= 2; t: inverse width of the potential.

    >>> round(uniformity(torch.eye(2)).item(), 6)  # squared distance 2, so -2 * 2
    -4.0
    """
    if len(embeddings) < 2:
        raise ValueError(f"uniformity: needs two rows or more, got {len(embeddings)}")
    x = normalize(embeddings, dim=-1)
    n, blocks = len(x), []
    for start in range(0, n, _BLOCK):
        rows = x[start : start + _BLOCK]
        potential = t * (2 * rows @ x[start:].T - 2)
        above = torch.ones_like(potential, dtype=torch.bool).triu(diagonal=1)
        blocks.append(torch.logsumexp(potential.masked_fill(~above, -torch.inf).flatten(), 0))
    pairs = n * (n - 1) / 2
    return torch.logsumexp(torch.stack(blocks), 0) - torch.tensor(pairs, dtype=x.dtype).log()
