"""Retrieval quality: recall@k, mean reciprocal rank, normalised discounted cumulative gain."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ndcg_at", "ranked", "recall_at", "reciprocal_rank_at"]


def ranked(scores: Tensor, relevance: Tensor) -> Tensor:
    """(Q, N) relevance of the candidates of each query, best score first.

    Ties go against the model: among equal scores the least relevant comes first, so that constant
    scores earn nothing.

    Args:
        scores: (Q, N) without NaN. relevance: (Q, N) gains >= 0; > 0 means relevant.

    Raises:
        ValueError: shapes differ, a score is NaN, or a query has nothing relevant.

    >>> ranked(torch.tensor([[0.1, 0.9, 0.9]]), torch.tensor([[0, 1, 0]])).tolist()
    [[0.0, 1.0, 0.0]]
    """
    if scores.ndim != 2 or scores.shape != relevance.shape:
        shapes = f"{tuple(scores.shape)} and {tuple(relevance.shape)}"
        raise ValueError(f"retrieval: scores and relevance must be (Q, N), got {shapes}")
    if bool(scores.isnan().any()):
        raise ValueError(f"retrieval: NaN score for query {int(scores.isnan().nonzero()[0, 0])}")
    scores, gains = scores.cpu(), relevance.cpu().to(torch.float32)
    empty = (gains <= 0).all(dim=1)
    if bool(empty.any()):
        query = int(empty.nonzero()[0, 0])
        raise ValueError(f"retrieval: query {query} has no relevant candidate; leave it out")
    gains, order = gains.sort(dim=1, stable=True)
    best = scores.gather(1, order).sort(dim=1, descending=True, stable=True).indices
    return gains.gather(1, best)


def recall_at(gains: Tensor, k: int) -> Tensor:
    """(Q,) share of the relevant candidates that stand among the first k of `ranked`.

    >>> recall_at(torch.tensor([[1.0, 0.0, 1.0]]), 2).tolist()
    [0.5]
    """
    relevant = (gains > 0).double()
    return relevant[:, :k].sum(1) / relevant.sum(1)


def reciprocal_rank_at(gains: Tensor, k: int) -> Tensor:
    """(Q,) 1 / rank of the first relevant candidate, 0 where it is beyond k; input from `ranked`.

    >>> reciprocal_rank_at(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 2).tolist()
    [0.5, 0.0]
    """
    relevant = (gains[:, :k] > 0).double()
    ranks = torch.arange(1, relevant.shape[1] + 1)
    return (relevant / ranks).max(dim=1).values


def ndcg_at(gains: Tensor, k: int) -> Tensor:
    """(Q,) discounted cumulative gain of the first k over that of the best order.

        DCG@k = sum over ranks r <= k of gain_r / log2(r + 1)

    >>> round(ndcg_at(torch.tensor([[0.0, 1.0]]), 2).item(), 6)  # log 2 / log 3
    0.63093
    """
    gains = gains.double()
    ideal = gains.sort(dim=1, descending=True).values
    ranks = torch.arange(1, gains.shape[1] + 1, dtype=torch.float64)
    discount = 1 / torch.log2(ranks + 1)
    return (gains * discount)[:, :k].sum(1) / (ideal * discount)[:, :k].sum(1)
