"""InfoNCE with in-batch negatives, also known as multiple negatives ranking."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from kexue_pl.losses.base import Kind, Loss, PairOutputs
from kexue_pl.losses.gather import joint, times_world_size
from kexue_pl.losses.labels import binary, check_binary

__all__ = ["InfoNCE", "info_nce_loss"]


def info_nce_loss(
    left: Tensor,
    right: Tensor,
    *,
    scale: float = 20.0,
    negatives: Tensor | None = None,
    anchors: Tensor | None = None,
    symmetric: bool = False,
) -> Tensor:
    """Each left text must find its right text among the right texts of the batch.

        L = -mean over anchors i of log [exp(s_ii) / sum over candidates j of exp(s_ij)]
        s_ij = scale cos(u_i, v_j)      candidates: all right texts, then all hard negatives

    Symmetric: the mean of this and of the same from right to left (without hard negatives).

    Source: van den Oord, Li and Vinyals, arXiv 1807.03748; Henderson et al., arXiv 1705.00652.

    Args:
        left: u (B, H). right: v (B, H). scale: 1 / temperature.
        negatives: (B, K, H), each a candidate for every anchor. anchors: (B,) bool, rows that are
            positive pairs; all where None.
        symmetric: both directions.

    Raises:
        ValueError: a single candidate, which leaves nothing to tell apart.

    >>> round(float(info_nce_loss(torch.eye(2), torch.eye(2), scale=1.0)), 6)  # log(1 + e^-1)
    0.313262
    """
    u, v = normalize(left, dim=-1), normalize(right, dim=-1)
    candidates = v
    if negatives is not None:
        candidates = torch.cat([v, normalize(negatives, dim=-1).flatten(0, 1)])
    if len(candidates) == 1:
        raise ValueError(
            "loss InfoNCE: a batch of one pair has no in-batch negatives; "
            "set data.batch_size to 2 or more, or give hard negatives"
        )
    logits = scale * u @ candidates.T
    targets = torch.arange(len(u), device=u.device)
    if anchors is not None:
        targets = targets.masked_fill(~anchors, -100)
    loss = _mean_cross_entropy(logits, targets)
    if symmetric:
        loss = (loss + _mean_cross_entropy(logits[:, : len(v)].T, targets)) / 2
    return loss


def _mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over targets >= 0; 0, still differentiable, where there is none."""
    total = cross_entropy(logits, targets, reduction="sum")
    return total / (targets >= 0).sum().clamp_min(1)


class InfoNCE(Loss):
    """`info_nce_loss` with the negatives of all ranks.

    Embeddings are gathered (H floats a text) and every rank computes the loss of the joint batch,
    so the gradient is exactly that of one process. Rows labelled negative are no anchors; their
    right texts are candidates.

    Source: arXiv 1807.03748.

    Args:
        scale: 1 / temperature, multiplies cosines; 20 is customary, 5..10 from scratch.
        symmetric: also find the left text of each right text.
        positive_from: first grade that counts as positive; None takes labels 0/1 or no labels.
        gather: negatives from all ranks; False takes each rank's batch alone.
    """

    kind: Kind = "embeddings"
    data: ClassVar[tuple[str, ...]] = ("positives", "triplets", "binary", "graded")

    def __init__(
        self,
        scale: float = 20.0,
        *,
        symmetric: bool = False,
        positive_from: float | None = None,
        gather: bool = True,
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"loss.scale={scale}: must be positive; 20 is customary")
        self.scale, self.symmetric = scale, symmetric
        self.positive_from, self.gather = positive_from, gather

    def check_labels(self, labels: Tensor | None) -> None:
        """Labels may be missing; else 0/1, or `positive_from` must be given."""
        if labels is not None:
            check_binary(labels, type(self).__name__, self.positive_from)

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The loss of the joint batch."""
        left, right = outputs.embedding("left"), outputs.embedding("right")
        negatives = outputs.negatives
        anchors = None if labels is None else binary(labels, self.positive_from)
        gather = self.gather and self.training
        if gather:
            left, right = joint(left), joint(right)
            negatives = None if negatives is None else joint(negatives)
            anchors = None if anchors is None else joint(anchors)
        loss = info_nce_loss(
            left,
            right,
            scale=self.scale,
            negatives=negatives,
            anchors=anchors,
            symmetric=self.symmetric,
        )
        return times_world_size(loss) if gather else loss
