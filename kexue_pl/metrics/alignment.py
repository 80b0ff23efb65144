"""Alignment: how near the embeddings of positive pairs are on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Alignment", "alignment"]


def alignment(left: Tensor, right: Tensor, *, power: float = 2.0) -> Tensor:
    """Mean distance of positive pairs; 0 is best.

        mean over positive pairs of ||u / ||u|| - v / ||v|| ||^power

    Source: Wang and Isola, arXiv 2005.10242.

    Args:
        left: u (B, H). right: v (B, H), positive pairs only.

    >>> alignment(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item()
    2.0
    """
    squares = 2 - 2 * torch.cosine_similarity(left, right, dim=-1)
    return squares.clamp_min(0).pow(power / 2).mean()


class Alignment(Metric):
    """`alignment` over the positive pairs of all ranks.

    >>> metric = Alignment()
    >>> metric.update(torch.eye(2), torch.eye(2))
    >>> metric.compute().item()
    0.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    total: Tensor
    pairs: Tensor

    def __init__(self, *, power: float = 2.0) -> None:
        super().__init__()
        self.power = power
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("pairs", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, left: Tensor, right: Tensor) -> None:
        """Add positive pairs (B, H), (B, H)."""
        if len(left):
            value = alignment(left.detach().float(), right.detach().float(), power=self.power)
            self.total += value * len(left)
            self.pairs += len(left)

    def compute(self) -> Tensor:
        """The mean; NaN where there was no pair."""
        return self.total / self.pairs
