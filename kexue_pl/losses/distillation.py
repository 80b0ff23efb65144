"""Distillation of a cross-encoder's scores into a bi-encoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kexue_pl.losses.base import Kind, Loss, PairOutputs
from kexue_pl.losses.labels import check_ordered, present

__all__ = ["Distillation"]

_TARGETS = ("score", "margin")


class Distillation(Loss):
    """Mean squared distance to a teacher's scores, or to its margins over negatives.

        score:  L = mean over k of (scale sim(u_k, v_k) - t_k)^2
        margin: L = mean over k, j of (scale [sim(u_k, v_k) - sim(u_k, n_kj)] - t_kj)^2

    The labels *are* the teacher's: scores t (B,), or margins t (B, K) (or (B,) for K = 1), that is
    teacher(u, v) - teacher(u, n). Margins leave the student free to have another zero point.

    Source: Hofstätter et al., arXiv 2010.02666 (margin MSE).

    Args:
        target: "score" or "margin"; the latter needs negatives.
        scale: multiplies the student's similarity, to bring it to the range of the teacher's
            scores.
        similarity: "cosine" or "dot".

    >>> outputs = PairOutputs(left=torch.eye(2), right=torch.eye(2))
    >>> float(Distillation(scale=2.0)(outputs, torch.tensor([1.0, 2.0])))  # (1^2 + 0^2) / 2
    0.5
    """

    kind: Kind = "embeddings"
    data: ClassVar[tuple[str, ...]] = ("teacher",)

    def __init__(
        self, *, target: str = "score", scale: float = 1.0, similarity: str = "cosine"
    ) -> None:
        super().__init__()
        if target not in _TARGETS:
            raise ValueError(f"loss.target={target!r}; choose one of {', '.join(_TARGETS)}")
        if similarity not in ("cosine", "dot"):
            raise ValueError(f"loss.similarity={similarity!r}; choose one of cosine, dot")
        if not scale > 0:
            raise ValueError(f"loss.scale={scale}: must be positive")
        self.target, self.scale, self.similarity = target, scale, similarity

    def check_labels(self, labels: Tensor | None) -> None:
        """The teacher's scores must be there and finite."""
        check_ordered(labels, "Distillation")

    def _similarity(self, a: Tensor, b: Tensor) -> Tensor:
        if self.similarity == "dot":
            return (a * b).sum(-1)
        return torch.cosine_similarity(a, b, dim=-1)

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The mean squared error."""
        left = outputs.embedding("left")
        student = self._similarity(left, outputs.embedding("right"))
        if self.target == "margin":
            negatives = outputs.embedding("negatives")
            student = student[:, None] - self._similarity(left[:, None], negatives)
        teacher = present(labels, "Distillation").to(student.dtype)
        if teacher.numel() != student.numel():
            want, got = tuple(student.shape), tuple(teacher.shape)
            raise ValueError(f"loss Distillation: teacher labels of shape {got}, expected {want}")
        return (self.scale * student - teacher.view_as(student)).square().mean()

    def score(self, outputs: PairOutputs) -> Tensor:
        """(B,) the student's similarity."""
        outputs = outputs.full_precision()
        return self._similarity(outputs.embedding("left"), outputs.embedding("right"))
