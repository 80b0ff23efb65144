"""The protocol of matching losses: what a model hands over, what a loss asks for.

A task works with any loss through five members:

* `loss.kind`: which part of `PairOutputs` it reads: "scores" (one number a pair, whatever made it),
  "embeddings" (`left`, `right`, perhaps `negatives`) or "logits" (a cross-encoder head);
* `loss(outputs, labels)`: a scalar to minimise; labels are checked, half precision is upcast;
* `loss.outputs`: how many logits a cross-encoder head must have;
* `loss.score(outputs)`: the (B,) numbers that rank pairs at evaluation;
* `loss.prepare(hidden_size)`: called once before the optimizer is made; builds what the loss
  trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

__all__ = ["Kind", "Loss", "PairOutputs", "check_interaction"]

Kind = Literal["scores", "embeddings", "logits"]

_SERVES: dict[str, tuple[str, ...]] = {
    "scores": ("bi", "late", "cross"),
    "embeddings": ("bi",),
    "logits": ("cross",),
}


@dataclass(frozen=True)
class PairOutputs:
    """What a model says about B pairs; each field may be missing.

    Attributes:
        left, right: (B, H) embeddings of the two texts (bi-encoder).
        negatives: (B, K, H) embeddings of K hard negatives of each left text.
        scores: (B,) similarities within -1..1 that are no cosine of embeddings (late interaction).
        logits: (B, C) or (B,) raw output of a cross-encoder head.
    """

    left: Tensor | None = None
    right: Tensor | None = None
    negatives: Tensor | None = None
    scores: Tensor | None = None
    logits: Tensor | None = None

    def similarities(self) -> Tensor:
        """(B,) similarities within -1..1: `scores`, or the cosine of `left` and `right`.

        >>> a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
        >>> round(float(PairOutputs(left=a, right=b).similarities()), 6)
        0.96
        """
        if self.scores is not None:
            return self.scores
        return torch.cosine_similarity(self.embedding("left"), self.embedding("right"), dim=-1)

    def embedding(self, name: str) -> Tensor:
        """The embeddings of this name; a clear error where the model gives none."""
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise ValueError(
                f"the loss reads {name} embeddings and the model gives none; "
                "use model.interaction=bi or a loss for logits such as loss=bce"
            )
        return value

    def logit(self) -> Tensor:
        """(B,) the single logit of a cross-encoder with one output."""
        if self.logits is None or self.logits.numel() != self.logits.shape[0]:
            shape = None if self.logits is None else tuple(self.logits.shape)
            raise ValueError(f"the loss reads one logit a pair, logits of shape {shape} were given")
        return self.logits.reshape(-1)

    def rows(self) -> int:
        """B, the number of pairs."""
        return next(t.shape[0] for t in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are there, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def full_precision(self) -> PairOutputs:
        """The same with float16 and bfloat16 tensors upcast to float32."""
        half = (torch.float16, torch.bfloat16)
        found = {k: v.float() for k, v in self.tensors().items() if v.dtype in half}
        return replace(self, **found) if found else self

    @staticmethod
    def cat(parts: Sequence[PairOutputs]) -> PairOutputs:
        """The rows of several outputs with the same fields as one."""
        names = parts[0].tensors()
        return PairOutputs(**{n: torch.cat([part.tensors()[n] for part in parts]) for n in names})


class Loss(nn.Module):
    """Base of all matching losses; a subclass writes `compute` and states what it reads.

    Attributes:
        kind: the part of `PairOutputs` that is read (see the module).
        data: which rows it learns from, any of "binary", "graded", "classes", "positives",
            "triplets", "unsupervised", "teacher".
        twins: the task must encode every text twice and give the two as `left` and `right`; labels
            are not read.

    In-batch losses gather over ranks while `self.training` is True, so that every rank must call
    them equally often in training; under `eval()` they see the local rows only.
    """

    kind: Kind = "scores"
    data: ClassVar[tuple[str, ...]] = ()
    twins: bool = False
    outputs: int = 1

    def prepare(self, hidden_size: int) -> None:
        """Build the parameters of the loss for embeddings of width `hidden_size`, if it has any."""

    def check_labels(self, labels: Tensor | None) -> None:
        """Raise a ValueError that names the first label this loss cannot use.

        A task may call it once on all training labels. Each batch is checked too where the labels
        lie on the host; on an accelerator that would stop the stream at every step.
        """

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The loss of float32 or float64 outputs with autocast off; written by the subclass."""
        raise NotImplementedError

    def forward(self, outputs: PairOutputs, labels: Tensor | None = None) -> Tensor:
        """The scalar loss of B pairs; `labels` (B,) or None where the loss uses none."""
        if self.twins:
            labels = None
        if labels is None or labels.device.type == "cpu":
            self.check_labels(labels)
        first = next(iter(outputs.tensors().values()))
        if labels is not None and labels.shape[:1] != first.shape[:1]:
            raise ValueError(f"labels of shape {tuple(labels.shape)} for {len(first)} pairs")
        with torch.autocast(device_type=first.device.type, enabled=False):
            return self.compute(outputs.full_precision(), labels)

    def score(self, outputs: PairOutputs) -> Tensor:
        """(B,) float32 or float64 numbers that rank pairs at evaluation, larger = more alike."""
        outputs = outputs.full_precision()
        return outputs.similarities() if outputs.logits is None else outputs.logit()

    def compact(self, outputs: PairOutputs) -> PairOutputs:
        """The least that the loss needs of `outputs`; kept for all rows by two-pass training."""
        if self.kind != "scores" or outputs.logits is not None:
            return outputs
        return PairOutputs(scores=outputs.full_precision().similarities())

    def diagnostics(self) -> dict[str, float]:
        """Counters of the training so far, for the log."""
        return {}


def check_interaction(loss: Loss, interaction: str) -> None:
    """Raise a ValueError where a model of this interaction cannot feed the loss.

    Args:
        loss: any matching loss.
        interaction: "bi" (two embeddings), "late" (scores) or "cross" (logits).

    >>> from kexue_pl.losses import InfoNCE
    >>> check_interaction(InfoNCE(), "bi")
    >>> check_interaction(InfoNCE(), "cross")
    Traceback (most recent call last):
    ...
    ValueError: loss InfoNCE reads embeddings, which model.interaction=cross does not give; it works
    with model.interaction=bi; every interaction works with loss=cosent
    """
    serves = _SERVES[loss.kind]
    if interaction not in serves:
        raise ValueError(
            f"loss {type(loss).__name__} reads {loss.kind}, which model.interaction={interaction} "
            f"does not give; it works with model.interaction={'|'.join(serves)}; "
            "every interaction works with loss=cosent"
        )
