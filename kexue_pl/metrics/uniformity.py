"""Uniformity: how evenly embeddings fill the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

__all__ = ["Uniformity", "uniformity"]

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


class Uniformity(Metric):
    """`uniformity` of the embeddings of all ranks.

    Args:
        t: inverse width of the potential.
        max_rows: rows that each rank keeps, the first ones; the cost is quadratic.

    >>> metric = Uniformity()
    >>> metric.update(torch.eye(2))
    >>> round(metric.compute().item(), 6)
    -4.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    values: list[Tensor]
    width: Tensor

    def __init__(self, *, t: float = 2.0, max_rows: int = 4096) -> None:
        super().__init__()
        if max_rows < 2:
            raise ValueError(f"Uniformity: max_rows={max_rows}; must be at least 2")
        self.t, self.max_rows = t, max_rows
        # Flat, since a rank that saw nothing sends an empty vector.
        self.add_state("values", [], dist_reduce_fx="cat")
        self.add_state("width", torch.zeros((), dtype=torch.long), dist_reduce_fx="max")

    def update(self, embeddings: Tensor) -> None:
        """Add rows (B, H) up to the limit."""
        width = embeddings.shape[1]
        room = self.max_rows - sum(len(part) for part in self.values) // width
        self.values.append(embeddings.detach()[: max(0, room)].float().flatten())
        self.width.fill_(width)

    def compute(self) -> Tensor:
        """The uniformity of the rows kept."""
        rows = dim_zero_cat(self.values).view(-1, max(1, int(self.width)))
        return uniformity(rows, t=self.t)
