"""Contrastive loss over the hard pairs of a batch only."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.losses.base import PairOutputs
from kexue_pl.losses.contrastive import Contrastive
from kexue_pl.losses.gather import joint, times_world_size
from kexue_pl.losses.labels import binary, present

__all__ = ["OnlineContrastive", "online_contrastive_loss"]


def online_contrastive_loss(distances: Tensor, positive: Tensor, margin: float) -> Tensor:
    """Sum over the positives farther than the nearest negative and the negatives nearer than the
    farthest positive.

        L = sum over positives with d > D- of d^2
          + sum over negatives with d < D+ of max(0, margin - d)^2
        D- = least distance of a negative, or the mean distance where there is none
        D+ = greatest distance of a positive, or the mean distance where there is none

    Source: `OnlineContrastiveLoss` of sentence-transformers.

    Args:
        distances: d (B,). positive: (B,) bool. margin: in the unit of the distances.

    >>> d, positive = torch.tensor([0.1, 0.4, 0.3, 0.9]), torch.tensor([True, True, False, False])
    >>> round(float(online_contrastive_loss(d, positive, 0.5)), 6)  # 0.4^2 + (0.5 - 0.3)^2
    0.2
    """
    if distances.numel() == 0:
        return distances.sum()
    with torch.no_grad():
        mean = distances.mean()
        far = distances.masked_fill(~positive, -torch.inf).max()
        near = distances.masked_fill(positive, torch.inf).min()
        far, near = far.where(positive.any(), mean), near.where(~positive.all(), mean)
        hard = (positive & (distances > near)) | (~positive & (distances < far))
    cost = distances.where(positive, (margin - distances).clamp_min(0)).square()
    return cost.where(hard, torch.zeros_like(cost)).sum()


class OnlineContrastive(Contrastive):
    """`online_contrastive_loss` of the joint batch over all ranks; a sum, not a mean.

    Which pairs are hard depends on the whole batch, so distances and labels are gathered (8 bytes a
    pair).

    Args:
        margin: distance from which on a negative costs nothing.
        distance: "cosine" (1 - cos) or "euclidean".
        positive_from: first grade that counts as positive; None takes labels 0/1.
        gather: joint batch over all ranks; False takes each rank's batch alone.
    """

    def __init__(
        self,
        *,
        margin: float = 0.5,
        distance: str = "cosine",
        positive_from: float | None = None,
        gather: bool = True,
    ) -> None:
        super().__init__(margin=margin, distance=distance, positive_from=positive_from)
        self.gather = gather

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The sum over hard pairs."""
        distances = self.distances(outputs)
        positive = binary(present(labels, "OnlineContrastive"), self.positive_from)
        if not (self.gather and self.training):
            return online_contrastive_loss(distances, positive, self.margin)
        loss = online_contrastive_loss(joint(distances), joint(positive), self.margin)
        return times_world_size(loss)
