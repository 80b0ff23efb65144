"""Scores of evaluated pairs: gathered exactly over ranks, and every number made from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kexue_pl.distributed import all_gather_variable
from kexue_pl.metrics import at_threshold, best_threshold, pearson, spearman

__all__ = ["PairScores", "ScoreStore", "correlations", "decisions", "positives"]


@dataclass(frozen=True)
class PairScores:
    """Scores of a whole set, in the order of its rows.

    Args:
        rows: (N,) row numbers, each once.
        scores: (N,) float32.
        labels: (N,) float32.
    """

    rows: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def arrays(
        self, positive_from: float | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Rows, scores, labels, and which are positive (None for grades), for tables and plots."""
        truth = positives(self.labels, positive_from)
        flags = None if truth is None else truth.numpy()
        return self.rows.numpy(), self.scores.numpy(), self.labels.numpy(), flags


class ScoreStore:
    """Collects scores batch by batch on each rank and joins them at the end."""

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, rows: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Note the scores of a batch."""
        kept = (rows, scores.detach().float(), labels.float())
        self.parts.append(tuple(part.cpu() for part in kept))  # type: ignore[arg-type]

    def join(self, device: torch.device) -> PairScores:
        """All scores of all ranks in the order of their rows; the store is empty afterwards.

        Every rank must call it. A row that was given twice counts once.

        Args:
            device: where the group communicates.
        """
        empty = (torch.empty(0, dtype=torch.long), torch.empty(0), torch.empty(0))
        local = [torch.cat(column).to(device) for column in zip(*(self.parts or [empty]))]
        self.parts = []
        rows, scores, labels = (torch.cat(all_gather_variable(one)).cpu() for one in local)
        order = np.unique(rows.numpy(), return_index=True)[1]
        return PairScores(rows[order], scores[order], labels[order])


def positives(labels: Tensor, positive_from: float | None) -> Tensor | None:
    """(N,) bool, which pairs count as positive; None where labels are grades without a boundary.

    >>> positives(torch.tensor([0.0, 1.0]), None)
    tensor([False,  True])
    >>> positives(torch.tensor([0.0, 3.0, 5.0]), 4)
    tensor([False, False,  True])
    >>> positives(torch.tensor([0.0, 3.0, 5.0]), None) is None
    True
    """
    if positive_from is not None:
        return labels >= positive_from
    if bool(((labels == 0) | (labels == 1)).all()):
        return labels == 1
    return None


def correlations(found: PairScores) -> dict[str, float]:
    """Spearman and Pearson correlation of scores and labels; nan where either is constant."""
    scores, labels = found.scores.double(), found.labels.double()
    return {"spearman": spearman(scores, labels), "pearson": pearson(scores, labels)}


def decisions(scores: Tensor, truth: Tensor, threshold: float) -> dict[str, float]:
    """What deciding ``score > threshold`` is worth, and the ranking whatever the threshold.

    Args:
        scores: (N,) float32.
        truth: (N,) bool.
        threshold: chosen on other rows.
    """
    best = best_threshold(scores, truth)
    return at_threshold(scores, truth, threshold) | {
        "ap": best["average_precision"],
        "roc_auc": best["roc_auc"],
        "threshold": threshold,
    }
