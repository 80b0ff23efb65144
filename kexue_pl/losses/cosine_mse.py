"""Cosine MSE: regress the similarity on the label."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kexue_pl.losses.base import Kind, Loss, PairOutputs
from kexue_pl.losses.labels import check_ordered, present

__all__ = ["CosineMSE"]


class CosineMSE(Loss):
    """Mean squared distance between the cosine and the label brought to 0..1.

        L = mean over k of (cos(u_k, v_k) - y_k / label_max)^2

    For a cross-encoder the logistic function of the logit stands for the cosine.

    Source: the regression objective of Sentence-BERT, arXiv 1908.10084; baseline of
    kexue.fm/archives/8847.

    Args:
        label_max: the label of a perfect match: 1 for 0/1, 5 for STS grades 0..5.

    >>> loss = CosineMSE(label_max=5.0)
    >>> float(loss(PairOutputs(scores=torch.tensor([0.5, 1.0])), torch.tensor([0, 5])))
    0.125
    """

    kind: Kind = "scores"
    data: ClassVar[tuple[str, ...]] = ("binary", "graded")

    def __init__(self, *, label_max: float = 1.0) -> None:
        super().__init__()
        if not label_max > 0:
            raise ValueError(f"loss.label_max={label_max}: must be positive")
        self.label_max = label_max

    def check_labels(self, labels: Tensor | None) -> None:
        """Labels must lie within -label_max..label_max."""
        check_ordered(labels, "CosineMSE")
        labels = present(labels, "CosineMSE")
        if labels.numel() and float(labels.abs().max()) > self.label_max:
            top = float(labels.abs().max())
            raise ValueError(
                f"loss CosineMSE: label {top:g} is beyond loss.label_max={self.label_max:g}, so no "
                f"cosine reaches it; set loss.label_max={top:g}"
            )

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The mean squared error."""
        target = present(labels, "CosineMSE").to(torch.float64) / self.label_max
        values = self.score(outputs)
        return (values - target.to(values.dtype)).square().mean()

    def score(self, outputs: PairOutputs) -> Tensor:
        """(B,) the cosine, or the logistic function of a cross-encoder's logit."""
        values = super().score(outputs)
        return values if outputs.logits is None else torch.sigmoid(values)
