"""Matryoshka: one embedding whose leading dimensions are embeddings too."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from kexue_pl.losses.base import Kind, Loss, PairOutputs, check_interaction

__all__ = ["Matryoshka"]


class Matryoshka(Loss):
    """Weighted sum of a loss over the first d dimensions of the embeddings, for several d.

        L = sum over d of weight_d loss(left[:, :d], right[:, :d], negatives[..., :d])

    Source: Kusupati et al., arXiv 2205.13147.

    Args:
        loss: any loss for a bi-encoder; each d gets its own copy, with its own parameters if any.
        dimensions: the widths d; None takes the full width, a half and a quarter of it.
        weights: one for each width; None takes 1 for all.

    Raises:
        ValueError: at `prepare`, where a width is beyond the embeddings; here, where the loss reads
            logits or the numbers of widths and weights differ.

    >>> from kexue_pl.losses import CosineMSE
    >>> loss = Matryoshka(CosineMSE(), dimensions=[2, 1])
    >>> outputs = PairOutputs(left=torch.tensor([[1.0, 0.0]]), right=torch.tensor([[1.0, 1.0]]))
    >>> round(float(loss(outputs, torch.tensor([1]))), 6)  # (1 - 0.5^0.5)^2 + 0
    0.085786
    """

    kind: Kind = "embeddings"
    data: ClassVar[tuple[str, ...]] = ("as the inner loss",)

    def __init__(
        self,
        loss: Loss,
        *,
        dimensions: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_interaction(loss, "bi")
        if weights is not None and (dimensions is None or len(weights) != len(dimensions)):
            n = None if dimensions is None else len(dimensions)
            raise ValueError(
                f"loss.weights has {len(weights)} numbers for loss.dimensions={dimensions} ({n}); "
                "give one weight for each dimension"
            )
        self.loss, self.twins = loss, loss.twins
        self.dimensions = None if dimensions is None else list(dimensions)
        self.weights = None if weights is None else list(weights)
        self.parts: list[Loss] = []
        self._copies = nn.ModuleList()
        if self.dimensions is not None:
            self._build(self.dimensions)

    def _build(self, dimensions: list[int]) -> None:
        self.dimensions = dimensions
        self.parts = [copy.deepcopy(self.loss) for _ in dimensions]
        self._copies = nn.ModuleList(self.parts)

    def prepare(self, hidden_size: int) -> None:
        """Check the widths against the embeddings and prepare the inner losses."""
        if self.dimensions is None:
            self._build([hidden_size, hidden_size // 2, hidden_size // 4])
        assert self.dimensions is not None
        bad = [d for d in self.dimensions if not 1 <= d <= hidden_size]
        if bad:
            raise ValueError(
                f"loss.dimensions={self.dimensions}: {bad[0]} is not within 1..{hidden_size}, the "
                "width of the embeddings; change it or model.hidden_size"
            )
        for width, part in zip(self.dimensions, self.parts):
            part.prepare(width)

    def check_labels(self, labels: Tensor | None) -> None:
        """Labels must be what the inner loss takes."""
        self.loss.check_labels(labels)

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The weighted sum over widths."""
        if self.dimensions is None:
            raise RuntimeError("Matryoshka: call prepare(hidden_size) or give loss.dimensions")
        weights = self.weights or [1.0] * len(self.dimensions)
        return torch.stack(
            [
                weight * part(_cut(outputs, width), labels)
                for width, part, weight in zip(self.dimensions, self.parts, weights)
            ]
        ).sum()

    def score(self, outputs: PairOutputs) -> Tensor:
        """(B,) the inner loss's score of the full embeddings."""
        return self.loss.score(outputs)

    def diagnostics(self) -> dict[str, float]:
        """The counters of the first width."""
        return self.parts[0].diagnostics() if len(self.parts) else {}


def _cut(outputs: PairOutputs, width: int) -> PairOutputs:
    """The first `width` dimensions of every embedding."""
    return replace(outputs, **{n: t[..., :width] for n, t in outputs.tensors().items()})
