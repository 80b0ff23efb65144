"""`torchmetrics.Metric`s over the functional cores: states that ranks share.

Kept apart, since torchmetrics imports much; `kexue_pl.metrics` loads this module at first use of one.
Vectors are kept in float32, also labels: a rank that saw nothing sends an empty float32 vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kexue_pl.metrics.alignment import alignment
from kexue_pl.metrics.best_threshold import best_threshold
from kexue_pl.metrics.calibration import calibration_error, histogram
from kexue_pl.metrics.pearson import pearson
from kexue_pl.metrics.retrieval import ndcg_at, ranked, recall_at, reciprocal_rank_at
from kexue_pl.metrics.spearman import spearman
from kexue_pl.metrics.uniformity import uniformity

__all__ = [
    "Alignment",
    "BestThreshold",
    "Calibration",
    "Pearson",
    "Retrieval",
    "Spearman",
    "Uniformity",
]


class Pearson(Metric):
    """`pearson` of all pairs seen by all ranks.

    >>> metric = Pearson()
    >>> metric.update(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    >>> round(metric.compute(), 6)
    1.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    x: list[Tensor]
    y: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("x", [], dist_reduce_fx="cat")
        self.add_state("y", [], dist_reduce_fx="cat")

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add two vectors (B,); kept in float32."""
        self.x.append(x.detach().float())
        self.y.append(y.detach().float())

    def compute(self) -> float:
        """The correlation of all rows."""
        return pearson(dim_zero_cat(self.x), dim_zero_cat(self.y))


class Spearman(Pearson):
    """`spearman` of all pairs seen by all ranks.

    >>> metric = Spearman()
    >>> metric.update(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 4.0]))
    >>> round(metric.compute(), 6)
    1.0
    """

    def compute(self) -> float:
        """The rank correlation of all rows."""
        return spearman(dim_zero_cat(self.x), dim_zero_cat(self.y))


class BestThreshold(Metric):
    """`best_threshold` of all pairs seen by all ranks; scores are compared in float32.

    Args:
        positive_from: first grade that counts as positive; None takes labels 0/1.

    >>> metric = BestThreshold()
    >>> metric.update(torch.tensor([0.9, 0.2]), torch.tensor([1, 0]))
    >>> metric.compute()["accuracy"]
    1.0
    """

    full_state_update = False
    is_differentiable = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, *, positive_from: float | None = None) -> None:
        super().__init__()
        self.positive_from = positive_from
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add scores (B,) and labels (B,)."""
        self.scores.append(scores.detach().float())
        self.labels.append(labels.detach().float())

    def compute(self) -> dict[str, float]:
        """The figures of `best_threshold`."""
        scores, labels = dim_zero_cat(self.scores), dim_zero_cat(self.labels)
        return best_threshold(scores, labels, positive_from=self.positive_from)


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


class Calibration(Metric):
    """Expected calibration error and its curve over the pairs of all ranks.

    Args:
        bins: number of equal-width bins.

    >>> metric = Calibration(bins=2)
    >>> metric.update(torch.tensor([0.25, 0.25, 0.75]), torch.tensor([0, 1, 1]))
    >>> metric.compute()["ece"].item()
    0.25
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    sums: Tensor

    def __init__(self, *, bins: int = 15) -> None:
        super().__init__()
        if bins < 1:
            raise ValueError(f"Calibration: bins={bins}; must be at least 1")
        self.bins = bins
        self.add_state("sums", torch.zeros(3, bins), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add probabilities (B,) within 0..1 and labels (B,) 0/1."""
        self.sums += histogram(probabilities, labels, self.bins).to(self.sums)

    def compute(self) -> dict[str, Tensor]:
        """`ece` and, for each filled bin, `confidence`, `frequency` and `count`."""
        count, p, positive = self.sums[:, self.sums[0] > 0]
        curve = {"confidence": p / count, "frequency": positive / count, "count": count}
        return {"ece": calibration_error(self.sums), **curve}
