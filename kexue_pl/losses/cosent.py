"""CoSENT: rank all pairs of a batch by their labels (kexue.fm/archives/8847, 8860)."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from kexue_pl.distributed import rank
from kexue_pl.losses.base import Kind, Loss, PairOutputs
from kexue_pl.losses.gather import joint, times_world_size
from kexue_pl.losses.kernels import KERNELS, Kernel, choose, log_kernel
from kexue_pl.losses.labels import check_ordered, present

__all__ = ["CoSENT", "cosent_loss"]

_LOG = logging.getLogger(__name__)
_LIMIT = 1e6  # of a cross-encoder's logit: an infinite score has no gradient


class _KnownGradient(torch.autograd.Function):
    """A loss whose forward pass yields its gradient, so that backward is one product."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor, kernel: Kernel) -> Tensor:
        loss, gradient = kernel(scores, labels)
        ctx.save_for_backward(scores, labels, gradient)
        return loss

    @staticmethod
    def backward(ctx: FunctionCtx, *upstream: Tensor) -> tuple[Tensor, None, None]:
        scores, labels, gradient = ctx.saved_tensors  # type: ignore[attr-defined]
        if torch.is_grad_enabled():
            # A second derivative is wanted (gradient penalties): redo it differentiably.
            gradient = log_kernel(scores, labels)[1]
        return upstream[0] * gradient, None, None


def cosent_loss(scores: Tensor, labels: Tensor, *, kernel: str = "auto") -> Tensor:
    r"""Rank pairs by label: log of one plus a sum over comparable pairs, one scalar a batch.

        L = log(1 + sum over (i, j) with y_i > y_j of exp(s_j - s_i))

    i has the larger label, so its score should be larger. Pairs of equal label contribute nothing;
    a batch of one label value has loss 0 and gradient 0.

    Source: kexue.fm/archives/8847 and 8860. Cost O(B log B) time and O(B) memory.

    Args:
        scores: s (B,), already scaled; float16 and bfloat16 are computed in float32.
        labels: y (B,), any ordered values: 0/1, grades, real numbers; only their order counts.
        kernel: "auto", "sum" (scores within -300..300) or "log" (any scores); see `kernels`.

    Returns:
        The loss, 0-dimensional, twice differentiable by `scores`.

    Raises:
        ValueError: shapes differ, a label is NaN, or `kernel` is unknown.

    >>> s, y = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0, 1, 1])
    >>> round(float(cosent_loss(s, y)), 5)  # log(1 + e^1 + e^0.5)
    1.68027
    """
    if scores.ndim != 1 or scores.shape != labels.shape:
        shapes = f"{tuple(scores.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"cosent_loss: scores and labels must be (B,), got shapes {shapes}")
    if kernel != "auto" and kernel not in KERNELS:
        raise ValueError(
            f"cosent_loss: kernel={kernel!r}; choose one of auto, {', '.join(KERNELS)}"
        )
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if labels.device.type == "cpu":
        check_ordered(labels, "cosent_loss")
    return _ranking_loss(scores, labels, kernel)


def _ranking_loss(scores: Tensor, labels: Tensor, kernel: str) -> Tensor:
    """`cosent_loss` of arguments that were checked."""
    if scores.numel() == 0:
        return scores.sum()
    if labels.dtype == torch.bool:
        labels = labels.to(torch.uint8)
    name = choose(scores) if kernel == "auto" else kernel
    loss: Tensor = _KnownGradient.apply(scores, labels, KERNELS[name])  # type: ignore[no-untyped-call]
    return loss


class CoSENT(Loss):
    """CoSENT over scaled similarities, or over the raw logits of a cross-encoder.

        L = log(1 + sum over (i, j) with y_i > y_j of exp(scale (cos_j - cos_i)))

    Over several ranks the loss is that of the joint batch, exactly: scores and labels are gathered,
    8 bytes a pair, and shards may be uneven. Batches of one label value teach nothing and are
    counted.

    Source: kexue.fm/archives/8847 and 8860; a cross-encoder's logit is taken unscaled, as there.

    Args:
        scale: multiplies similarities within -1..1; 20 in the article, 5 is robust for models
            trained from scratch; tune it together with the learning rate.
        gather: joint batch over all ranks; False takes each rank's batch alone, which is another
            loss.
        kernel: see `cosent_loss`.
    """

    kind: Kind = "scores"
    data: ClassVar[tuple[str, ...]] = ("binary", "graded")

    def __init__(self, scale: float = 20.0, *, gather: bool = True, kernel: str = "auto") -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"loss.scale={scale}: must be positive; 20 in the article")
        if kernel != "auto" and kernel not in KERNELS:
            raise ValueError(f"loss.kernel={kernel!r}; choose one of auto, {', '.join(KERNELS)}")
        self.scale, self.gather, self.kernel = scale, gather, kernel
        self._counts = {"batches": 0, "single_label_batches": 0}

    def check_labels(self, labels: Tensor | None) -> None:
        """Labels must be there and finite."""
        check_ordered(labels, type(self).__name__)

    def scaled(self, outputs: PairOutputs) -> Tensor:
        """(B,) the scores that the ranking loss compares."""
        if outputs.logits is not None:
            return outputs.logit().clamp(-_LIMIT, _LIMIT)
        return self.scale * outputs.similarities()

    def compute(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The ranking loss of the joint batch."""
        scores, labels = self.scaled(outputs), present(labels, type(self).__name__)
        gather = self.gather and self.training
        if gather:
            scores, labels = joint(scores), joint(labels)
        loss = _ranking_loss(scores, labels, self.kernel)
        if self.training and labels.device.type == "cpu" and labels.numel():
            self._count(loss.item(), labels)
        return times_world_size(loss) if gather else loss

    def _count(self, loss: float, labels: Tensor) -> None:
        """Count training batches of one label value; said aloud at 1, 10, 100, ..."""
        self._counts["batches"] += 1
        if loss == 0 and bool((labels == labels[0]).all()):
            self._counts["single_label_batches"] += 1
            n = self._counts["single_label_batches"]
            if rank() == 0 and n in (1, 10, 100, 1_000, 10_000, 100_000):
                _LOG.warning(
                    "%s: %d of %d batches had one label value only and taught nothing; set "
                    "data.stratify=true, or loss=info_nce where all pairs are positive",
                    type(self).__name__, n, self._counts["batches"],
                )  # fmt: skip

    def diagnostics(self) -> dict[str, float]:
        """Training batches of one label value so far (counted where labels lie on the host)."""
        return {"single_label_batches": float(self._counts["single_label_batches"])}
