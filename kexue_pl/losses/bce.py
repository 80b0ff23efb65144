"""Binary cross-entropy over the single logit of a cross-encoder."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from kexue_pl.losses.base import Kind, Loss, PairOutputs
from kexue_pl.losses.labels import binary, check_binary, check_ordered, present

__all__ = ["BCE"]


class BCE(Loss):
    """Binary cross-entropy between the logistic function of the logit and a label within 0..1.

        L = -mean over k of [y_k log sigmoid(s_k) + (1 - y_k) log(1 - sigmoid(s_k))]

    Evaluation ranks by the logit itself: the logistic function would round large ones together.

    Args:
        positive_from: first grade that counts as positive; None takes labels as probabilities.

    >>> import torch
    >>> logits, labels = torch.zeros(2, 1), torch.tensor([0, 1])
    >>> round(float(BCE()(PairOutputs(logits=logits), labels)), 6)  # log 2
    0.693147
    """

    kind: Kind = "logits"
    data: ClassVar[tuple[str, ...]] = ("binary", "graded")

    def __init__(self, *, positive_from: float | None = None) -> None:
        super().__init__()
        self.positive_from = positive_from

    def check_labels(self, labels: Tensor | None) -> None:
        """Labels must be probabilities, or `positive_from` must be given."""
        check_ordered(labels, "BCE")
        if self.positive_from is None:
            labels = present(labels, "BCE")
            outside = labels[(labels < 0) | (labels > 1)]
            check_binary(outside, "BCE", None)

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The mean cross-entropy."""
        target, logits = present(labels, "BCE"), outputs.logit()
        if self.positive_from is not None:
            target = binary(target, self.positive_from)
        return binary_cross_entropy_with_logits(logits, target.to(logits.dtype))
