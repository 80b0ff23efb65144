"""Sentence-BERT's classification objective on [u, v, |u - v|]."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kexue_pl.losses.base import Kind, Loss, PairOutputs
from kexue_pl.losses.labels import check_classes, present

__all__ = ["SBERTSoftmax"]


class SBERTSoftmax(Loss):
    """Softmax cross-entropy of a linear head on the two embeddings and their absolute difference.

        L = -mean over k of log softmax(W [u_k, v_k, |u_k - v_k|])[y_k]

    Evaluation ranks by cos(u, v), which training never saw: the mismatch that CoSENT removes.

    Source: Reimers and Gurevych, arXiv 1908.10084; baseline of kexue.fm/archives/8847.

    Args:
        classes: number of label values 0 .. classes - 1; at least 2.

    The head is built by `prepare(hidden_size)`, has no bias and is trained with the encoder.
    """

    kind: Kind = "embeddings"
    data: ClassVar[tuple[str, ...]] = ("classes",)

    def __init__(self, *, classes: int = 2) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"loss.classes={classes}: must be at least 2")
        self.classes = classes
        self.head: nn.Linear | None = None

    def prepare(self, hidden_size: int) -> None:
        """Make the head for embeddings of width `hidden_size`."""
        self.head = nn.Linear(3 * hidden_size, self.classes, bias=False)

    def check_labels(self, labels: Tensor | None) -> None:
        """Labels must be whole numbers 0 .. classes - 1."""
        check_classes(labels, "SBERTSoftmax", self.classes)

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The mean cross-entropy."""
        if self.head is None:
            raise RuntimeError("SBERTSoftmax: call prepare(hidden_size) before the first batch")
        u, v = outputs.embedding("left"), outputs.embedding("right")
        logits = self.head(torch.cat([u, v, (u - v).abs()], dim=-1))
        return cross_entropy(logits, present(labels, "SBERTSoftmax").long())
