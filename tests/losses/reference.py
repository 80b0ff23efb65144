"""Definitions typed the slow way, in float64, for the tests of this folder."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dense_cosent", "dense_cosent_blocks", "labels_of", "value_and_grad"]


def dense_cosent(scores: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum over y_i > y_j of exp(s_j - s_i)) as a B x B matrix."""
    gaps = scores[None, :] - scores[:, None]
    chosen = gaps[labels[:, None] > labels[None, :]]
    return torch.logsumexp(torch.cat([chosen.new_zeros(1), chosen]), 0)


def dense_cosent_blocks(scores: Tensor, labels: Tensor, rows: int = 64) -> tuple[Tensor, Tensor]:
    """The same definition and its gradient, pair by pair in float64, a block of rows at a time.

    Sums are taken without a shift, so scores must lie within -50..50.
    """
    order = labels.argsort()
    s, (_, sizes) = scores.double()[order], torch.unique(labels, return_counts=True)
    total, pull, end = torch.zeros((), dtype=torch.float64), torch.zeros_like(s), 0
    for size in sizes.tolist():
        start, end = end, end + size
        for first in range(start, end, rows):
            block = slice(first, min(first + rows, end))
            pairs = (s[None, :start] - s[block, None]).exp_()  # columns of smaller label
            total += pairs.sum()
            pull[:start] += pairs.sum(0)
            pull[block] -= pairs.sum(1)
    gradient = torch.empty_like(s)
    gradient[order] = pull / (1 + total)
    return torch.log1p(total), gradient


def value_and_grad(loss: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and its gradient by x."""
    return loss.detach(), torch.autograd.grad(loss, x)[0]


def labels_of(kind: str, rows: int, seed: int = 0) -> Tensor:
    """Labels (rows,) of a kind: binary, grades, real, equal."""
    g = torch.Generator().manual_seed(seed)
    return {
        "binary": torch.randint(0, 2, (rows,), generator=g).double(),
        "grades": torch.randint(0, 6, (rows,), generator=g).double(),
        "real": torch.rand(rows, generator=g).double(),
        "equal": torch.ones(rows).double(),
    }[kind]
