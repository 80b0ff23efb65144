"""Softmax cross-entropy over the class logits of a cross-encoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kexue_pl.losses.base import Kind, Loss, PairOutputs
from kexue_pl.losses.labels import check_classes, present

__all__ = ["Softmax"]


class Softmax(Loss):
    """Cross-entropy over C classes of a cross-encoder; the interaction baseline of the article.

        L = -mean over k of log softmax(z_k)[y_k]

    Evaluation ranks by the expected class sum_c c p_c, which for two classes is the probability of
    class 1.

    Source: `interact.py` of kexue.fm/archives/8860.

    Args:
        classes: C, the number of label values 0 .. C - 1; at least 2.

    >>> logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    >>> round(float(Softmax()(PairOutputs(logits=logits), torch.tensor([0, 1]))), 6)  # log 2
    0.693147
    >>> Softmax().score(PairOutputs(logits=logits)).tolist()
    [0.5, 0.5]
    """

    kind: Kind = "logits"
    data: ClassVar[tuple[str, ...]] = ("classes",)

    def __init__(self, *, classes: int = 2) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"loss.classes={classes}: must be at least 2")
        self.classes = self.outputs = classes

    def check_labels(self, labels: Tensor | None) -> None:
        """Labels must be whole numbers 0 .. classes - 1."""
        check_classes(labels, "Softmax", self.classes)

    def _logits(self, outputs: PairOutputs) -> Tensor:
        logits = outputs.logits
        if logits is None or logits.ndim != 2 or logits.shape[1] != self.classes:
            shape = None if logits is None else tuple(logits.shape)
            raise ValueError(f"loss Softmax reads logits (B, {self.classes}), got shape {shape}")
        return logits

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The mean cross-entropy."""
        return cross_entropy(self._logits(outputs), present(labels, "Softmax").long())

    def score(self, outputs: PairOutputs) -> Tensor:
        """(B,) the expected class, within 0 .. classes - 1."""
        probabilities = self._logits(outputs.full_precision()).softmax(-1)
        grades = torch.arange(self.classes, dtype=probabilities.dtype, device=probabilities.device)
        return probabilities @ grades
