"""Alignment: how near the embeddings of positive pairs are on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["alignment"]


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
