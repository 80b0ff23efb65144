"""Distances between the rows of two embedding matrices, by name."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["DISTANCES", "all_distances", "check_distance", "row_distances"]

DISTANCES = ("cosine", "euclidean")
_EPS = 1e-12  # below a squared distance, where the root has no derivative


def check_distance(distance: str) -> str:
    """`distance`, or a ValueError naming the choices."""
    if distance not in DISTANCES:
        raise ValueError(f"loss.distance={distance!r}; choose one of {', '.join(DISTANCES)}")
    return distance


def row_distances(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """(...,) distance of each row of `a` (..., H) to the same row of `b` (..., H), which broadcast.

        cosine: 1 - cos(a, b)      euclidean: ||a - b||

    >>> row_distances(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0]]), "euclidean")
    tensor([5.])
    """
    if distance == "cosine":
        return 1 - torch.cosine_similarity(a, b, dim=-1)
    return (a - b).square().sum(-1).clamp_min(_EPS).sqrt()


def all_distances(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """(N, M) distance of each row of `a` (N, H) to each row of `b` (M, H).

    >>> all_distances(torch.eye(2), torch.eye(2), "cosine")
    tensor([[0., 1.],
            [1., 0.]])
    """
    if distance == "cosine":
        normal = torch.nn.functional.normalize
        return 1 - normal(a, dim=-1) @ normal(b, dim=-1).T
    squares = a.square().sum(-1)[:, None] + b.square().sum(-1) - 2 * a @ b.T
    return squares.clamp_min(_EPS).sqrt()
