"""Triplet loss with given negatives, or with the hardest of the batch."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kexue_pl.losses.base import Kind, Loss, PairOutputs
from kexue_pl.losses.distance import all_distances, check_distance, row_distances
from kexue_pl.losses.gather import joint, times_world_size
from kexue_pl.losses.labels import binary, check_binary

__all__ = ["Triplet"]


class Triplet(Loss):
    """The positive must be nearer than a negative by a margin.

        L = mean over anchors a of max(0, d(a, p) - d(a, n) + margin)

    Given negatives (B, K, H), all K of each anchor count. Without, n is the nearest right text of
    any other pair of the joint batch; rows labelled negative are no anchors but offer their right
    text.

    Source: Schroff, Kalenichenko and Philbin, arXiv 1503.03832; hardest negatives as in
    arXiv 1703.07737.

    Args:
        margin: in the unit of the distance.
        distance: "cosine" (1 - cos) or "euclidean".
        positive_from: first grade that counts as positive; None takes labels 0/1 or no labels.
        gather: negatives from all ranks; False takes those of each rank alone.

    >>> a, p = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    >>> outputs = PairOutputs(left=a, right=p, negatives=torch.tensor([[[0.0, 1.0]]]))
    >>> float(Triplet(margin=1.5)(outputs))  # 0 - 1 + 1.5
    0.5
    """

    kind: Kind = "embeddings"
    data: ClassVar[tuple[str, ...]] = ("triplets", "positives", "binary", "graded")

    def __init__(
        self,
        *,
        margin: float = 0.2,
        distance: str = "cosine",
        positive_from: float | None = None,
        gather: bool = True,
    ) -> None:
        super().__init__()
        if not margin > 0:
            raise ValueError(f"loss.margin={margin}: must be positive")
        self.margin, self.distance = margin, check_distance(distance)
        self.positive_from, self.gather = positive_from, gather

    def check_labels(self, labels: Tensor | None) -> None:
        """Labels may be missing; else 0/1, or `positive_from` must be given."""
        if labels is not None:
            check_binary(labels, "Triplet", self.positive_from)

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The mean over the anchors of the joint batch."""
        left, right = outputs.embedding("left"), outputs.embedding("right")
        anchors = torch.ones(len(left), dtype=torch.bool, device=left.device)
        if labels is not None:
            anchors = binary(labels, self.positive_from)
        if outputs.negatives is not None:
            return self._given(left, right, outputs.negatives, anchors)
        gather = self.gather and self.training
        if gather:
            left, right, anchors = joint(left), joint(right), joint(anchors)
        if len(right) < 2:
            raise ValueError(
                "loss Triplet: a batch of one pair has no other text to serve as negative; "
                "set data.batch_size to 2 or more, or give negatives"
            )
        distances = all_distances(left, right, self.distance)
        own = distances.diagonal()
        other = distances.masked_fill(torch.eye(len(left), device=left.device).bool(), torch.inf)
        loss = _anchor_mean((own - other.min(dim=1).values + self.margin).clamp_min(0), anchors)
        return times_world_size(loss) if gather else loss

    def _given(self, left: Tensor, right: Tensor, negatives: Tensor, anchors: Tensor) -> Tensor:
        """The mean over anchors and their K given negatives."""
        own = row_distances(left, right, self.distance)[:, None]
        other = row_distances(left[:, None], negatives, self.distance)
        return _anchor_mean((own - other + self.margin).clamp_min(0).mean(dim=1), anchors)

    def score(self, outputs: PairOutputs) -> Tensor:
        """(B,) the cosine, or minus the Euclidean distance."""
        if self.distance == "cosine":
            return super().score(outputs)
        outputs = outputs.full_precision()
        left, right = outputs.embedding("left"), outputs.embedding("right")
        return -row_distances(left, right, self.distance)


def _anchor_mean(values: Tensor, anchors: Tensor) -> Tensor:
    """Mean of `values` (B,) over the anchors; 0, still differentiable, where there is none."""
    return values.where(anchors, torch.zeros_like(values)).sum() / anchors.sum().clamp_min(1)
