"""Contrastive loss: positives together, negatives apart up to a margin."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kexue_pl.losses.base import Kind, Loss, PairOutputs
from kexue_pl.losses.distance import check_distance, row_distances
from kexue_pl.losses.labels import binary, check_binary, present

__all__ = ["Contrastive"]


class Contrastive(Loss):
    """Squared distance of positives and squared shortfall of negatives from a margin.

        L = mean over k of 1/2 [y_k d_k^2 + (1 - y_k) max(0, margin - d_k)^2]

    Source: Hadsell, Chopra and LeCun, CVPR 2006.

    Args:
        margin: distance from which on a negative costs nothing; within 0..2 for the cosine
            distance.
        distance: "cosine" (1 - cos) or "euclidean".
        positive_from: first grade that counts as positive; None takes labels 0/1.

    >>> import torch
    >>> outputs = PairOutputs(left=torch.eye(2), right=torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> float(Contrastive(margin=0.5)(outputs, torch.tensor([1, 0])))  # (0 + 0.5^2) / 2 / 2
    0.0625
    """

    kind: Kind = "embeddings"
    data: ClassVar[tuple[str, ...]] = ("binary", "graded")

    def __init__(
        self, *, margin: float = 0.5, distance: str = "cosine", positive_from: float | None = None
    ) -> None:
        super().__init__()
        if not margin > 0:
            raise ValueError(f"loss.margin={margin}: must be positive")
        self.margin, self.distance = margin, check_distance(distance)
        self.positive_from = positive_from

    def check_labels(self, labels: Tensor | None) -> None:
        """Labels must be 0/1, or `positive_from` must be given."""
        check_binary(labels, type(self).__name__, self.positive_from)

    def distances(self, outputs: PairOutputs) -> Tensor:
        """(B,) the distance of each pair."""
        left, right = outputs.embedding("left"), outputs.embedding("right")
        return row_distances(left, right, self.distance)

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """Half the mean of squares."""
        d = self.distances(outputs)
        positive = binary(present(labels, "Contrastive"), self.positive_from)
        short = (self.margin - d).clamp_min(0)
        return 0.5 * (d.square().where(positive, short.square())).mean()

    def score(self, outputs: PairOutputs) -> Tensor:
        """(B,) minus the distance, shifted to the cosine for the cosine distance."""
        if self.distance == "cosine":
            return super().score(outputs)
        return -self.distances(outputs.full_precision())
