"""Retrieval quality: recall@k, mean reciprocal rank, normalised discounted cumulative gain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Retrieval", "ndcg_at", "ranked", "recall_at", "reciprocal_rank_at"]


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


class Retrieval(Metric):
    """Mean recall@k, MRR@k and NDCG@k over the queries of all ranks.

    Args:
        ks: cut-offs of recall; MRR and NDCG take the largest.

    >>> metric = Retrieval(ks=(1, 2))
    >>> metric.update(torch.tensor([[0.1, 0.9]]), torch.tensor([[1, 0]]))
    >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
    {'recall@1': 0.0, 'recall@2': 1.0, 'mrr@2': 0.5, 'ndcg@2': 0.631}
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    sums: Tensor
    queries: Tensor

    def __init__(self, ks: Sequence[int] = (1, 5, 10)) -> None:
        super().__init__()
        if not ks or min(ks) < 1:
            raise ValueError(f"Retrieval: ks={list(ks)}; give cut-offs of at least 1")
        self.ks = sorted(set(ks))
        zeros = torch.zeros(len(self.ks) + 2)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("queries", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, scores: Tensor, relevance: Tensor) -> None:
        """Add queries: scores (Q, N) and gains (Q, N)."""
        gains, top = ranked(scores.detach(), relevance), self.ks[-1]
        columns = [recall_at(gains, k) for k in self.ks]
        columns += [reciprocal_rank_at(gains, top), ndcg_at(gains, top)]
        self.sums += torch.stack([column.sum() for column in columns]).to(self.sums)
        self.queries += len(gains)

    def compute(self) -> dict[str, Tensor]:
        """Means over queries, by name."""
        top = self.ks[-1]
        names = [*(f"recall@{k}" for k in self.ks), f"mrr@{top}", f"ndcg@{top}"]
        return dict(zip(names, self.sums / self.queries))
